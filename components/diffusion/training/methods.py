"""Fine-tuning methods as data: what is bound, what trains, what preserves the prior. The training loop knows nothing else about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from components.core.config import (
    ConceptSection,
    GuidanceSection,
    LoraSection,
    LossSection,
    MethodSection,
    RunConfig,
    TransformName,
)  # fmt: skip
from components.core.errors import ConfigError
from components.core.suggest import did_you_mean
from components.diffusion.training.method_table import CLASS, DENOISING, INSTANCE, METHODS, Row
from components.diffusion.training.recipe import Recipe

ALL_ROLES: frozenset[str | None] = frozenset({"character", "background", "thing", None})
SHOWN_IN = {
    "character": frozenset({"people", "people in places"}),
    "background": frozenset({"backgrounds", "people in places"}),
    "thing": frozenset({"things"}),
}
"""Categories of the built-in prompt banks that show each role."""
CONTENT: dict[str, frozenset[str | None]] = {
    "both": ALL_ROLES, "people": frozenset({"character"}), "backgrounds": frozenset({"background"}),
}  # fmt: skip
# Two components, as in the Multi-StyleForge paper. Things go with the backgrounds, as a picture of a thing shows no person.
TWO_COMPONENTS = (ConceptSection(identifier="sks", roles=("character",)), ConceptSection(identifier="ukj", roles=("background", "thing")))


@dataclass(frozen=True)
class Concept:
    """A rare token and the StyleRef pictures that it is bound to.

    ``prompt`` and ``aux_prompt`` are templates that may hold ``{caption}``; the token is already filled in. ``more_prompts`` are
    further templates for StyleRef pictures; each step draws one of them all. ``roles`` are the StyleRef roles that belong to the
    concept, ``categories`` the prompt bank's categories that ask for its token (None: all). ``own_aux`` says whether it has its own
    Aux set, of ``aux_count`` pictures in ``aux_form`` (None: as the ``aux`` section says). ``negative`` is a second new token, which
    a guided loss and guidance in drawing lead away from (None: there is none).
    """

    token: str
    prompt: str
    aux_prompt: str
    roles: frozenset[str | None] = ALL_ROLES
    categories: frozenset[str] | None = None
    own_aux: bool = False
    aux_count: int | None = None
    aux_form: str | None = None
    negative: str | None = None
    more_prompts: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What drawing with the model needs: ``token``, ``prompt``, ``categories``, and ``negative`` where there is one."""
        return {
            "token": self.token, "prompt": self.prompt, "categories": None if self.categories is None else sorted(self.categories),
            **({"negative": self.negative} if self.negative else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A fine-tuning method.

    ``recipe`` says what trains, ``preserves`` is the default source of the Aux pictures, and ``prior_weight`` is λ, the weight of the
    prior loss. ``learning_rate`` is the reference's own, used if the configuration names none. ``save`` is ``full`` or ``delta``.
    ``content`` are the roles of StyleRef pictures that are used at all, ``count`` is how many of these (None: all). ``loss`` is that of
    StyleRef pictures; the prior loss is that of Aux pictures or, with ``distills``, distillation of the base's own prediction.
    ``transforms`` of StyleRef pictures, a ``grid`` of times, ``token_rate``, the learning rate of token rows (None: that of the rest),
    and ``guidance``, the formula for drawing (None: classifier-free guidance), are the reference's own, used if the configuration
    names none.
    """

    name: str
    concepts: tuple[Concept, ...]
    recipe: Recipe
    preserves: str
    prior_weight: float
    learning_rate: float
    save: str = "full"
    content: frozenset[str | None] = ALL_ROLES
    count: int | None = None
    loss: LossSection = DENOISING
    distills: bool = False
    guidance: GuidanceSection | None = None
    transforms: tuple[TransformName, ...] = ()
    grid: int | None = None
    token_rate: float | None = None

    @property
    def trains(self) -> frozenset[str]:
        """The ways in which parameters train, see :class:`Recipe`."""
        return self.recipe.trains

    @property
    def aligned(self) -> bool:
        """Whether it trains nothing, and has its pictures drawn in line with a StyleRef picture instead."""
        return not self.trains

    @property
    def tokens(self) -> tuple[str, ...]:
        """The rare tokens, in the order of the concepts."""
        return tuple(concept.token for concept in self.concepts)

    def later_json(self) -> dict[str, Any]:
        """What a training depends on besides name and recipe, as a JSON value; defaults, which the first methods use, are left out."""
        found: dict[str, Any] = {} if self.loss == DENOISING else {"loss": self.loss.model_dump(mode="json")}
        # λ is already in the weights of Aux samples, but distillation needs none of these.
        found |= {"distills": self.prior_weight} if self.distills else {}
        found |= {"transforms": list(self.transforms)} if self.transforms else {}
        return found | ({"grid": self.grid} if self.grid else {})

    def forwards(self, instances: int, aux: int) -> int:
        """Number of pictures' passes through the denoiser in a micro-batch of this size; a backward pass counts as two."""
        style = {"guided": 6, "calibrated": 4, "dco": 4}.get(self.loss.name, 3) * instances
        return style + (4 * (instances + aux) if self.distills else 3 * aux)

    @property
    def asks_base(self) -> bool:
        """Whether a loss compares with the base's own prediction."""
        return self.distills or self.loss.name in ("calibrated", "dco")

    @property
    def leaves_style_out(self) -> bool:
        """Whether a loss uses prompts without the style."""
        return self.distills or self.loss.name == "calibrated"


def method_for(config: MethodSection) -> Method:
    """The method that a run's ``method:`` section describes. ConfigError if a setting does not fit it."""
    row = METHODS[config.name]
    lora = config.lora.model_copy(update={"rank": config.lora.rank or row.rank})
    _check_lora(lora)
    loss = config.loss or row.loss
    _check_loss(loss)
    trains = _trains(config, row)
    negative_vectors = config.negative_vectors or row.negative_vectors
    if negative_vectors:
        _check_negative(config.name, trains, loss)
    concepts = _concepts(config, row, learnt="tokens" in trains, negative=negative_vectors > 0)
    recipe = Recipe(
        trains,
        tokens=tuple(concept.token for concept in concepts) if trains & {"tokens", "identifiers"} else (),
        vectors=config.vectors or row.vectors,
        negatives=tuple(concept.negative for concept in concepts if concept.negative),
        negative_vectors=negative_vectors,
        stages=config.stages or row.stages,
        initial_word=config.initial_word or row.initial_word,
        lora=lora,
        strength=config.strength,
    )
    if config.strength != 1.0 and trains == {"tokens"}:
        raise ConfigError(
            "method.strength",
            f"{config.name} learns only tokens, which the base does not have",
            expected="1, or a method that trains weights",
        )
    recipe = replace(recipe, rates=_rates(config, row, recipe))
    return Method(
        config.name, concepts, recipe, row.preserves, config.prior_weight, row.learning_rate, config.save or row.save,
        CONTENT[config.style_ref], config.style_ref_count if trains else 1, loss,
        distills=(config.prior or row.prior) == "distilled" and config.prior_weight > 0,
        guidance=_guidance(config, row), transforms=row.transforms, grid=row.grid, token_rate=row.token_rate,
    )  # fmt: skip


def with_method(config: RunConfig) -> tuple[RunConfig, Method]:
    """The configuration, with the method's guidance formula unless it names its own, and the run's method."""
    method = method_for(config.method)
    formula = config.sampling.guidance_formula or method.guidance
    sampling = config.sampling.model_copy(update={"guidance_formula": formula}).settled()
    return config.model_copy(update={"sampling": sampling}), method


def _check_lora(lora: LoraSection) -> None:
    """Refuse (ConfigError) settings that the kind of adapter does not have."""
    where = f"method.lora.kind={lora.kind}"
    if lora.dora and lora.kind != "lora":
        raise ConfigError(where, "has no separate magnitudes (dora)", expected="kind lora, or dora: false")
    if lora.init == "pissa" and (lora.kind != "lora" or lora.dora):
        raise ConfigError("method.lora.init=pissa", "initializes only plain LoRA", expected="kind lora without dora, or init: gaussian")
    if lora.kind == "oft" and lora.alpha is not None:
        raise ConfigError("method.lora.alpha", "a rotation has no scale", expected="none with kind oft")
    if lora.kind == "oft" and lora.rank == 1:
        raise ConfigError(f"method.lora.rank={lora.rank}", "one number cannot be rotated", expected="2 or more with kind oft")


def _check_negative(name: str, trains: frozenset[str], loss: LossSection) -> None:
    """Refuse (ConfigError) a negative token that would not learn."""
    if "tokens" not in trains:
        raise ConfigError(
            "method.negative_vectors",
            f"{name} learns no embedding rows",
            expected="none, or a method that does",
            remedy="choose dreamartist",
        )
    if loss.name != "guided":
        raise ConfigError(
            "method.negative_vectors", f"the loss {loss.name} does not train a negative token", expected="none, or method.loss guided"
        )


def _rates(config: MethodSection, row: Row, recipe: Recipe) -> tuple[tuple[str, float], ...]:
    """The method's learning-rate factors, overridden by those of the configuration."""
    sets, given = recipe.parameter_sets, config.rate_factors or {}
    if odd := sorted(given.keys() - set(sets)):
        raise ConfigError(
            f"method.rate_factors.{odd[0]}", f"{config.name} trains no such parameters" + did_you_mean(odd[0], sets),
            expected=f"one of {', '.join(sets)}",
        )  # fmt: skip
    found = {name: factor for name, factor in {**dict(row.rates), **given}.items() if name in sets and factor != 1.0}
    return tuple(sorted(found.items()))


def _guidance(config: MethodSection, row: Row) -> GuidanceSection | None:
    """The method's guidance formula, with the run's own templates in its branches."""
    if row.guidance is None:
        return None
    texts = {INSTANCE: _templates(config, row)[0], CLASS: config.aux_prompt}
    branches = {
        name: branch.model_copy(update={"prompt": fill_prompt(texts.get(branch.prompt, branch.prompt), None)})
        for name, branch in row.guidance.branches.items()
    }
    return row.guidance.model_copy(update={"branches": branches})


def _check_loss(loss: LossSection) -> None:
    """Refuse (ConfigError) a setting that the loss does not have."""
    if loss.scale is not None and loss.name not in ("guided", "calibrated"):
        raise ConfigError("method.loss.scale", f"{loss.name} has no guidance", expected="none, or method.loss.name guided or calibrated")


def _trains(config: MethodSection, row: Row) -> frozenset[str]:
    if config.train_text_encoder and row.text_encoder is None:
        raise ConfigError(
            "method.train_text_encoder", f"{config.name} never trains the text encoder", expected="false, or another method.name"
        )
    trained = row.by_default if config.train_text_encoder is None else config.train_text_encoder
    trains = row.trains | ({row.text_encoder} if trained and row.text_encoder else frozenset())
    if (config.stages or row.stages) > 1:
        if not row.trains:
            raise ConfigError(f"method.stages={config.stages}", f"{config.name} trains nothing", expected="none, or another method.name")
        trains |= {"tokens"}
    # Of use only where the text encoder trains and no new tokens do: those have their own rate anyway.
    return trains | {"identifiers"} if config.identifier_rows and "text_encoder" in trains and "tokens" not in trains else trains


def _concepts(config: MethodSection, row: Row, *, learnt: bool, negative: bool) -> tuple[Concept, ...]:
    if config.concepts and not row.several:
        raise ConfigError("method.concepts", f"{config.name} binds one token", expected="method.name multi-styleforge")
    if config.descriptor and (learnt or row.several):
        why = "learns a token of its own" if learnt else "binds several tokens"
        raise ConfigError("method.descriptor", f"{config.name} {why}", expected="none, with method.identifier")
    if not row.several:
        token = config.descriptor or _token(config.identifier, learnt=learnt)
        against = f"<{token.strip('<>')}-neg>" if negative else None
        first, *more = (template.replace("{token}", token) for template in _templates(config, row))
        return (Concept(token, first, config.aux_prompt, negative=against, more_prompts=tuple(more)),)
    sections = config.concepts or TWO_COMPONENTS
    tokens = [section.identifier for section in sections]
    if len(set(tokens)) < len(tokens):
        raise ConfigError("method.concepts", f"two components share an identifier ({', '.join(tokens)})", expected="one for each")
    return tuple(_component(section, config, row, _token(section.identifier, learnt=learnt)) for section in sections)


def _token(identifier: str, *, learnt: bool) -> str:
    """The token as it is written: one with its own rows in angle brackets, so that it is not a word of the base's vocabulary."""
    return f"<{identifier}>" if learnt and not (identifier.startswith("<") and identifier.endswith(">")) else identifier


def _templates(config: MethodSection, row: Row) -> tuple[str, ...]:
    return config.instance_prompts or row.prompts or (config.instance_prompt,)


def _component(section: ConceptSection, config: MethodSection, row: Row, token: str) -> Concept:
    roles = frozenset(section.roles) & CONTENT[config.style_ref]
    if not roles:
        raise ConfigError("method.style_ref", f"{config.style_ref} leaves no image for the token {section.identifier!r}", expected="both")
    templates = (section.instance_prompt,) if section.instance_prompt else _templates(config, row)
    if "{token}" not in templates[0]:
        raise ConfigError("method.concepts.instance_prompt", f"{templates[0]!r} has no place for the identifier", expected="{token} in it")
    shown = frozenset().union(*(SHOWN_IN[role] for role in section.roles))
    first, *more = (template.replace("{token}", token) for template in templates)
    return Concept(
        token, first, section.aux_prompt or config.aux_prompt, roles, more_prompts=tuple(more),
        categories=shown if section.categories is None else frozenset(section.categories), own_aux=True, aux_count=section.aux_count,
        aux_form=section.aux_form,
    )  # fmt: skip


def fill_prompt(template: str, caption: str | None) -> str:
    """Put a picture's caption in place of ``{caption}``; without one, remove the placeholder and the comma before it."""
    if "{caption}" not in template:
        return template
    if caption and caption.strip():
        return template.replace("{caption}", caption.strip())
    return re.sub(r"\s*,?\s*\{caption\}\s*", " ", template).strip(" ,")
