"""What a comparison is: methods × styles × seeds (and ablations) over one run configuration, and the claims to be decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.core.config import SAMPLER, Place, PositiveInt, RunConfig, Section, find_config, parse_config, read_config, validate_model
from components.core.content import digest_value
from components.core.metrics import HYPERVOLUME, PairedName
from components.core.nested import set_at
from components.core.overrides import apply_overrides, parse_override
from components.core.suggest import did_you_mean

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ALL_STYLES = "all"
"""Name of the mean over styles in tables; no style can have this name."""
GUIDANCE = "sampling.guidance"
_SHARED = ("style", "base", "scoring", "registry")
_DRAWING = ("bank", "limit", "repeats", "batch_size", "plain_template")


class StyleChoice(Section):
    """A style on which every method is trained."""

    name: Name = Field(description="Name of the style.")
    source: Place | None = Field(
        None, description="Folder or URL of its images; default: a target style of the pocket world, rendered under `data/pocket/`."
    )
    reference: Place | None = Field(None, description="Folder or URL of held-out images; default: `reference/` inside the source.")


class Variant(Section):
    """A method with its settings."""

    name: Name = Field(description="Name, used by claims and `like`.")
    label: str | None = Field(None, description="Label in tables; default: the name.")
    like: Name | None = Field(None, description="Name of a method whose settings are the starting point; `set` changes some of them.")
    set: dict[str, Any] = Field(
        {}, description="Settings that differ from the run's, by dotted name. Without `like`, `method.name` defaults to the variant's name."
    )

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.label or self.name


class Ablation(Section):
    """Variants that differ in one aspect, shown in a separate table."""

    name: str = Field(min_length=1, description="What differs, such as `Aux source`; the table's title.")
    variants: tuple[Variant, ...] = Field(min_length=2, description="The variants.")
    styles: tuple[Name, ...] | None = Field(None, description="Styles to use; default: all.")
    seeds: tuple[int, ...] | None = Field(None, description="Seeds to use; default: all.")


class Claim(Section):
    """A statement for the comparison to decide: one variant is better than each of some others."""

    name: str = Field(min_length=1, description="The statement, in words.")
    metric: PairedName = Field("kid", description="Score on which the claim is decided.")
    better: Name = Field(description="Variant claimed to be better.")
    than: tuple[Name, ...] = Field(min_length=1, description="Variants that it is claimed to beat, each of them.")
    margin: float = Field(
        0.0,
        ge=0.0,
        description="Share of the other's score by which the variant may be worse without refuting the claim; 0: it must be better.",
    )


class CompareConfig(Section):
    """One comparison."""

    name: Name = Field("comparison", description="Name of the comparison.")
    run: Place = Field(description="Run configuration that every cell starts from: a YAML file (path relative to this file), or a name.")
    set: dict[str, Any] = Field({}, description="Settings for all cells that differ from the run's, by dotted name.")
    styles: tuple[StyleChoice, ...] = Field(min_length=1, description="Styles.")
    methods: tuple[Variant, ...] = Field(min_length=1, description="Methods: columns of the image wall, rows of the tables.")
    ablations: tuple[Ablation, ...] = Field((), description="Ablations.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,),
        min_length=1,
        description="Run seeds. For each, Aux images are generated, a model is trained and images are sampled separately.",
    )
    equal: Literal["steps", "compute"] = Field(
        "steps",
        description="What is equal for all methods: `steps` (optimizer steps), or `compute` (forward and backward passes of images "
        "through the denoiser; steps are adjusted to the most costly method).",
    )
    claims: tuple[Claim, ...] = Field((), description="Claims to decide.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Level of the intervals.")
    resamples: PositiveInt = Field(2000, description="Bootstrap resamples for deciding a claim.")
    wall: PositiveInt = Field(8, description="Number of prompts on the image wall, divided among the styles.")

    @model_validator(mode="after")
    def _consistent(self) -> CompareConfig:
        _unique("styles", [*(style.name for style in self.styles), ALL_STYLES])
        _unique("seeds", [str(seed) for seed in self.seeds])
        methods = [variant.name for variant in self.methods]
        everything = methods + [variant.name for ablation in self.ablations for variant in ablation.variants]
        _unique("methods and ablations", everything)
        for place, variant, fixed in self._placed():
            if variant.like is not None:
                _known(f"{place}.like", variant.like, methods)
            _check_settings(f"{place}.set", variant.set, fixed)
        for number, ablation in enumerate(self.ablations):
            for style in ablation.styles or ():
                _known(f"ablations.{number}.styles", style, [item.name for item in self.styles])
            for seed in ablation.seeds or ():
                _known(f"ablations.{number}.seeds", str(seed), [str(item) for item in self.seeds])
        for number, claim in enumerate(self.claims):
            for name in (claim.better, *claim.than):
                _known(f"claims.{number}", name, everything)
            if claim.metric == HYPERVOLUME:
                for name in (claim.better, *claim.than):
                    if name not in methods or len(self.front_of(name)) < 2:
                        raise ValueError(
                            f"claims.{number}: {name} has no front; {HYPERVOLUME} needs a method and variants `like` it that set only "
                            f"{GUIDANCE}"
                        )
            if claim.better in claim.than:
                raise ValueError(f"claims.{number}: {claim.better} is compared with itself")
        return self

    def _placed(self) -> Iterator[tuple[str, Variant, frozenset[str]]]:
        """Each variant with its place in the file and the settings that it must not change: methods also share sampler and steps."""
        drawing = frozenset(f"sampling.{name}" for name in _DRAWING)
        ablated = drawing | {"training.steps"} if self.equal == "compute" else drawing
        fixed = drawing | {"training.steps"} | {f"sampling.{name}" for name in SAMPLER}
        yield from ((f"methods.{number}", variant, fixed) for number, variant in enumerate(self.methods))
        for number, ablation in enumerate(self.ablations):
            yield from ((f"ablations.{number}.variants.{place}", item, ablated) for place, item in enumerate(ablation.variants))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants, the methods first."""
        return (*self.methods, *(variant for ablation in self.ablations for variant in ablation.variants))

    def front_of(self, method: str) -> dict[str, float | None]:
        """The variants that differ from a method in guidance alone, with their guidance; first the method itself (None: the run's own)."""
        alike = {item.name: float(item.set[GUIDANCE]) for item in self.variants if item.like == method and set(item.set) == {GUIDANCE}}
        return {method: None, **alike}

    def styles_of(self, variant: str) -> list[str]:
        """Names of the styles that a variant is trained on."""
        chosen = self._ablation_of(variant)
        return [style.name for style in self.styles if not chosen or chosen.styles is None or style.name in chosen.styles]

    def seeds_of(self, variant: str) -> list[int]:
        """Seeds that a variant is trained with."""
        chosen = self._ablation_of(variant)
        return [seed for seed in self.seeds if not chosen or chosen.seeds is None or seed in chosen.seeds]

    def _ablation_of(self, variant: str) -> Ablation | None:
        return next((item for item in self.ablations if variant in [one.name for one in item.variants]), None)


@dataclass(frozen=True)
class Cell:
    """One training with its scores: the variants it belongs to (equal settings share one cell), the style, the seed, the run."""

    id: str
    variants: tuple[str, ...]
    style: str
    seed: int
    config: RunConfig


@dataclass(frozen=True)
class Comparison:
    """A comparison, with the run that every cell starts from as plain data."""

    config: CompareConfig
    run: Mapping[str, Any]
    where: str

    def cells(self) -> list[Cell]:
        """All cells, seed by seed and style by style, so that an unfinished comparison has complete tables for fewer seeds.

        Raises ConfigError, naming the variant, for settings that do not make a valid run.
        """
        found: dict[str, Cell] = {}
        for seed in self.config.seeds:
            for style in self.config.styles:
                for variant in self.config.variants:
                    if style.name in self.config.styles_of(variant.name) and seed in self.config.seeds_of(variant.name):
                        config = self.cell_config(variant, style, seed)
                        cell_id = config.digest()[:16]
                        shared = found[cell_id].variants if cell_id in found else ()
                        found[cell_id] = Cell(cell_id, (*shared, variant.name), style.name, seed, config)
        return list(found.values())

    def cell_config(self, variant: Variant, style: StyleChoice, seed: int) -> RunConfig:
        """The run of one cell. Training steps are the run's; for equal compute they are adjusted later, where methods are known."""
        merged = {key: dict(item) if isinstance(item, Mapping) else item for key, item in self.run.items()}
        pictures = {"name": style.name, "source": style.source or f"data/pocket/{style.name}", "reference": style.reference}
        merged |= {"seed": seed, "style": {**merged.get("style", {}), **pictures}}
        for dotted, value in {**self.config.set, **self.changes(variant)}.items():
            merged = set_at(merged, dotted.split("."), value)
        return parse_config(merged, where=f"{self.where}, {variant.name}")

    def changes(self, variant: Variant) -> dict[str, Any]:
        """The settings of a variant that differ from the run's, by dotted name, including those of the method it is ``like``."""
        if variant.like is None:
            return {"method.name": variant.name, **variant.set}
        (model,) = (item for item in self.config.methods if item.name == variant.like)
        return {**self.changes(model), **variant.set}

    def digest(self) -> str:
        """sha256 of the comparison and the run that it starts from."""
        return digest_value([self.config.model_dump(mode="json"), dict(self.run)])


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read a comparison by path or name, and apply ``a.b=value`` overrides to its own keys or else to the runs of all cells.

    Raises InputError and ConfigError as :func:`components.core.config.load_config` does.
    """
    path, data = read_config(path)
    data["set"] = dict(data.get("set") or {})
    for override in overrides:
        if override.partition("=")[0].strip().split(".")[0] in CompareConfig.model_fields:
            data = apply_overrides(data, [override], CompareConfig)
        else:
            keys, value = parse_override(override, RunConfig)
            data["set"][".".join(keys)] = value
    config = validate_model(CompareConfig, data, str(path))
    comparison = Comparison(config, read_config(find_config(config.run, path.parent))[1], str(path))
    comparison.cells()
    return comparison


def _unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: {name} appears twice")


def _known(place: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"{place}: there is no {name}{did_you_mean(name, known)}")


def _check_settings(place: str, settings: Mapping[str, Any], fixed: frozenset[str]) -> None:
    """Raise ValueError if a variant changes what makes cells comparable: style, base, seed, scoring, registry or a ``fixed`` setting."""
    for dotted in settings:
        if dotted == "seed" or dotted.split(".")[0] in _SHARED or dotted in fixed:
            raise ValueError(f"{place}: {dotted} must be the same for all; set it in the comparison's own `set`")
