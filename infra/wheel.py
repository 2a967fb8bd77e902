"""Lays out the wheel: the tree as it is in the repository, under the single installed name."""

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
        """Add the tree, when hatchling calls this; an ``editable`` ``version`` needs none, since the repository itself is on the path."""
        if version != "editable":
            build_data["force_include"].update({name: f"styleforge/{name}" for name in TREE})
