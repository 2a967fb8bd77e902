"""Step: choose a checkpoint of the training and a guidance scale, by pictures of the selection bank."""

import logging
import time
from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import SamplingSection, ScoringSection, SelectionSection
from components.core.paths import write_json
from steps.evaluation.reference import style_ref_of
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import resumable, scratch
from steps.training.selection_bank import SelectionBank

_logger = logging.getLogger(__name__)


@step(environment=code_of(__file__))
def select(
    model: Folder, style_set: Folder, seed: int, base: dict[str, Any], concepts: list[dict[str, Any]], tokens: list[str],
    sampling: dict[str, Any], bank: str, scoring: dict[str, Any], weights: dict[str, Any], selection: dict[str, Any],
) -> Annotated[Folder, "chosen"]:  # fmt: skip
    """Draw the selection bank with each candidate and guidance, score it to StyleRef, and give the chosen model.

    ``sampling`` is the run's with the selection's bank, ``bank`` that bank's digest, ``weights`` digests of the extractors' files.
    Its card holds the chosen guidance, ``training/selection/`` what was compared. The reference is never looked at.
    """
    from components.diffusion.export.candidates import read_candidates, take_candidate
    from components.diffusion.models.bundle import load_bundle
    from components.evaluation.selection import CLIP_T, Point
    from components.evaluation.selection_record import Drawn, search, write_selection

    started = time.monotonic()
    settings, rules = SamplingSection(**sampling), SelectionSection(**selection)
    work = resumable("select", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    by = SelectionBank(style_set, seed, base, concepts, tokens, settings, bank, ScoringSection(**scoring), rules)
    folders = read_candidates(model.path)
    loaded: dict[int, Any] = {}

    def draw(at: Point) -> Path:
        if at.step not in loaded:
            loaded.clear()  # One model in memory at a time.
            loaded[at.step] = load_bundle(str(folders[at.step]))
        return by.draw(loaded[at.step], at, work / str(at))

    out, formula = scratch("select"), settings.guidance_formula
    steps = list(folders) if "checkpoint" in rules.choose else list(folders)[-1:]
    guided = "guidance" in rules.choose
    guidances = [float(settings.guidance or 1.0), *(rules.guidances if guided else ())]
    own = formula.style_guidance if formula else None
    style_guidances = [] if own is None else [own, *(rules.style_guidances if guided else ())]
    if len(steps) == len(guidances) == 1 and len(style_guidances) < 2:
        only = Point(steps[0], guidances[0], own)
        return Folder(take_candidate(model.path, only.step, out, only.as_json()))
    judge = by.judge()
    rule = by.rule(judge.baseline["value"])
    found = search(
        steps, guidances, style_guidances, rule, lambda at: Drawn(folder := draw(at), judge.option(at, folder, rule))
    )  # fmt: skip
    chosen = found.chosen
    scales = f"{chosen.guidance:g}" if chosen.style_guidance is None else f"{chosen.guidance:g}, {chosen.style_guidance:g} of the style"
    _logger.info("chose the checkpoint of step %d of %d, guidance %s", chosen.step, steps[-1], scales)
    take_candidate(model.path, chosen.step, out, chosen.as_json())
    reference_n = len(style_ref_of(style_set).paths)
    record = {"bank": settings.bank, "prompts": len(by.requests), "reference_n": reference_n, "base": {CLIP_T: judge.baseline}}
    write_selection(out / "training" / "selection", found, rule, record)
    write_json(out / "training" / "selection" / "timing.json", {"seconds": round(time.monotonic() - started, 3)})
    return Folder(out)
