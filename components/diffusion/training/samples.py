"""Samples and their order: StyleRef and Aux mixed in one batch, each sample with its own weight.

Nothing here has a state: what step ``k`` sees is a function of the seed and the position, so a resumed run takes up exactly
where it was. Several processes divide one batch among them: what a sample is drawn with depends on its place in the whole
batch, not on the process that it falls to, so every process draws something else, and together they draw what one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from components.core.content import derive_seed, digest_file
from components.core.errors import InputError
from components.core.paths import read_json, read_jsonl
from components.diffusion.training.methods import Concept, Method, fill_prompt
from components.diffusion.training.variety import Variant, Variety


@dataclass(frozen=True)
class Words:
    """What a picture is called in one step: its ``prompt``, and what losses compare that with.

    ``unstyled`` is the class prompt, the same without the style; ``preserved`` the prompt under which the base's prediction is to
    stay; ``against`` what a guided loss leads away from.
    """

    prompt: str
    unstyled: str = ""
    preserved: str = ""
    against: str = ""


@dataclass(frozen=True)
class Sample:
    """One training picture: its content id (sha256), its file, its prompt, and its weight in the loss.

    ``templates`` are what it may be called, the first of which ``prompt`` is made of (none: it is called that alone), and ``caption`` what
    goes into them; ``class_template`` leaves the style out. ``negative`` are its token and the one that a guided loss leads away from.
    """

    id: str
    file: Path
    prompt: str
    weight: float
    templates: tuple[str, ...] = ()
    caption: str | None = None
    class_template: str = ""
    negative: tuple[str, str] | None = None

    def words(self, template: int = 0, named: float = 0.0, *, captioned: bool = True, transform: str | None = None) -> Words:
        """Its prompts by one of its templates, with or without its caption, and with what was done to the picture.

        What is preserved is chosen by ``named``, in [0, 1): the class prompt, or the caption alone where there is one.
        """
        caption = (self.caption or "").strip() if captioned else ""
        done = f" with the {transform.replace('-', ' ')} transformation" if transform else ""
        prompt = fill_prompt(self.templates[template], caption) if self.templates else self.prompt
        unstyled = fill_prompt(self.class_template, caption)
        preserved = caption if caption and named >= 0.5 else unstyled
        against = prompt.replace(*self.negative) + done if self.negative else ""
        return Words(prompt + done, unstyled + done, preserved + done, against)

    def all_words(self, transforms: Sequence[str] = (), *, captionless: bool = False) -> Iterator[Words]:
        """Everything that :meth:`words` may say."""
        for template in range(max(len(self.templates), 1)):
            for captioned in (True, False) if captionless else (True,):
                for transform in (None, *transforms):
                    for named in (0.0, 0.5):
                        yield self.words(template, named, captioned=captioned, transform=transform)


@dataclass(frozen=True)
class Batch:
    """One process' N samples of a micro-batch: the first ``instances`` are StyleRef, the others Aux.

    ``weights`` has shape (N,): weight / group size, so that the weighted sum of losses is mean(StyleRef) + λ · mean(Aux).
    """

    samples: tuple[Sample, ...]
    variants: tuple[Variant, ...]
    words: tuple[Words, ...]
    weights: torch.Tensor
    instances: int

    @property
    def prompts(self) -> tuple[str, ...]:
        """Each sample's own prompt."""
        return tuple(words.prompt for words in self.words)


def step_generator(seed: int, purpose: str, number: int) -> torch.Generator:
    """A generator for one purpose in one micro-batch, from which every process draws for all of it; on the CPU, the same everywhere."""
    # The last number was a process' rank once; 0 keeps the streams of earlier trainings.
    return torch.Generator().manual_seed(derive_seed(seed, purpose, number, 0))


class EpochOrder:
    """Endless shuffled passes over ``size`` items, every pass in an order of its own; any position can be asked for."""

    def __init__(self, size: int, seed: int, name: str) -> None:
        self._size, self._seed, self._name = size, seed, name
        self._cached: tuple[int, list[int]] = (-1, [])

    def at(self, position: int) -> int:
        """The item at a position counted from the start of training."""
        epoch, offset = divmod(position, self._size)
        if self._cached[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", self._name, epoch))
            self._cached = (epoch, torch.randperm(self._size, generator=generator).tolist())
        return self._cached[1][offset]


# Each with a generator of its own, so that what came later moves nothing of the first.
_STREAMS = {"augment": 3, "unstyled": 1, "template": 1, "captionless": 1, "transform": 2}


class Mixer:
    """Mixes StyleRef samples, at least one, and Aux samples into batches.

    Batch sizes are of each process. This process is ``rank`` of ``world`` that divide each micro-batch: ``rows`` are the places of its
    samples in the whole micro-batch of ``total`` samples, which holds the StyleRef samples of all processes and then their Aux
    samples: ``counts`` of them.
    """

    def __init__(
        self, instances: Sequence[Sample], aux: Sequence[Sample], *, batch_size: int, aux_batch_size: int, variety: Variety, seed: int,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self._groups = [(instances, batch_size, EpochOrder(len(instances), seed, "instance"))]
        if aux:
            self._groups.append((aux, aux_batch_size, EpochOrder(len(aux), seed, "aux")))
        self.variety, self._seed, self._rank, self._world = variety, seed, rank, world
        self.counts = [world * count for _, count, _ in self._groups]
        self.rows: list[int] = []
        self.total = 0
        for _, count, _ in self._groups:
            self.rows += range(self.total + rank * count, self.total + (rank + 1) * count)
            self.total += world * count

    @property
    def size(self) -> int:
        """Samples of this process a micro-batch."""
        return len(self.rows)

    def batch(self, number: int) -> Batch:
        """This process' part of micro-batch ``number`` (counted over the whole training)."""
        samples: list[Sample] = []
        weights: list[float] = []
        for group, count, order in self._groups:
            start = (number * self._world + self._rank) * count
            chosen = [group[order.at(start + offset)] for offset in range(count)]
            samples += chosen
            weights += [sample.weight / count for sample in chosen]
        instances = self._groups[0][1]
        draws = [row for purpose, count in _STREAMS.items() for row in self._draw(purpose, number, count)]
        seen = [self._see(sample, place < instances, *rest) for place, (sample, *rest) in enumerate(zip(samples, *draws, strict=True))]
        variants, words = zip(*seen, strict=True)
        return Batch(tuple(samples), variants, words, torch.tensor(weights), instances)

    def _draw(self, purpose: str, number: int, count: int) -> list[list[float]]:
        """So many numbers in [0, 1) for each of this process' samples, drawn for the whole micro-batch."""
        draws = torch.rand((count, self.total), generator=step_generator(self._seed, purpose, number))
        found: list[list[float]] = draws[:, self.rows].tolist()
        return found

    def _see(
        self, sample: Sample, is_instance: bool, flip: float, crop: float, drop: float, named: float, template: float, bare: float,
        happens: float, which: float,
    ) -> tuple[Variant, Words]:  # fmt: skip
        """A sample's view and its words, by numbers in [0, 1) for each thing that may differ."""
        variety, transform = self.variety, None
        if is_instance and variety.transforms and happens < variety.transformed:
            transform = variety.transforms[int(which * len(variety.transforms))]
        variant = Variant(min(int(crop * variety.crops), variety.crops - 1), flip < variety.flip, transform)
        chosen = int(template * max(len(sample.templates), 1))
        words = sample.words(chosen, named, captioned=bare >= variety.captionless, transform=transform)
        return variant, replace(words, prompt="", unstyled="") if drop < variety.dropout else words


@dataclass(frozen=True)
class TrainingSet:
    """Everything a fine-tuning sees: StyleRef and Aux samples, validation samples, and where they came from."""

    instances: tuple[Sample, ...]
    aux: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    held_out: bool

    def prompts(self, method: Method | None = None, variety: Variety | None = None) -> list[str]:
        """All prompts, each once; with those that only the method's losses ask with, and with what may be said of a picture."""
        variety = variety or Variety()
        found = [sample.prompt for sample in (*self.instances, *self.aux, *self.validation)]
        groups = ((self.instances, variety.transforms), ((*self.aux, *self.validation), ()))
        words = [
            each for samples, transforms in groups for sample in samples
            for each in sample.all_words(transforms, captionless=variety.captionless > 0)
        ]  # fmt: skip
        found += [each.prompt for each in words]
        if method and method.leaves_style_out:
            found += [prompt for each in words for prompt in (each.unstyled, each.preserved)]
        if method and method.loss.name == "guided":
            found += [each.against for each in words]
        return list(dict.fromkeys(found if variety.dropout == 0 else [*found, ""]))

    def as_json(self, method: Method, variety: Variety) -> list[list[Any]]:
        """What a training depends on: of each sample its picture, its weight, and what it may be called."""
        found = []
        for sample in (*self.instances, *self.aux):
            # What came later is written where it is used: checkpoints of earlier versions hold.
            more: dict[str, Any] = {}
            if len(sample.templates) > 1 or variety.captionless:
                more["templates"], more["caption"] = sample.templates, sample.caption
            if method.leaves_style_out:
                more["class"], more["caption"] = sample.class_template, sample.caption
            if method.loss.name == "guided" and sample.negative:
                more["negative"] = sample.negative
            found.append([sample.id, sample.prompt, sample.weight, *([more] if more else [])])
        return found


def read_training_set(style_set: Path, split: Path, aux: Path, method: Method, *, validation: int = 16, seed: int = 0) -> TrainingSet:
    """Gather the samples of a run from the folders of its steps; an ``aux`` without rows means that nothing preserves.

    Aux rows that name a ``concept`` (its token) belong to that concept alone, others to every concept. There are at most
    ``validation`` validation pictures: held-out ones, or StyleRef where there are none. InputError where a folder is incomplete,
    or no StyleRef picture is left for a concept.
    """
    manifest = {row["path"]: row for row in read_jsonl(_found(style_set / "manifest.jsonl"))}
    rows = read_json(_found(split / "split.json"))
    used = choose_style_refs(rows["style_ref"], method, seed)
    instances: list[Sample] = []
    aux_samples: list[Sample] = []
    for concept in method.concepts:
        bound = [row for row in used if row.get("role") in concept.roles]
        if not bound:
            wanted = " or ".join(sorted(str(role) for role in concept.roles if role))
            raise InputError(
                str(split), f"no StyleRef picture for the token {concept.token!r}", expected=f"at least one of a {wanted}",
                remedy="give more pictures, or name their roles in metadata.jsonl",
            )  # fmt: skip
        instances += [_style_sample(style_set, manifest, row["path"], concept, split) for row in bound]
        if method.prior_weight:
            aux_samples += _aux_samples(aux, concept, method.prior_weight)
    reference = [] if rows.get("reference_is_style_ref") else sorted(rows.get("reference", []))
    spread = [reference[index * len(reference) // validation] for index in range(validation)] if len(reference) > validation else reference
    held_out = [_style_sample(style_set, manifest, path, method.concepts[0], split) for path in spread]
    return TrainingSet(tuple(instances), tuple(aux_samples), tuple(held_out or instances[:validation]), bool(held_out))


def choose_style_refs(rows: Sequence[dict[str, Any]], method: Method, seed: int) -> list[dict[str, Any]]:
    """The StyleRef rows that a method uses, in their own order; InputError where there are too few.

    Where it uses only so many, they are drawn from the seed, from each role in turn, so that they stay mixed as evenly as
    the pictures allow.
    """
    allowed = [row for row in rows if row.get("role") in method.content]
    if method.count is None:
        return allowed
    if len(allowed) < method.count:
        raise InputError("method.style_ref_count", f"{method.count} requested, {len(allowed)} available", expected="at most as many")
    by_role: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(allowed, key=lambda row: derive_seed(seed, "style_ref", row["path"])):
        by_role.setdefault(str(row.get("role")), []).append(row)
    turns = sorted((place, role) for role, group in by_role.items() for place in range(len(group)))
    chosen = {by_role[role][place]["path"] for place, role in turns[: method.count]}
    return [row for row in allowed if row["path"] in chosen]


def _found(file: Path) -> Path:
    if not file.is_file():
        raise InputError(str(file), "no such file", expected="the folder that the earlier step wrote")
    return file


def _style_sample(style_set: Path, manifest: dict[str | None, dict[str, str | None]], path: str, concept: Concept, split: Path) -> Sample:
    if path not in manifest:
        raise InputError(str(split), f"names {path}, which the manifest does not hold", expected="the split of this very style set")
    row = manifest[path]
    caption, templates = row.get("caption"), (concept.prompt, *concept.more_prompts)
    negative = (concept.token, concept.negative) if concept.negative else None
    return Sample(
        str(row["sha256"]), Path(style_set) / "images" / path, fill_prompt(concept.prompt, caption), 1.0, templates, caption,
        concept.aux_prompt, negative,
    )  # fmt: skip


def _aux_samples(aux: Path, concept: Concept, weight: float) -> list[Sample]:
    if not (Path(aux) / "metadata.jsonl").is_file():
        return []
    found = []
    for row in read_jsonl(Path(aux) / "metadata.jsonl"):
        if row.get("concept") not in (None, concept.token):
            continue
        file = Path(aux) / str(row["file_name"])
        if not file.is_file():
            raise InputError(str(file), "the Aux picture is listed but missing", expected="every picture of metadata.jsonl")
        text = row.get("text")
        template = concept.aux_prompt
        found.append(Sample(digest_file(file), file, fill_prompt(template, text), weight, (template,), text, template))
    return found
