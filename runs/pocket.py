"""Checks the pocket bases against their quality bars, which need both the pocket world and the diffusion components."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from components.core.config import RunConfig, SamplingSection, builtin_config, load_config
from components.core.model_ref import local_model
from components.core.paths import pocket_weights, state
from components.core.prompting import fill_tokens
from components.diffusion.training.methods import method_for
from components.pocket.bases import BASES, BaseName, PocketBase
from components.pocket.check import Bar, Question, base_questions, check_evaluator, check_pictures, check_probe, check_vae, style_questions
from components.pocket.media import STYLES
from components.pocket.probe import Probe, load_probe
from components.pocket.render import contact_sheet
from runs.drawing import demo_config

Say = Callable[[str], None]


def check(
    name: BaseName, parts: Sequence[str], say: Say, *, sheets: Path | None = None, styles: Sequence[str] = tuple(STYLES)
) -> list[Bar]:
    """Measure the committed weights of a base, named as in BASES, by the checks in ``parts``.

    The check ``styles`` trains a model for each of ``styles``. ``say`` is called with each line of progress; contact sheets of the
    drawn pictures go into ``sheets``.
    """
    base = BASES[name]
    local_model(base.model, "base.model")
    bars: list[Bar] = []
    if "vae" in parts:
        bars += check_vae(pocket_weights(base.folder))
    if "evaluator" in parts:
        bars += check_evaluator(pocket_weights("evaluator"))
    if base.denoiser in parts or "styles" in parts:
        probe = load_probe(pocket_weights("probe"))
        bars += check_probe(probe)
        if base.denoiser in parts:
            bars += _check_base(base, probe, sheets)
        if "styles" in parts:
            bars += _check_styles(base, probe, say, sheets, styles)
    return bars


def _check_base(base: PocketBase, probe: Probe, sheets: Path | None) -> list[Bar]:
    questions = base_questions()
    pixels = draw(base.model, questions, load_config(builtin_config(base.model)).sampling)
    _sheet(sheets, base.model, pixels)
    figures = check_pictures(probe, pixels, questions)
    title = "UNet" if base.denoiser == "unet" else "Transformer"
    return [Bar(f"{title}: {what} read right", figures[what], base.bars[what], "%", len(questions)) for what in ("background", "subject")]


def _check_styles(base: PocketBase, probe: Probe, say: Say, sheets: Path | None, styles: Sequence[str]) -> list[Bar]:
    """Run Single-StyleForge on each target style with the settings of the base's configuration, and average the figures."""
    figures: list[dict[str, float]] = []
    count = 0
    for style in styles:
        config = demo_config(style, folder=state("pocket-styles") / style, reference=4, name=base.model)
        questions = style_questions(fill_tokens(config.sampling.style_template, method_for(config.method).tokens))
        with TemporaryDirectory(dir=state("tmp")) as folder:
            pixels = draw(personalize_only(config, Path(folder)), questions, config.sampling)
        _sheet(sheets, f"{base.model}-{style}", pixels)
        figures.append(check_pictures(probe, pixels, questions, style))
        count += len(questions)
        say(f"{style}: " + ", ".join(f"{name} {value:.1f} %" for name, value in figures[-1].items()))
    means = {name: float(np.mean([found[name] for found in figures])) for name in ("style", "background", "subject")}
    title = f"After Single-StyleForge, mean of {len(styles)} styles: {{}} read right"
    return [
        Bar(title.format(name), mean, bar, "%", count)
        for (name, mean), bar in zip(means.items(), (base.bars["style"], 80, 75), strict=True)
    ]


def personalize_only(config: RunConfig, folder: Path) -> Path:
    """Scan, split, build the Aux set and fine-tune, without a pipeline; return the model's folder."""
    from components.diffusion.training.fine_tuning import fine_tune
    from components.evaluation.extractors.clip import ClipEncoder
    from components.styledata.auxiliary import curate
    from components.styledata.manifest import scan_style
    from components.styledata.split import split_style_set

    encoder = ClipEncoder("pocket")
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
