"""Step: check the style set against rules; a failed hard rule stops the run before anything trains."""

import logging
import shutil
from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.paths import atomic_folder, state
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch

_logger = logging.getLogger(__name__)


@step(environment=code_of(__file__))
def validate(
    style_set: Folder, minimum_side: int, needs_roles: bool, captioned: bool = False, rights: dict[str, Any] | None = None,
    least_style_ref: int = 0,
) -> Annotated[Folder, "validation"]:  # fmt: skip
    """Check the style set against the rules; ``minimum_side`` is the training resolution in pixels, ``captioned`` that a model captions.

    ``rights`` is that section of the configuration if it requires any licences, ``least_style_ref`` the number of StyleRef images that
    the section `selection` needs.

    Raises:
        GateRefused: a hard rule failed; the error lists every file at fault with the reason.
    """
    from components.styledata.validation import validate_style_set

    out = scratch("validate")
    verdict = validate_style_set(
        style_set.path, minimum_side=minimum_side, needs_roles=needs_roles, captioned=captioned, out=out, rights=rights,
        least_style_ref=least_style_ref,
    )  # fmt: skip
    # A failed step stores no artifact, so keep the page that shows the pictures at fault elsewhere.
    verdict.raise_if_failed(None if verdict.passed else keep(out, style_set.digest) / "validation.html")
    for warning in verdict.warnings:
        _logger.warning("%s", warning)
    return Folder(out)


def keep(folder: Path, digest: str) -> Path:
    """Copy a refused validation to where ``styleforge validate`` keeps its own; return the copy."""
    target = state("validation") / digest[:16]
    with atomic_folder(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
    return target
