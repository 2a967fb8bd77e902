"""What lies where in the wheel: the tree as it is in the repository, below the one name that is installed."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TREE = (
    "cli", "runs", "orchestration", "pipelines", "steps", "components",
    "configs", "infra/kubernetes/base", "infra/stacks", "zenml.yaml", "constraints.txt",
)  # fmt: skip


class WheelHook(BuildHookInterface[Any]):
    """Puts ``TREE`` into ``styleforge/``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; ``version`` is ``standard``, or ``editable``, where the repository itself is on the path."""
        if version != "editable":
            build_data["force_include"].update({name: f"styleforge/{name}" for name in TREE})
