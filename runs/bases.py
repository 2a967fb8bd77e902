"""Trains the embedded bases on their worlds, and checks them against their quality bars."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.bases.bases import BASES, BaseName, EmbeddedBase
from components.bases.check import Bar, check_evaluator, check_pictures, check_probe, check_vae
from components.bases.probe import Probe, load_probe
from components.core.config import RunConfig, SamplingSection, builtin_config, load_config
from components.core.model_ref import local_model
from components.core.paths import embedded_weights, state, write_json
from components.core.prompting import fill_tokens
from components.core.world import Question, World
from components.diffusion.training.methods import method_for
from components.pocket.pen import SIDE
from components.pocket.render import contact_sheet
from runs.drawing import pocket_style

Say = Callable[[str], None]


def world_of(base: EmbeddedBase) -> World:
    """The world that a base is trained on; InputError if what its pictures are made of is not installed."""
    if base.world == "art":
        from runs.art_world import art_world

        return art_world()
    from components.pocket.world import POCKET

    return POCKET


def train(out: Path, name: BaseName, **settings: Any) -> Path:
    """Train parts of a base: see :func:`components.bases.train.train`, which gets ``settings``.

    Beside the weights of a base that learns from artists' drawings lies ``attribution.json``.
    """
    from components.bases.train import train as train_parts

    base = BASES[name]
    train_parts(out, world_of(base), base=name, **settings)
    weights = out / base.weights.base
    if base.world == "art" and weights.is_dir():
        from runs.art_world import attribution

        write_json(weights / "attribution.json", attribution())
    return out


def check(name: BaseName, parts: Sequence[str], say: Say, *, sheets: Path | None = None, styles: Sequence[str] | None = None) -> list[Bar]:
    """Measure the committed weights of a base, named as in BASES, by the checks in ``parts``.

    The check ``styles`` trains a model for each of ``styles``, by default all of the world's. ``say`` is called with each line of
    progress; contact sheets of the drawn pictures go into ``sheets``.
    """
    base = BASES[name]
    local_model(base.model, "base.model")
    world = world_of(base)
    bars: list[Bar] = []
    if "vae" in parts:
        bars += check_vae(embedded_weights(base.weights.base), world)
    if "evaluator" in parts:
        bars += check_evaluator(embedded_weights(base.weights.evaluator), world)
    if base.denoiser in parts or "styles" in parts:
        probe = load_probe(embedded_weights(base.weights.probe), world)
        bars += check_probe(probe, world)
        if base.denoiser in parts:
            bars += _check_base(base, world, probe, sheets)
        if "styles" in parts:
            bars += _check_styles(base, world, probe, say, sheets, styles or world.styles)
    return bars


def _check_base(base: EmbeddedBase, world: World, probe: Probe, sheets: Path | None) -> list[Bar]:
    questions = world.questions(512)
    pixels = draw(base.model, questions, load_config(builtin_config(base.model)).sampling)
    _sheet(sheets, base.model, pixels)
    title = "UNet" if base.denoiser == "unet" else "Transformer"
    figures = check_pictures(probe, world, pixels, questions)
    return [Bar(f"{title}: {what} read right", value, base.bars.get(what), "%", len(questions)) for what, value in figures.items()]


def _check_styles(base: EmbeddedBase, world: World, probe: Probe, say: Say, sheets: Path | None, styles: Sequence[str]) -> list[Bar]:
    """Run Single-StyleForge on each target style with the settings of the base's configuration, and average the figures."""
    figures: list[dict[str, float]] = []
    count = 0
    for style in styles:
        chosen = [f"style.name={style}", f"style.source={_style_set(base, style)}"]
        config = load_config(builtin_config(base.model), chosen)
        questions = world.style_questions(fill_tokens(config.sampling.style_template, method_for(config.method).tokens), 96)
        with TemporaryDirectory(dir=state("tmp")) as folder:
            pixels = draw(personalize_only(config, Path(folder)), questions, config.sampling)
        _sheet(sheets, f"{base.model}-{style}", pixels)
        figures.append(check_pictures(probe, world, pixels, questions, style))
        count += len(questions)
        say(f"{style}: " + ", ".join(f"{name} {value:.1f} %" for name, value in figures[-1].items()))
    means = {name: float(np.mean([found[name] for found in figures])) for name in figures[0]}
    title = f"After Single-StyleForge, mean of {len(styles)} styles: {{}} read right"
    return [Bar(title.format(name), mean, base.style_bars.get(name), "%", count) for name, mean in means.items()]


def _style_set(base: EmbeddedBase, style: str) -> Path:
    """The folder of a target style, rendered if it does not exist."""
    folder = state("base-styles") / style
    if base.world == "pocket":
        return pocket_style(style, folder, reference=4)
    if not folder.is_dir():
        from components.art.base import BASE_FAMILIES, CONCEPTS
        from components.art.families import FAMILIES
        from components.art.style_set import Sizes, render_style_set

        render_style_set(
            FAMILIES[style], [FAMILIES[name] for name in BASE_FAMILIES], folder, Sizes(SIDE, reference=4, concepts=CONCEPTS, trimmed=True)
        )
    return folder


def personalize_only(config: RunConfig, folder: Path) -> Path:
    """Scan, split, build the Aux set and fine-tune, without a pipeline; return the model's folder."""
    from components.diffusion.training.fine_tuning import fine_tune
    from components.evaluation.extractors.clip import ClipEncoder
    from components.styledata.auxiliary import curate
    from components.styledata.manifest import scan_style
    from components.styledata.split import split_style_set

    encoder = ClipEncoder(config.scoring.extractor)
    style_set, split, aux = folder / "style_set", folder / "split", folder / "aux"
    scan_style(config.style, config.aux.model_copy(update={"source": "curated"}), style_set)
    split_style_set(style_set, split, lambda: encoder)
    curate(style_set, aux, count=config.aux.count, form=config.aux.form, encoder=lambda: encoder)
    return fine_tune(config, style_set, split, aux, folder / "model", folder / "checkpoints")


def draw(model: str | Path, questions: Sequence[Question], settings: SamplingSection) -> NDArray[np.uint8]:
    """Draw one picture for each question, in order: (N, 64, 64, 3) uint8."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.jobs import PromptRequest
    from components.diffusion.sampling.sampler import draw_pictures

    requests = [PromptRequest(f"{index:05d}", "check", question.prompt, question.prompt) for index, question in enumerate(questions)]
    return np.stack([np.asarray(image) for _, image in draw_pictures(load_bundle(model), requests, settings, seed=20)])


def _sheet(folder: Path | None, name: str, pixels: NDArray[np.uint8]) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(pixels[:64], 16).save(folder / f"{name}.png")
