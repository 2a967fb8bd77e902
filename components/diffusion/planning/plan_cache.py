"""A disk cache of memory plans: making one takes seconds and imports torch; reading one does neither."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from components.core.content import digest_value
from components.core.fingerprint import fingerprint
from components.core.paths import read_json, state, write_json
from components.diffusion.planning.records import MemoryPlan
from components.diffusion.planning.settings import MemorySettings

LIBRARIES = ("torch", "diffusers", "transformers", "peft")
"""Libraries that determine shapes, besides our own code."""
_READ = ("config.json", "model_index.json", "scheduler_config.json", "tokenizer_config.json")


class KeptPlans:
    """Plans by the folders of :class:`components.diffusion.planning.memory.Planner`, each made once and kept on disk."""

    def __init__(self, base: Path, extractor: Path | None, captioner: Path | None = None) -> None:
        self._folders = base, extractor, captioner
        texts = [path for folder in self._folders if folder for path in sorted(folder.rglob("*.json")) if path.name in _READ]
        code = fingerprint(Path(__file__).resolve().parents[1])
        versions = [importlib.metadata.version(name) for name in LIBRARIES]
        # By their bytes: which of them cannot be read is the plan's to say.
        self._about = [code, versions, [[path.parent.name, path.name, fingerprint(path)] for path in texts]]
        self._planner: Callable[[MemorySettings], MemoryPlan] | None = None

    def __call__(self, settings: MemorySettings) -> MemoryPlan:
        """The plan for these settings; raises what making it raises."""
        file = state("cache", "plans") / f"{digest_value([self._about, settings.as_json()])[:32]}.json"
        if file.is_file():
            return MemoryPlan.from_json(read_json(file))
        plan = self._make(settings)
        write_json(file, plan.as_json())
        return plan

    def _make(self, settings: MemorySettings) -> MemoryPlan:
        if self._planner is None:
            # Heavy: it imports torch and the networks' libraries.
            from components.diffusion.planning.memory import Planner

            self._planner = Planner(*self._folders).plan
        return self._planner(settings)
