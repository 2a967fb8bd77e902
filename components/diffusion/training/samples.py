"""Samples and their order: StyleRef and Aux mixed in one batch, each sample with its own weight.

Nothing here has a state: what step ``k`` sees is a function of the seed and the position, so a resumed run takes up exactly
where it was. Several processes divide one batch among them: what a sample is drawn with depends on its place in the whole
batch, not on the process that it falls to, so every process draws something else, and together they draw what one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from components.core.content import derive_seed, digest_file
from components.core.errors import InputError
from components.core.paths import read_json, read_jsonl
from components.diffusion.training.methods import Concept, Method, fill_prompt
from components.diffusion.training.pictures import Variant


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

    ``unstyled`` are prompts for the same picture without the style: the class prompt, and the plain caption where there is one.
    ``against`` is the prompt that a guided loss leads away from.
    """

    id: str
    file: Path
    prompt: str
    weight: float
    unstyled: tuple[str, ...] = ("",)
    against: str = ""

    @property
    def words(self) -> Words:
        """Its prompts as they are, without dropout."""
        return Words(self.prompt, self.unstyled[0], self.unstyled[0], self.against)


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


class Mixer:
    """Mixes StyleRef samples, at least one, and Aux samples into batches.

    Batch sizes are of each process. ``flip`` is the probability of a mirrored view, ``crops`` the number of crop views of a
    picture, ``dropout`` the probability of an empty prompt. This process is ``rank`` of ``world`` that divide each micro-batch:
    ``rows`` are the places of its samples in the whole micro-batch of ``total`` samples, which holds the StyleRef samples of
    all processes and then their Aux samples: ``counts`` of them.
    """

    def __init__(
        self, instances: Sequence[Sample], aux: Sequence[Sample], *, batch_size: int, aux_batch_size: int, flip: float, crops: int,
        dropout: float, seed: int, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self._groups = [(instances, batch_size, EpochOrder(len(instances), seed, "instance"))]
        if aux:
            self._groups.append((aux, aux_batch_size, EpochOrder(len(aux), seed, "aux")))
        self._flip, self._crops, self._dropout = flip, crops, dropout
        self._seed, self._rank, self._world = seed, rank, world
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
        draws = torch.rand((3, self.total), generator=step_generator(self._seed, "augment", number))
        flips, crops, drops = draws[:, self.rows].tolist()
        variants = tuple(
            Variant(min(int(crop * self._crops), self._crops - 1), flip < self._flip) for crop, flip in zip(crops, flips, strict=True)
        )
        named = torch.rand(self.total, generator=step_generator(self._seed, "unstyled", number))[self.rows].tolist()
        words = tuple(
            self._words(sample, drop < self._dropout, name) for sample, drop, name in zip(samples, drops, named, strict=True)
        )  # fmt: skip
        return Batch(tuple(samples), variants, words, torch.tensor(weights), self._groups[0][1])

    def _words(self, sample: Sample, dropped: bool, named: float) -> Words:
        preserved = sample.unstyled[int(named * len(sample.unstyled))]
        return Words("", "", preserved, sample.against) if dropped else replace(sample.words, preserved=preserved)


@dataclass(frozen=True)
class TrainingSet:
    """Everything a fine-tuning sees: StyleRef and Aux samples, validation samples, and where they came from."""

    instances: tuple[Sample, ...]
    aux: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    held_out: bool

    def prompts(self, method: Method | None = None) -> list[str]:
        """All prompts, each once; with those that only the method's losses ask with, where one is given."""
        samples = (*self.instances, *self.aux, *self.validation)
        found = [sample.prompt for sample in samples]
        if method and method.leaves_style_out:
            found += [prompt for sample in samples for prompt in sample.unstyled]
        if method and method.loss.name == "guided":
            found += [sample.against for sample in samples]
        return list(dict.fromkeys(found))

    def as_json(self, method: Method) -> list[list[Any]]:
        """What a training depends on: of each sample its picture, its weight, and the prompts that the method's losses ask with."""
        found = []
        for sample in (*self.instances, *self.aux):
            found.append([sample.id, sample.prompt, sample.weight])
            # What came later is written where it is used: checkpoints of earlier versions hold.
            if method.leaves_style_out:
                found[-1].append(list(sample.unstyled))
            if method.loss.name == "guided":
                found[-1].append(sample.against)
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
    caption = row.get("caption")
    prompt = fill_prompt(concept.prompt, caption)
    against = prompt.replace(concept.token, concept.negative) if concept.negative else ""
    return Sample(str(row["sha256"]), Path(style_set) / "images" / path, prompt, 1.0, _unstyled(concept, caption), against)


def _unstyled(concept: Concept, caption: str | None) -> tuple[str, ...]:
    plain = [caption.strip()] if caption and caption.strip() else []
    return fill_prompt(concept.aux_prompt, caption), *plain


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
        found.append(Sample(digest_file(file), file, fill_prompt(concept.aux_prompt, text), weight, _unstyled(concept, text)))
    return found
