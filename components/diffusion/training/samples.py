"""Samples and their order: StyleRef and Aux mixed in one batch, each sample with its own weight.

Nothing here has state: what step ``k`` sees is a function of the seed and the position, so a resumed run continues exactly
where it stopped. Several processes divide one batch among themselves: the random draws of a sample depend on its place in the
whole batch, not on its process, so every process draws something different, and together they draw what one process would.
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
    """The prompts of a picture in one step: its own ``prompt``, and those that losses compare it with.

    ``unstyled`` is the class prompt, the same without the style; ``preserved`` is the prompt for which the base's prediction is to
    be preserved; ``against`` is the one that a guided loss leads away from.
    """

    prompt: str
    unstyled: str = ""
    preserved: str = ""
    against: str = ""


@dataclass(frozen=True)
class Sample:
    """One training picture: its content id (sha256), its file, its prompt, and its weight in the loss.

    ``templates`` are the prompt templates that it may get; ``prompt`` is made from the first (none: it is always ``prompt``). ``caption``
    fills them; ``class_template`` leaves the style out. ``negative`` holds its token and the token that a guided loss leads away from.
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
        """Its prompts made from one of its templates, with or without its caption, naming the ``transform`` of the picture.

        ``named``, in [0, 1), selects the preserved prompt: from 0.5 the caption alone, where there is one, else the class prompt.
        """
        caption = (self.caption or "").strip() if captioned else ""
        done = f" with the {transform.replace('-', ' ')} transformation" if transform else ""
        prompt = fill_prompt(self.templates[template], caption) if self.templates else self.prompt
        unstyled = fill_prompt(self.class_template, caption)
        preserved = caption if caption and named >= 0.5 else unstyled
        against = prompt.replace(*self.negative) + done if self.negative else ""
        return Words(prompt + done, unstyled + done, preserved + done, against)

    def all_words(self, transforms: Sequence[str] = (), *, captionless: bool = False) -> Iterator[Words]:
        """Everything that :meth:`words` may return."""
        for template in range(max(len(self.templates), 1)):
            for captioned in (True, False) if captionless else (True,):
                for transform in (None, *transforms):
                    for named in (0.0, 0.5):
                        yield self.words(template, named, captioned=captioned, transform=transform)


@dataclass(frozen=True)
class Batch:
    """One process's N samples of a micro-batch: the first ``instances`` are StyleRef, the others Aux.

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
    """A CPU generator for one purpose in one micro-batch; every process draws the whole micro-batch from it, so the draws are the same."""
    # The last number used to be a process's rank; 0 keeps the random streams of earlier trainings.
    return torch.Generator().manual_seed(derive_seed(seed, purpose, number, 0))


class EpochOrder:
    """Endless shuffled passes over ``size`` items, each in its own order, with random access to any position."""

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


# Each has its own generator, so that streams added later leave the earlier ones unchanged.
_STREAMS = {"augment": 3, "unstyled": 1, "template": 1, "captionless": 1, "transform": 2}


class Mixer:
    """Mixes StyleRef samples (at least one) and Aux samples into batches.

    Batch sizes are per process. This process is number ``rank`` of the ``world`` processes that divide each micro-batch. The whole
    micro-batch has ``total`` samples: the StyleRef samples of all processes, then their Aux samples, ``counts`` of each. ``rows`` are
    the places of this process's samples in it.
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
        """Number of this process's samples in a micro-batch."""
        return len(self.rows)

    def batch(self, number: int) -> Batch:
        """This process's part of micro-batch ``number`` (counted over the whole training)."""
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
        """``count`` numbers in [0, 1) for each of this process's samples, drawn for the whole micro-batch."""
        draws = torch.rand((count, self.total), generator=step_generator(self._seed, purpose, number))
        found: list[list[float]] = draws[:, self.rows].tolist()
        return found

    def _see(
        self, sample: Sample, is_instance: bool, flip: float, crop: float, drop: float, named: float, template: float, bare: float,
        happens: float, which: float,
    ) -> tuple[Variant, Words]:  # fmt: skip
        """A sample's view and prompts, each variation chosen by a number in [0, 1)."""
        variety, transform = self.variety, None
        if is_instance and variety.transforms and happens < variety.transformed:
            transform = variety.transforms[int(which * len(variety.transforms))]
        variant = Variant(min(int(crop * variety.crops), variety.crops - 1), flip < variety.flip, transform)
        chosen = int(template * max(len(sample.templates), 1))
        words = sample.words(chosen, named, captioned=bare >= variety.captionless, transform=transform)
        return variant, replace(words, prompt="", unstyled="") if drop < variety.dropout else words


@dataclass(frozen=True)
class TrainingSet:
    """Everything that fine-tuning sees: StyleRef, Aux and validation samples, and whether the last are ``held_out`` pictures."""

    instances: tuple[Sample, ...]
    aux: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    held_out: bool

    def prompts(self, method: Method | None = None, variety: Variety | None = None) -> list[str]:
        """All prompts that may occur, each once: those of the samples and their variations, and those that only the method's losses use."""
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
        """What a training depends on, as a JSON value: each sample's picture, its weight, and the prompts it may get."""
        found = []
        for sample in (*self.instances, *self.aux):
            # Later additions are written only where they are used, so that checkpoints of earlier versions stay valid.
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
    """Gather the samples of a run from the folders of its steps; an ``aux`` without rows gives no Aux samples.

    Aux rows that name a ``concept`` (its token) belong to that concept alone, others to every concept. There are at most
    ``validation`` validation pictures: held-out ones, or StyleRef pictures if there are none. InputError if a folder is incomplete
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
                str(split), f"no StyleRef image for the token {concept.token!r}", expected=f"at least one of a {wanted}",
                remedy="give more images, or name their roles in metadata.jsonl",
            )  # fmt: skip
        instances += [_style_sample(style_set, manifest, row["path"], concept, split) for row in bound]
        if method.prior_weight:
            aux_samples += _aux_samples(aux, concept, method.prior_weight)
    reference = [] if rows.get("reference_is_style_ref") else sorted(rows.get("reference", []))
    spread = [reference[index * len(reference) // validation] for index in range(validation)] if len(reference) > validation else reference
    held_out = [_style_sample(style_set, manifest, path, method.concepts[0], split) for path in spread]
    return TrainingSet(tuple(instances), tuple(aux_samples), tuple(held_out or instances[:validation]), bool(held_out))


def choose_style_refs(rows: Sequence[dict[str, Any]], method: Method, seed: int) -> list[dict[str, Any]]:
    """The StyleRef rows that a method uses, in their original order; InputError if there are too few.

    If the method uses only ``count`` of them, they are drawn by the seed, from each role in turn, so that the roles stay as balanced
    as the pictures allow.
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
        raise InputError(str(split), f"names {path}, which is not in the manifest", expected="the split of this very style set")
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
            raise InputError(str(file), "the Aux image is listed but missing", expected="every image in metadata.jsonl")
        text = row.get("text")
        template = concept.aux_prompt
        found.append(Sample(digest_file(file), file, fill_prompt(template, text), weight, (template,), text, template))
    return found
