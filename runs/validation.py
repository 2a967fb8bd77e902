"""Checks a configuration and its style set without training, and reports all problems at once."""

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
"""Largest side, in pixels, at which a base can draw a set's captions on a CPU within seconds."""


def validate_style(path: Path, overrides: Sequence[str] = (), *, draw: bool | None = None) -> dict[str, Any]:
    """Run all the checks that a run makes before it trains.

    ``draw`` says whether to load the base and examine the set with pictures that it draws; None: only if that takes seconds.

    Returns:
        ``status`` (``completed`` or ``refused``), ``counts``, ``rules``, ``page`` (the path of the page that shows them), ``memory``
        (how much GPU memory the run needs; None if no GPU is known) and ``examination`` (the content of the file of that name, with
        its ``page``; None if `examine.enabled` is off or the rules already refuse the set).

    Raises:
        InputError: lists every problem of the configuration, of what it names, and of the set.
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
        # The plan has already reported these as missing; do not report them again.
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
    """Examine the set and write the result beside the validation in ``out``."""
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
    """Load the configuration without its invalid fields; their error is added to ``problems``."""
    try:
        return load_config(path, overrides)
    except ConfigError as error:
        if not isinstance(error.usable, RunConfig):
            raise
        problems.found.append(error)
        return error.usable


@contextlib.contextmanager
def all_problems(path: Path, overrides: Sequence[str]) -> Any:
    """If the block raises InputError, validate the configuration and its set, so that the error raised lists all their problems."""
    try:
        yield
    except InputError:
        with contextlib.suppress(ServiceUnreachable):
            validate_style(path, overrides)
        raise
