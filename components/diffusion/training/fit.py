"""Whether what a configuration asks for goes with the base's family: known before anything is downloaded or loaded."""

import logging

from components.core.config import RunConfig
from components.core.errors import ConfigError
from components.diffusion.models.layouts import TEXT_WAYS
from components.diffusion.models.sources import BaseFacts
from components.diffusion.objectives.schedulers import FLOW
from components.diffusion.training.methods import METHODS, Method

_logger = logging.getLogger(__name__)


def check_fit(config: RunConfig, method: Method, facts: BaseFacts) -> None:
    """Refuse (ConfigError) a method, a sampler, a law of times or a size that the base's family does not have."""
    layout = facts.layout
    sizes = {
        "training.resolution": config.training.resolution, "sampling.height": config.sampling.height,
        "sampling.width": config.sampling.width,
    }  # fmt: skip
    for field, size in sizes.items():
        if size and size % facts.step:
            raise ConfigError(f"{field}={size}", f"does not go with {layout.title}", expected=f"a multiple of {facts.step} pixels")
    if layout.is_distilled(config.base.model, facts.denoiser, facts.index):
        remedy = f"; train on {layout.undistilled} instead" if layout.undistilled else ""
        _logger.warning("base.model=%s is distilled: training undoes that, and pictures of few steps blur%s", config.base.model, remedy)
    for field in ("train_text_encoder", "identifier_rows"):
        if getattr(config.method, field) and not layout.ways & TEXT_WAYS:
            raise ConfigError(f"method.{field}", f"{layout.title} keeps its text encoder, a language model, as it is", expected="false")
    # What was not asked for by name is left out, see Trainables.
    if odd := sorted(method.trains - layout.ways - (frozenset() if layout.ways & TEXT_WAYS else TEXT_WAYS)):
        fitting = [name for name, row in METHODS.items() if row.trains <= layout.ways]
        raise ConfigError(
            f"method.name={method.name}", f"trains {odd[0]}, which {layout.title} does not have", expected=f"one of {', '.join(fitting)}"
        )
    name = config.sampling.scheduler
    if name is not None and name not in layout.schedulers:
        raise ConfigError(
            f"sampling.scheduler={name}", f"does not go with {layout.title}", expected=f"one of {', '.join(layout.schedulers)}"
        )
    if layout.schedulers is FLOW:
        return
    training = config.training
    if training.loss_weighting != "none":
        raise ConfigError(
            f"training.loss_weighting={training.loss_weighting}", f"is for flow bases, which {layout.title} is not",
            expected="none, or training.min_snr_gamma",
        )  # fmt: skip
    for field, times in (("times", training.times), ("aux_times", training.aux_times)):
        if times is not None and times.shift == "dynamic":
            raise ConfigError(
                f"training.{field}.shift=dynamic", f"is for flow bases, which {layout.title} is not", expected="a number, or none"
            )


def check_machine(config: RunConfig) -> None:
    """Refuse (ConfigError) an optimizer or a precision that this machine, which is to train, does not have."""
    from components.core.devices import default_device
    from components.diffusion.models.precision import settle
    from components.diffusion.training.optimizers import check_optimizer

    check_optimizer(config.training)
    settle(config.base.precision, default_device())
