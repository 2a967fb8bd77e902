"""Step: the gate in front of everything that costs time."""

from __future__ import annotations

import logging
from typing import Annotated

from zenml import step

from steps.artifacts import Folder
from steps.caching import cache_policy
from steps.workspace import scratch

_logger = logging.getLogger(__name__)


@step(cache_policy=cache_policy(__file__))
def validate(style_set: Folder, minimum_side: int, needs_roles: bool) -> Annotated[Folder, "validation"]:
    """Check the style set against the rules; a failed hard rule stops the run.

    Args:
        style_set: of ``scan``.
        minimum_side: the base's resolution, in pixels.
        needs_roles: whether the method binds people and backgrounds apart.

    Raises:
        GateRefused: listing every file at fault with its reason.
    """
    from components.styledata.validation import validate_style_set

    out = scratch("validate")
    verdict = validate_style_set(style_set.path, minimum_side=minimum_side, needs_roles=needs_roles, out=out)
    verdict.raise_if_failed()
    for warning in verdict.warnings:
        _logger.warning("%s", warning)
    return Folder(out)
