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
    from components.evaluation.selection import CLIP_T, Judge, Rule
    from components.evaluation.selection_record import Drawn, search, write_selection
    from steps.sampling.requests import bank_requests

    started = time.monotonic()
    settings, rules = SamplingSection(**sampling), SelectionSection(**selection)
    work = resumable("select", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    styled = bank_requests(settings.bank, settings.limit, settings.style_template, concepts)
    folders = read_candidates(model.path)
    loaded: dict[int, Any] = {}

    def draw(at: int, guidance: float) -> Path:
        if at not in loaded:
            loaded.clear()  # One model in memory at a time.
            loaded[at] = load_bundle(str(folders[at]))
        return sampler.sample_bank(
            loaded[at], styled, settings.model_copy(update={"guidance": guidance}), seed, work / f"step-{at:08d}-g{guidance:g}"
        )

    out, default = scratch("select"), float(settings.guidance or 1.0)
    steps = list(folders) if "checkpoint" in rules.choose else list(folders)[-1:]
    guidances = [default, *(rules.guidances if "guidance" in rules.choose else ())]
    if len(steps) == len(guidances) == 1:
        return Folder(take_candidate(model.path, steps[0], out, {"step": steps[0], "guidance": default}))
    style_ref = style_ref_of(style_set)
    names = [rules.score, *(limit.metric for limit in rules.limits)]
    judge = Judge(style_ref, _base_pictures(base, settings, seed, bank), ScoringSection(**scoring), seed, tokens, names)
    floor = (1 - rules.clip_t_margin) * judge.baseline["value"]
    rule = Rule(rules.score, [Limit(metric=CLIP_T, at_least=floor), *rules.limits], rules.confidence)
    found = search(
        steps, guidances, rule,
        lambda at, guidance: Drawn(at, guidance, folder := draw(at, guidance), judge.option(at, guidance, folder, rule)),
    )  # fmt: skip
    _logger.info("chose the checkpoint of step %d of %d, guidance %g", found.step, steps[-1], found.guidance)
    take_candidate(model.path, found.step, out, {"step": found.step, "guidance": found.guidance})
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
