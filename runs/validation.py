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
from runs.plan import effective_aux, plan_run


def validate_style(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Check all that a run checks before it trains.

    Returns:
        ``status`` (``completed`` or ``refused``), ``counts``, ``rules``, ``page``, the path of the page that shows them, and
        ``memory``, what the run takes of the GPU (None where none is known).

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
                manifest = scan_style(style, aux, style_set)
                if problems.found:
                    problems.found += manifest.unusable(config.style.source)
        problems.raise_all()
        assert plan is not None
        out = state("validation") / manifest.digest[:16]
        verdict = validate_style_set(style_set, **plan["validate"], out=out)
    outcome = "completed" if verdict.passed else "refused"
    return {"status": outcome, **verdict.as_json(), "page": str(out / "validation.html"), "memory": memory and memory.sentence()}


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
