"""Step: choose a checkpoint of the training and a guidance scale, by pictures of the selection bank."""

import logging
import time
from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import Limit, SamplingSection, ScoringSection, SelectionSection
from components.core.content import digest_value
from components.core.paths import state, write_json
from steps.evaluation.reference import style_ref_of
from steps.io.artifacts import Folder
from steps.io.base_model import load_base
from steps.io.caching import code_of
from steps.io.workspace import resumable, scratch

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
    from components.diffusion.sampling import sampler
    from components.evaluation.selection import CLIP_T, Judge, Point, Rule
    from components.evaluation.selection_record import Drawn, search, write_selection
    from steps.sampling.requests import bank_requests

    started = time.monotonic()
    settings, rules = SamplingSection(**sampling), SelectionSection(**selection)
    work = resumable("select", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    styled = bank_requests(settings.bank, settings.limit, settings.style_template, concepts)
    folders = read_candidates(model.path)
    loaded: dict[int, Any] = {}

    def draw(at: Point) -> Path:
        if at.step not in loaded:
            loaded.clear()  # One model in memory at a time.
            loaded[at.step] = load_bundle(str(folders[at.step]))
        scales = settings.guided_by(at.guidance, at.style_guidance)
        return sampler.sample_bank(loaded[at.step], styled, scales, seed, work / str(at))

    out, formula = scratch("select"), settings.guidance_formula
    steps = list(folders) if "checkpoint" in rules.choose else list(folders)[-1:]
    guided = "guidance" in rules.choose
    guidances = [float(settings.guidance or 1.0), *(rules.guidances if guided else ())]
    own = formula.style_guidance if formula else None
    style_guidances = [] if own is None else [own, *(rules.style_guidances if guided else ())]
    if len(steps) == len(guidances) == 1 and len(style_guidances) < 2:
        only = Point(steps[0], guidances[0], own)
        return Folder(take_candidate(model.path, only.step, out, only.as_json()))
    style_ref = style_ref_of(style_set)
    names = [rules.score, *(limit.metric for limit in rules.limits)]
    judge = Judge(style_ref, _base_pictures(base, settings, seed, bank), ScoringSection(**scoring), seed, tokens, names)
    floor = (1 - rules.clip_t_margin) * judge.baseline["value"]
    rule = Rule(rules.score, [Limit(metric=CLIP_T, at_least=floor), *rules.limits], rules.confidence)
    found = search(
        steps, guidances, style_guidances, rule, lambda at: Drawn(folder := draw(at), judge.option(at, folder, rule))
    )  # fmt: skip
    chosen = found.chosen
    scales = f"{chosen.guidance:g}" if chosen.style_guidance is None else f"{chosen.guidance:g}, {chosen.style_guidance:g} of the style"
    _logger.info("chose the checkpoint of step %d of %d, guidance %s", chosen.step, steps[-1], scales)
    take_candidate(model.path, chosen.step, out, chosen.as_json())
    record = {"bank": settings.bank, "prompts": len(styled), "reference_n": len(style_ref.paths), "base": {CLIP_T: judge.baseline}}
    write_selection(out / "training" / "selection", found, rule, record)
    write_json(out / "training" / "selection" / "timing.json", {"seconds": round(time.monotonic() - started, 3)})
    return Folder(out)


def _base_pictures(base: dict[str, Any], settings: SamplingSection, seed: int, bank: str) -> Path:
    """The bank drawn with the base, which all styles share: kept under the home by what it depends on."""
    from filelock import FileLock

    from components.diffusion.sampling import sampler
    from steps.sampling.requests import bank_requests

    plain = settings.without_style().model_copy(update={"style_template": SamplingSection().style_template})
    place = state("cache", "selection") / digest_value([base["digest"], base["precision"], seed, plain.model_dump(mode="json"), bank])[:24]
    with FileLock(place.with_suffix(".lock")):
        # Nothing is loaded where the pictures are there.
        if (place / "done").is_file():
            return place
        requests = bank_requests(plain.bank, plain.limit, plain.plain_template)
        sampler.sample_bank(load_base(base), requests, plain, seed, place)
        (place / "done").touch()
    return place
