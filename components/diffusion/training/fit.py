"""Check that a configuration fits the base's family and the machine, before anything is downloaded or loaded."""

import logging
from collections.abc import Iterator

from components.core.config import MethodSection, RunConfig, TrainingSection
from components.core.errors import ConfigError, Problems
from components.diffusion.models.layouts import ALIGNED, TEXT_WAYS, Layout
from components.diffusion.models.sources import BaseFacts
from components.diffusion.objectives.schedulers import FLOW
from components.diffusion.training.method_table import METHODS
from components.diffusion.training.methods import Method

_logger = logging.getLogger(__name__)


def check_fit(config: RunConfig, method: Method, facts: BaseFacts) -> None:
    """Refuse (ConfigError) methods, samplers, time distributions and sizes that the base's family lacks; reports all problems at once."""
    layout, problems = facts.layout, Problems()
    if layout.is_distilled(config.base.model, facts.denoiser, facts.index, facts.scheduler):
        remedy = f"; train on {layout.undistilled} instead" if layout.undistilled else ""
        _logger.warning("base.model=%s is distilled: training undoes that, and few-step images blur%s", config.base.model, remedy)
    if layout.schedulers is FLOW and config.training.min_snr_gamma is not None:
        _logger.warning(
            "training.min_snr_gamma: on a flow base high noise levels, which decide the style, then hardly count; set it to null"
        )
    problems.found += [*_wrong_sizes(config, facts), *_wrong_method(config.method, method, layout)]
    formula = config.sampling.guidance_formula or method.guidance
    with problems.collect():
        layout.check_formula(formula, facts.denoiser)
    if formula and config.selection.guidances and not formula.scaled:
        unused = "there is nothing to choose: sampling.guidance_formula does not use sampling.guidance"
        problems.found.append(ConfigError("selection.guidances", unused, expected="a term with scale: guidance, or no guidances"))
    if config.selection.style_guidances and not (formula and formula.splits):
        unused = "there is nothing to choose: this method's guidance has no separate style scale"
        expected = "a method that has one (split-styleforge), or no style_guidances"
        problems.found.append(ConfigError("selection.style_guidances", unused, expected=expected))
    name = config.sampling.scheduler
    if name is not None and name not in layout.schedulers:
        problems.found.append(
            ConfigError(f"sampling.scheduler={name}", f"does not suit {layout.title}", expected=f"one of {', '.join(layout.schedulers)}")
        )
    if config.training.optimizer == "prodigy" and method.recipe.rates:
        names = ", ".join(name for name, _ in method.recipe.rates)
        problems.found.append(
            ConfigError(
                "training.optimizer=prodigy", f"estimates a single rate, but {method.name} scales it for some parts ({names})",
                expected="another optimizer, or method.rate_factors of 1 for these",
            )
        )  # fmt: skip
    if layout.schedulers is not FLOW:
        problems.found += _only_for_flows(config.training, layout.title)
    problems.raise_all()


def _wrong_sizes(config: RunConfig, facts: BaseFacts) -> Iterator[ConfigError]:
    side, training, sampling = facts.side, config.training, config.sampling
    asked = {
        f"training.resolution={training.resolution}": (training.resolution or side,) * 2,
        f"sampling.height={sampling.height}": (sampling.height or side, side),
        f"sampling.width={sampling.width}": (side, sampling.width or side),
    }  # fmt: skip
    for field, size in asked.items():
        if size != (side, side) and (expected := facts.layout.fitting(size, facts.denoiser, facts.vae)):
            yield ConfigError(field, f"does not suit {facts.layout.title}", expected=expected)


def _wrong_method(section: MethodSection, method: Method, layout: Layout) -> Iterator[ConfigError]:
    reads_by_language_model = not layout.ways & TEXT_WAYS
    for field in ("train_text_encoder", "identifier_rows"):
        if getattr(section, field) and reads_by_language_model:
            yield ConfigError(f"method.{field}", f"the text encoder of {layout.title}, a language model, stays frozen", expected="false")
    # Text-encoder training that is only the method's default is left out instead, see Trainables.
    if odd := sorted(layout.lacks(method.trains)):
        fitting = [name for name, row in METHODS.items() if not layout.lacks(row.trains)]
        does = "needs" if odd[0] == ALIGNED else "trains"
        yield ConfigError(
            f"method.name={method.name}", f"{does} {odd[0]}, which {layout.title} does not have", expected=f"one of {', '.join(fitting)}"
        )


def _only_for_flows(training: TrainingSection, title: str) -> Iterator[ConfigError]:
    if training.loss_weighting != "none":
        yield ConfigError(
            f"training.loss_weighting={training.loss_weighting}", f"is for flow bases, which {title} is not",
            expected="none, or training.min_snr_gamma",
        )  # fmt: skip
    for field, times in (("times", training.times), ("aux_times", training.aux_times)):
        if times is not None and times.shift == "dynamic":
            yield ConfigError(f"training.{field}.shift=dynamic", f"is for flow bases, which {title} is not", expected="a number, or none")


def check_machine(config: RunConfig) -> None:
    """Refuse (ConfigError) an optimizer, a precision or a compilation that this machine cannot train with."""
    # A fully cached run takes seconds, and importing torch alone takes one: skipped for settings that work on every machine.
    if config.training.optimizer != "adamw":
        from components.diffusion.training.optimizers import check_optimizer

        check_optimizer(config.training)
    if config.training.compile:
        from components.core.devices import can_compile, default_device

        if not can_compile(default_device()):
            raise ConfigError(
                "training.compile=true", "needs a C++ compiler on the CPU", remedy="install g++, name another in CXX, or set it to false"
            )
    if set(config.base.precision.model_dump().values()) != {"auto"}:
        from components.core.devices import default_device
        from components.diffusion.models.precision import settle

        settle(config.base.precision, default_device())
