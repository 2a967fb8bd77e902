"""Checks whether a run fits a GPU, before weights are fetched or a pod is started."""

import logging
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.captioning.sources import locate_captioner
from components.core.config import RunConfig
from components.core.errors import InputError, StyleForgeError
from components.core.gpus import GpuMemory, gigabytes
from components.core.hub import fetch
from components.core.model_ref import local_model
from components.diffusion.models.sources import base_configuration
from components.diffusion.planning.advice import Change, smallest_change
from components.diffusion.planning.plan_cache import KeptPlans
from components.diffusion.planning.records import MemoryPlan
from components.diffusion.planning.settings import settings_of
from components.evaluation.prompts import load_bank

_logger = logging.getLogger(__name__)
USUAL_PICTURES = 20
"""Number of StyleRef pictures assumed for a set that is not on this machine; the papers use 15–20."""


@dataclass(frozen=True)
class MemoryVerdict:
    """A run's memory plan and, for a known GPU, whether it fits and which ``change`` would make it fit (None: not needed or not known)."""

    plan: MemoryPlan
    gpu: GpuMemory | None = None
    change: Change | None = None

    @property
    def fits(self) -> bool | None:
        """Whether the run fits; None if no GPU is known."""
        return None if self.gpu is None else self.plan.peak.total <= self.gpu.usable

    def sentence(self) -> str:
        """Return the verdict as a sentence."""
        peak = f"at most {gigabytes(self.plan.peak.total)} ({self.plan.peak.name})"
        if self.gpu is None:
            return peak
        return f"{peak}: {'fits' if self.fits else 'does not fit'} {self.gpu.name}, {gigabytes(self.gpu.usable)} of which are usable"

    def remedy(self) -> str:
        """Say what would make the run fit."""
        if self.change is None:
            return "use a GPU with more memory, or a smaller base: no known change of settings makes it fit"
        return f"with {self.change.options()} it takes {gigabytes(self.change.plan.peak.total)}"

    def refusal(self) -> InputError:
        """Return the error for a run that does not fit."""
        assert self.gpu is not None
        peak = self.plan.peak
        return InputError(
            f"GPU {self.gpu.name}", f"the run does not fit: its step `{peak.name}` takes {gigabytes(peak.total)}",
            expected=f"at most {gigabytes(self.gpu.usable)}", remedy=self.remedy(),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON, with sizes in bytes."""
        gpu = None if self.gpu is None else {"name": self.gpu.name, "bytes": self.gpu.size, "usable": self.gpu.usable}
        change = None if self.change is None else {"settings": self.change.settings, "bytes": self.change.plan.peak.total}
        return {**self.plan.as_json(), "gpu": gpu, "fits": self.fits, "change": change}


def judge_memory(config: RunConfig, gpu: GpuMemory | None) -> MemoryVerdict:
    """Plan the memory of a run and compare it with a GPU; of a hub model, only text files are fetched.

    Raises:
        InputError: the base, its configuration, the extractor, the captioner or the bank is not there or cannot be read, or they do not
            go with the method.
        ServiceUnreachable: the hub does not answer.
    """
    extractor, revision, field = config.scoring.extractor, config.scoring.extractor_revision, "scoring.extractor"
    clip = local_model(extractor, field) or fetch(extractor, revision, ["config.json"], field)
    captions = config.captions
    captioner = locate_captioner(captions.model, captions.revision, weights=False) if captions.model else None
    plans = KeptPlans(base_configuration(config.base.model, config.base.revision), clip, captioner)
    pictures, bank = _style_refs(config), len(load_bank(config.sampling.bank, config.sampling.limit))

    def plan(changed: RunConfig) -> MemoryPlan:
        return plans(settings_of(changed, style_refs=pictures, bank=bank, size=gpu.size if gpu else None))

    found = plan(config)
    if gpu is None or found.peak.total <= gpu.usable:
        return MemoryVerdict(found, gpu)
    return MemoryVerdict(found, gpu, smallest_change(config, plan, gpu.usable))


def check_fits(config: RunConfig, gpu: GpuMemory | None) -> MemoryVerdict | None:
    """Refuse (InputError) a run that does not fit the GPU; return the verdict, or None if no GPU is known or planning failed."""
    if gpu is None:
        return None
    try:
        verdict = judge_memory(config, gpu)
    except StyleForgeError:
        raise
    except Exception as error:
        # A model's code may do something that is impossible without real memory; that breaks the plan, but not the run.
        _logger.warning("the run's memory could not be planned (%s: %s)", type(error).__name__, error)
        return None
    if not verdict.fits:
        raise verdict.refusal()
    return verdict


def _style_refs(config: RunConfig) -> int:
    """Return ``method.style_ref_count``, or else the number of image files in a local set; ``USUAL_PICTURES`` if the set is not local."""
    folder = Path(config.style.source).expanduser()
    folder = folder / "style_ref" if (folder / "style_ref").is_dir() else folder
    if "://" in config.style.source or not folder.is_dir():
        return USUAL_PICTURES
    found = sum((mimetypes.guess_type(path.name)[0] or "").startswith("image/") for path in folder.rglob("*"))
    return config.method.style_ref_count or found or USUAL_PICTURES
