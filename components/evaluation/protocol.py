"""What a model was scored on, kept with its scores, so that another model can be scored in the same way without the style's pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.config import ScoringSection
from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.paths import atomic_folder, read_json, read_jsonl, write_json, write_jsonl
from components.evaluation.features import Extractor, InceptionExtractor, Towers
from components.evaluation.metrics import Array
from components.evaluation.pictures import Picture, read_pictures
from components.evaluation.replicates import VALUES as VALUES
from components.evaluation.replicates import value_arrays, value_replicates
from components.evaluation.scoring import extract, picture_values, score, score_one

SCORES = "scores.json"
PROTOCOL = "protocol.json"
BANK = "bank.jsonl"
REFERENCE = "reference.safetensors"
_SAME = (
    "extractor_id", "fid_kid_id", "resize", "fid_kid_resize", "picture_format", "kid_subset_size", "kid_subsets", "kid_kernel", "reference",
    "confidence",
)  # fmt: skip
"""Parts of a score's context that must be equal where two scores are compared."""


def score_and_keep(
    out: Path, *, style_pictures: Path, base_pictures: Path, plain_pictures: Path, reference: Sequence[Path], reference_kind: str,
    settings: ScoringSection, seed: int, identifier: str | Sequence[str], digests: Mapping[str, Any],
) -> None:  # fmt: skip
    """Score a style model (see :func:`components.evaluation.scoring.score`), and write its scores with how they came to be.

    Args:
        out: folder that gets ``scores.json`` and what :func:`write_protocol` writes.
        style_pictures, base_pictures, plain_pictures, reference, reference_kind, settings, seed, identifier: as there.
        digests: of what was scored, to be kept in the scores.

    Raises:
        InputError: as there.
    """
    towers = Towers(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
    scores = score(
        style_pictures, base_pictures, plain_pictures, None, reference, settings, seed, identifier, reference_kind=reference_kind,
        towers=towers,
    )  # fmt: skip
    scores["digests"] = {**scores.get("digests", {}), **digests}
    with atomic_folder(out) as folder:
        write_json(folder / SCORES, scores)
        write_protocol(
            folder, pictures=style_pictures, reference=reference, settings=settings, scores=scores, identifier=identifier, towers=towers
        )


def write_protocol(
    folder: Path, *, pictures: Path, reference: Sequence[Path], settings: ScoringSection, scores: Mapping[str, Any],
    identifier: str | Sequence[str], towers: Towers,
) -> None:  # fmt: skip
    """Write how scores came to be.

    ``protocol.json``, the prompts (``bank.jsonl``), the reference's features by extractor (``reference.safetensors``), and the
    values of every picture (``values.safetensors``), which paired comparisons draw on.

    Args:
        folder: an existing folder.
        pictures: folder of the style model's pictures that were scored.
        reference: the pictures of the style; only their features and content hashes are kept.
        settings: the scoring section.
        scores: of :func:`components.evaluation.scoring.score`.
        identifier: the tokens bound to the style.
        towers: the extractor that scored.
    """
    from safetensors.numpy import save_file

    extractors: list[Extractor] = [towers, *_inception(settings)]
    table = extract(list(reference), extractors, settings.batch_size)
    drawn = read_pictures(pictures)
    values = picture_values(pictures, reference, settings, identifier, towers=towers)
    save_file(value_arrays(values), folder / VALUES)
    prompts = {picture.prompt_id: {"id": picture.prompt_id, "category": picture.category, "prompt": picture.prompt} for picture in drawn}
    rows = [prompts[key] for key in sorted(prompts)]
    save_file({f"{index}": table.of(item, reference) for index, item in enumerate(extractors)}, folder / REFERENCE)
    write_jsonl(folder / BANK, rows)
    write_json(folder / PROTOCOL, {
        "same": {
            **{key: scores["context"][key] for key in _SAME}, "bank": digest_value([rows, _repeats(drawn)]),
            "reference_digest": scores["digests"]["reference"],
        },
        "repeats": _repeats(drawn), "seed": scores["context"]["seed"], "scoring": settings.model_dump(mode="json"),
        "pictures": values.prompts,
        "reference": [table.hashes[path] for path in reference], "extractors": [item.id for item in extractors],
    })  # fmt: skip


def read_protocol(folder: Path) -> dict[str, Any]:
    """``protocol.json``; in ``same`` is what two scores must have in common to be compared."""
    return dict(read_json(folder / PROTOCOL))


def read_bank(folder: Path) -> list[dict[str, Any]]:
    """The prompts: ``id``, ``category`` and ``prompt``, the text without identifiers."""
    return read_jsonl(folder / BANK)


def paired_replicates(folder: Path, resamples: int = 2000) -> dict[str, Array]:
    """KID, CLIP-T and CLIP-I, each (B,), on resamples that are the same for every folder whose ``same`` is equal."""
    from safetensors.numpy import load_file

    protocol = read_protocol(folder)
    seed = derive_seed(0, "paired", protocol["same"]["bank"], protocol["same"]["reference_digest"])
    return value_replicates(load_file(folder / VALUES), protocol["pictures"], resamples, seed)


def score_again(
    folder: Path, pictures: Path, identifier: str | Sequence[str], out: Path, *, towers: Towers | None = None
) -> dict[str, Any]:
    """Score another model's pictures of the same prompts as the scores were made that ``folder`` holds.

    Args:
        folder: with the files that :func:`write_protocol` wrote.
        pictures: folder of the other model's pictures.
        identifier: the other model's tokens; CLIP-T is scored against prompts without them.
        out: folder that gets the same files for the other model, and ``scores.json``.
        towers: an extractor that is already loaded; default: made from the protocol's settings.

    Returns:
        ``style`` (kid, fid, clip_t, clip_i) and ``context``, as :func:`components.evaluation.scoring.score` gives them.

    Raises:
        InputError: the extractor here is another than the one of the scores, or pictures cannot be read.
    """
    from safetensors.numpy import load_file, save_file

    protocol = read_protocol(folder)
    settings = ScoringSection(**protocol["scoring"])
    towers = towers or Towers(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
    extractors: list[Extractor] = [towers, *_inception(settings)]
    if [item.id for item in extractors] != protocol["extractors"]:
        raise InputError(
            f"scoring.extractor={settings.extractor}", "is not the network that the scores to compare with were made with",
            expected=", ".join(protocol["extractors"]), remedy="score both models anew with the network that is here",
        )  # fmt: skip
    drawn = read_pictures(pictures)
    table = extract([picture.path for picture in drawn], extractors, settings.batch_size)
    arrays = load_file(folder / REFERENCE)
    # The reference's pictures are not here: names of files that nobody opens stand for them.
    reference = [Path("reference") / digest for digest in protocol["reference"]]
    table.hashes.update(zip(reference, protocol["reference"], strict=True))
    for index, item in enumerate(extractors):
        table.vectors[item.id].update(zip(protocol["reference"], np.asarray(arrays[f"{index}"], np.float32), strict=True))
    inception = next((item for item in extractors if isinstance(item, InceptionExtractor)), None)
    scores, values = score_one(
        drawn, table, reference, settings, protocol["seed"], identifier, towers=towers, inception=inception,
        reference_kind=protocol["same"]["reference"],
    )  # fmt: skip
    with atomic_folder(out) as made:
        save_file(value_arrays(values), made / VALUES)
        for name in (BANK, REFERENCE):
            shutil.copyfile(folder / name, made / name)
        write_json(made / PROTOCOL, {**protocol, "pictures": values.prompts})
        write_json(made / SCORES, scores)
    return scores


def _inception(settings: ScoringSection) -> list[InceptionExtractor]:
    return [InceptionExtractor(settings.inception_weights, batch_size=settings.batch_size)] if settings.inception_weights else []


def _repeats(drawn: Sequence[Picture]) -> int:
    return 1 + max(picture.repeat for picture in drawn)
