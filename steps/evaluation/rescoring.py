"""Gives the registry what it needs for decisions: scoring one model as another was scored, and scores on resamples."""

from pathlib import Path
from typing import Any

from components.core.content import digest_folder, digest_value
from components.core.paths import state
from components.registry import promotion
from components.registry.gate import Replicates
from components.registry.tracking import Tracking
from components.registry.versions import find_version, refusal, verified_folder


def tools(tracking: Tracking) -> promotion.Tools:
    """Bundle the functions of this module for :mod:`components.registry.promotion`, which cannot import them."""
    return promotion.Tools(same_protocol, lambda mine, theirs: rescore(tracking, mine, theirs), replicates)


def same_protocol(mine: Path, theirs: Path) -> bool:
    """Whether two evaluations were made on the same prompts and reference with the same extractors."""
    from components.evaluation.protocol import PROTOCOL, read_protocol

    if not all((folder / PROTOCOL).is_file() for folder in (mine, theirs)):
        return False
    return bool(read_protocol(mine)["same"] == read_protocol(theirs)["same"])


def replicates(evaluation: Path) -> Replicates | None:
    """Return scores on resamples for a paired comparison; None if the values of single pictures were not kept."""
    from components.evaluation.protocol import VALUES, paired_replicates

    return paired_replicates(evaluation) if (evaluation / VALUES).is_file() else None


def rescore(tracking: Tracking, mine: promotion.Scored, theirs: promotion.Scored) -> Path:
    """Let ``theirs``, with its own settings, draw the prompts that ``mine`` was scored on, and score the pictures in the same way.

    Returns:
        The folder of the new evaluation, which is cached for later calls.

    Raises:
        InputError: the extractor on this machine is not the one that ``mine`` was scored with.
        GateRefused: the files of ``theirs`` are missing or were changed, or ``mine`` does not record what it was scored on.
    """
    from components.evaluation.protocol import PROTOCOL, read_protocol, score_again

    version = find_version(tracking, theirs.reference)
    folder = verified_folder(tracking, version)
    if not (mine.evaluation / PROTOCOL).is_file():
        origin = find_version(tracking, mine.reference)
        problem = "has no record of what it was scored on, and the champion was scored differently"
        raise refusal(origin, problem, "a version that this StyleForge registered", "run its configuration again")
    protocol = read_protocol(mine.evaluation)
    out = state("cache", "rescored") / digest_value([digest_folder(folder), protocol["same"], protocol["seed"]])[:24]
    if not (out / "scores.json").is_file():
        pictures, tokens = _draw_bank(folder, mine.evaluation, protocol)
        score_again(mine.evaluation, pictures, tokens, out)
    return out


def _draw_bank(folder: Path, evaluation: Path, protocol: dict[str, Any]) -> tuple[Path, list[str]]:
    """Draw the stored bank with the settings of the model's card; return the pictures' folder and the model's tokens."""
    from components.core.model_card import read_card, sampling_settings
    from components.diffusion.sampling.sampler import sample_bank
    from components.evaluation.prompts import Prompt
    from components.evaluation.protocol import read_bank
    from steps.sampling.requests import requests_for

    card = read_card(folder)
    settings = sampling_settings(card, {"repeats": protocol["repeats"]})
    concepts = card.get("concepts") or [{"token": card.get("identifier", ""), "categories": None}]
    prompts = [Prompt(id=row["id"], category=row["category"], text=row["prompt"]) for row in read_bank(evaluation)]
    requests = requests_for(prompts, settings.style_template, concepts)
    out = state("work", "rescoring") / digest_value([digest_folder(folder), protocol["same"], protocol["seed"]])[:24]
    return sample_bank(folder, requests, settings, protocol["seed"], out), [str(row["token"]) for row in concepts]
