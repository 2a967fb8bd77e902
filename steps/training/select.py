"""Step: choose a checkpoint and a guidance scale, by images of the selection bank (only if `selection` is set)."""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from zenml import step

from components.core.config import SamplingSection, ScoringSection, SelectionSection
from components.core.model_card import models_by_seed
from components.core.paths import read_json, write_json
from steps.evaluation.reference import style_ref_of
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import resumable, scratch
from steps.training.selection_bank import SelectionBank

if TYPE_CHECKING:
    from components.evaluation.selection import Point

_logger = logging.getLogger(__name__)


@step(environment=code_of(__file__))
def select(
    model: Folder, style_set: Folder, seed: int, base: dict[str, Any], concepts: list[dict[str, Any]], tokens: list[str],
    sampling: dict[str, Any], bank: str, scoring: dict[str, Any], weights: dict[str, Any], selection: dict[str, Any],
) -> Annotated[Folder, "chosen"]:  # fmt: skip
    """Draw the selection bank with each candidate and guidance, score it to StyleRef, and give the chosen model.

    ``sampling`` is the run's, but with the selection bank, ``bank`` that bank's digest, ``weights`` digests of the extractors' files.
    The card of the chosen model holds the guidance, ``training/selection/`` what was compared. The reference is never used.
    """
    from components.diffusion.export.candidates import read_candidates, take_candidate
    from components.diffusion.models.bundle import load_bundle
    from components.evaluation.selection import CLIP_T
    from components.evaluation.selection_record import Drawn, search, write_selection

    started = time.monotonic()
    settings, rules = SamplingSection(**sampling), SelectionSection(**selection)
    work = resumable("select", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    by = SelectionBank(style_set, seed, base, concepts, tokens, settings, bank, ScoringSection(**scoring), rules)
    models = models_by_seed(model.path)
    folders = {
        # The seed is part of the key only if there are several training runs.
        (number, trained_with if len(models) > 1 else None): folder
        for trained_with, trained in models.items()
        for number, folder in read_candidates(trained).items()
    }
    last = next(place for place, folder in folders.items() if folder == model.path)
    loaded: dict[Any, Any] = {}

    def draw(at: "Point") -> Path:
        place = at.step, at.seed
        if place not in loaded:
            loaded.clear()  # One model in memory at a time.
            loaded[place] = load_bundle(str(folders[place]))
        return by.draw(loaded[place], at, work / str(at))

    out = scratch("select")
    # In a tie, the earlier step wins and, for the same step, the run's own seed: the sort is stable, and that seed comes first.
    places = sorted(folders, key=lambda place: place[0]) if "checkpoint" in rules.choose else [last]
    default = by.default(*last)
    of_style = () if default.style_guidance is None else rules.style_guidances
    scales = (rules.guidances, of_style) if "guidance" in rules.choose else ((), ())
    if len(places) == 1 and not any(scales):
        return Folder(take_candidate(model.path, default.step, out, default.as_json()))
    judge = by.judge()
    rule = by.rule(judge.baseline["value"])
    result = search(default, places, *scales, rule, lambda at: Drawn(folder := draw(at), judge.option(at, folder, rule)))
    chosen = result.chosen
    _logger.info("chose %s of %d steps", chosen.told(), last[0])
    take_candidate(model.path if chosen.seed is None else models[chosen.seed], chosen.step, out, chosen.as_json())
    if len(models) > 1:
        _add_costs(out, models.values())
    reference_n = len(style_ref_of(style_set).paths)
    record = {"bank": settings.bank, "prompts": len(by.requests), "reference_n": reference_n, "base": {CLIP_T: judge.baseline}}
    write_selection(out / "training" / "selection", result, rule, record)
    write_json(out / "training" / "selection" / "timing.json", {"seconds": round(time.monotonic() - started, 3)})
    return Folder(out)


def _add_costs(chosen: Path, models: Iterable[Path]) -> None:
    """Set the chosen model's training costs to the total of all training runs."""
    costs = [read_json(model / "training" / "timing.json") for model in models]
    timing = chosen / "training" / "timing.json"
    write_json(timing, {**read_json(timing), **{key: sum(cost[key] for cost in costs) for key in ("seconds", "images")}})
