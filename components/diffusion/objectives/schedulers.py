"""Samplers by name for each kind of objective, made from the noise schedule that the base was trained with."""

import inspect
from collections.abc import Mapping
from typing import Any

Samplers = Mapping[str, tuple[str, dict[str, Any]]]
"""Each sampler's class in diffusers, by name, and the options that differ from its defaults."""

DISCRETE: Samplers = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {"set_alpha_to_one": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
FLOW: Samplers = {"euler": ("FlowMatchEulerDiscreteScheduler", {})}
# Options that describe the noise in training and so must be shared; the rest is up to each sampler.
SHARED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "steps_offset",
)


def samplers_for(base: Mapping[str, Any]) -> Samplers:
    """The samplers that fit a base with this scheduler configuration."""
    return FLOW if str(base.get("_class_name", "")).startswith("FlowMatch") else DISCRETE


def make_scheduler(name: str, base: Mapping[str, Any]) -> Any:
    """Make a diffusers scheduler from its name in :func:`samplers_for` and the base's scheduler configuration."""
    import diffusers

    samplers = samplers_for(base)
    kind, options = samplers[name]
    cls = getattr(diffusers, kind)
    if samplers is FLOW:
        return cls.from_config({**base, **options})
    known = inspect.signature(cls.__init__).parameters
    shared = {key: base[key] for key in SHARED if key in base and key in known}
    if base.get("timestep_spacing") == "trailing":
        # Bases with zero terminal SNR choose this on purpose: they must be sampled from the very last timestep.
        shared["timestep_spacing"] = "trailing"
    chosen = {**shared, **options}
    # Latents have no fixed range, so nothing is clipped to one.
    if "clip_sample" in known:
        chosen["clip_sample"] = False
    return cls.from_config(chosen)
