"""Checks a configuration and its style set without training: all that is wrong is said at once."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.core.config import RunConfig, load_config
from components.core.errors import ConfigError, InputError, Problems, ServiceUnreachable
from components.core.gpus import usual_gpu
from components.core.paths import state
from orchestration.environment import prepare_environment
from runs.memory import check_fits
from runs.plan import Plan, effective_aux, plan_run, recorded

SMALL = 256
"""Side in pixels up to which a base draws a set's captions on a CPU in seconds."""


def validate_style(path: Path, overrides: Sequence[str] = (), *, draw: bool | None = None) -> dict[str, Any]:
    """Check all that a run checks before it trains.

    ``draw`` says whether the base is loaded, to examine the set with what it draws; None: where that takes seconds.

    Returns:
        ``status`` (``completed`` or ``refused``), ``counts``, ``rules``, ``page``, the path of the page that shows them,
        ``memory``, what the run takes of the GPU (None where none is known), and ``examination``, as the file of that name
        with its ``page`` (None where `examine.enabled` is off, or the rules refuse the set already).

    Raises:
        InputError: all that is wrong with the configuration, with what it names, and with the set.
        ServiceUnreachable: as at the start of a run.
    """
    prepare_environment()
    problems = Problems()
    config = _usable_config(path, overrides, problems)
    plan = memory = None
    with problems.collect():
        plan = plan_run(config)
        memory = check_fits(config, usual_gpu())
    from components.styledata.manifest import scan_style
    from components.styledata.validation import validate_style_set

    with tempfile.TemporaryDirectory(dir=state("work")) as scratch:
        style_set = Path(scratch) / "style_set"
        # What the plan has found missing need not be looked for again.
        missing = {error.where.partition("=")[0] for error in problems.found}
        with problems.collect():
            if "style.source" not in missing:
                style = config.style.model_copy(update={"reference": None} if "style.reference" in missing else {})
                aux = effective_aux(config).model_copy(update={"source": "none"} if "aux.pool" in missing else {})
                manifest = scan_style(style, aux, style_set, **recorded(config))
                if problems.found:
                    problems.found += manifest.unusable(config.style.source)
        problems.raise_all()
        assert plan is not None
        out = state("validation") / manifest.digest[:16]
        verdict = validate_style_set(style_set, **plan["validate"], out=out)
        examination = _examine(config, plan, style_set, out, draw) if verdict.passed and "examine" in plan else None
    refused = not verdict.passed or (config.examine.hard and examination is not None and bool(examination["warnings"]))
    return {
        "status": "refused" if refused else "completed", **verdict.as_json(), "page": str(out / "validation.html"),
        "memory": memory and memory.sentence(), "examination": examination,
    }  # fmt: skip


def _examine(config: RunConfig, plan: Plan, style_set: Path, out: Path, draw: bool | None) -> dict[str, Any]:
    """The examination, written beside the validation in ``out``."""
    from components.diffusion.models.sources import base_facts
    from components.evaluation.examination import PAGE
    from components.styledata.split import split_style_set
    from steps.data.examine import examine_set
    from steps.io.clip_encoder import encoder_factory

    given = plan["examine"]
    if draw is None:
        draw = usual_gpu() is not None or base_facts(config.base.model, config.base.revision).side <= SMALL
    split = style_set.parent / "split"
    split_style_set(style_set, split, encoder_factory(given["extractor"]))
    asked = {"base": given["base"], "sampling": given["sampling"], "seed": given["seed"]} if draw else {}
    found = examine_set(style_set, split, config.examine, given["extractor"], **asked)
    found.write(out, style_set)
    return {**found.as_json(), "warnings": found.warnings, "page": str(out / PAGE)}


def _usable_config(path: Path, overrides: Sequence[str], problems: Problems) -> RunConfig:
    """The configuration, less the fields at fault."""
    try:
        return load_config(path, overrides)
    except ConfigError as error:
        if not isinstance(error.usable, RunConfig):
            raise
        problems.found.append(error)
        return error.usable


@contextlib.contextmanager
def all_problems(path: Path, overrides: Sequence[str]) -> Any:
    """Where the block finds its configuration wrong, raise what else is wrong with that, and with its set, along with it."""
    try:
        yield
    except InputError:
        with contextlib.suppress(ServiceUnreachable):
            validate_style(path, overrides)
        raise
