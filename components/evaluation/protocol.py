"""The scoring protocol, kept with a model's scores so that another model can be scored in the same way without the style's pictures."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.config import ScoringSection
from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.paths import atomic_folder, read_json, read_jsonl, write_json, write_jsonl
from components.evaluation.extraction import extract
from components.evaluation.features import Extractors
from components.evaluation.metrics import Array
from components.evaluation.pictures import Picture, read_pictures
from components.evaluation.replicates import VALUES as VALUES
from components.evaluation.replicates import replicates
from components.evaluation.scoring import NO_CONCEPTS, NO_STYLE_REF, Scorer, score
from components.evaluation.truth import Concepts
from components.evaluation.yardstick import StyleRef, Yardstick

SCORES = "scores.json"
PROTOCOL = "protocol.json"
BANK = "bank.jsonl"
REFERENCE = "reference.safetensors"
YARDSTICK = "yardstick.safetensors"
_SAME = (
    "extractor_id", "fid_kid_id", "resize", "fid_kid_resize", "picture_format", "kid_subset_size", "kid_subsets", "kid_kernel", "reference",
    "confidence",
)  # fmt: skip
"""Keys of a score's context that must be equal before two scores may be compared."""
_WITHOUT_MEASURES: dict[str, Any] = {"measures": (), "kd_extractor": None}
"""Settings that evaluations from before the optional measures lack, with the values that were in effect."""


def score_and_keep(
    out: Path, folders: Mapping[str, Path], reference: Sequence[Path], *, reference_kind: str, settings: ScoringSection, seed: int,
    tokens: Sequence[str], digests: Mapping[str, Any], style_ref: StyleRef = NO_STYLE_REF, concepts: Concepts = NO_CONCEPTS,
    extractors: Extractors | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score a model (see :func:`components.evaluation.scoring.score`) and write the scores and their protocol into ``out``.

    The files are ``scores.json`` (with ``digests`` added), ``protocol.json``, the prompts, the reference's features by extractor (not its
    pictures), the yardstick, and the per-picture values that paired comparisons need.
    """
    scores, scorer, sets = score(
        folders,
        reference,
        settings,
        seed,
        tokens,
        reference_kind=reference_kind,
        style_ref=style_ref,
        concepts=concepts,
        extractors=extractors,
    )
    scores["digests"] |= digests
    with atomic_folder(out) as folder:
        write_json(folder / SCORES, scores)
        _write_protocol(folder, scores, scorer, sets["style"])
    return scores


def _write_protocol(folder: Path, scores: Mapping[str, Any], scorer: Scorer, drawn: list[Picture]) -> None:
    from safetensors.numpy import save_file

    values, table = scorer.values(drawn), scorer.table
    values.save(folder)
    prompts = {picture.prompt_id: {"id": picture.prompt_id, "category": picture.category, "prompt": picture.prompt} for picture in drawn}
    rows = [prompts[key] for key in sorted(prompts)]
    features = {f"{index}": table.of(item, scorer.reference) for index, item in enumerate(scorer.extractors.all)}
    save_file(features, folder / REFERENCE)
    scorer.yardstick.save(folder / YARDSTICK)
    write_jsonl(folder / BANK, rows)
    write_json(folder / PROTOCOL, {
        "same": {
            **{key: scores["context"][key] for key in _SAME}, "measures": scores["context"].get("measures"),
            "style_ref": scores["digests"].get("style_ref"), "bank": digest_value([rows, _repeats(drawn)]),
            "reference_digest": scores["digests"]["reference"],
        },
        "repeats": _repeats(drawn), "seed": scores["context"]["seed"], "scoring": scorer.settings.model_dump(mode="json"),
        "pictures": values.prompts, "reference": [table.hashes[path] for path in scorer.reference],
        "extractors": [item.id for item in scorer.extractors.all],
    })  # fmt: skip


def read_protocol(folder: Path) -> dict[str, Any]:
    """Read ``protocol.json``; its ``same`` holds what two scores must have in common to be comparable."""
    return dict(read_json(folder / PROTOCOL))


def read_bank(folder: Path) -> list[dict[str, Any]]:
    """Read the prompts: ``id``, ``category`` and ``prompt``, the text without identifier tokens."""
    return read_jsonl(folder / BANK)


def paired_replicates(folder: Path, resamples: int = 2000) -> dict[str, Array]:
    """KID and every score that is a mean over pictures, each (B,), on the same resamples for all folders with equal ``same``."""
    protocol = read_protocol(folder)
    seed = derive_seed(0, "paired", protocol["same"]["bank"], protocol["same"]["reference_digest"])
    return replicates(folder, protocol["pictures"], resamples, seed)


def score_again(folder: Path, pictures: Path, tokens: Sequence[str], out: Path, *, extractors: Extractors | None = None) -> dict[str, Any]:
    """Score another model's pictures as the scores in ``folder`` were made, and write the same files into ``out``.

    ``tokens`` are that model's rare tokens.
    """
    from safetensors.numpy import load_file

    protocol = read_protocol(folder)
    settings = ScoringSection(**{**_WITHOUT_MEASURES, **protocol["scoring"]})
    extractors = extractors or Extractors.load(settings)
    if [item.id for item in extractors.all] != protocol["extractors"]:
        raise InputError(
            f"scoring.extractor={settings.extractor}", "is not the network that computed the scores to compare with",
            expected=", ".join(protocol["extractors"]), remedy="score both models again with this network",
        )  # fmt: skip
    drawn = read_pictures(pictures)
    table = extract([picture.path for picture in drawn], extractors.all, settings.batch_size)
    # The reference's pictures are not available here; paths that are never opened stand in for them.
    reference = [Path("reference") / digest for digest in protocol["reference"]]
    table.hashes.update(zip(reference, protocol["reference"], strict=True))
    arrays = load_file(folder / REFERENCE)
    for index, item in enumerate(extractors.all):
        table.vectors[item.id].update(zip(protocol["reference"], np.asarray(arrays[f"{index}"], np.float32), strict=True))
    yardstick = Yardstick.load(folder / YARDSTICK)
    scorer = Scorer(extractors, table, reference, settings, protocol["seed"], tokens, yardstick)
    scores = {"style": scorer.scores(drawn), "context": scorer.context(protocol["same"]["reference"], {"style": len(drawn)})}
    values = scorer.values(drawn)
    with atomic_folder(out) as made:
        values.save(made)
        for name in (BANK, REFERENCE, YARDSTICK):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        write_json(made / PROTOCOL, {**protocol, "pictures": values.prompts})
        write_json(made / SCORES, scores)
    return scores


def _repeats(drawn: Sequence[Picture]) -> int:
    return 1 + max(picture.repeat for picture in drawn)
