import logging
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError, InputError
from components.diffusion.models.layouts import LAYOUTS
from components.diffusion.models.sources import BaseFacts
from components.diffusion.training.fit import check_fit
from components.diffusion.training.method_table import METHODS
from components.diffusion.training.methods import method_for
from tests.components.diffusion.conftest import configure

TEXT_TOO = {"name": "lora", "train_text_encoder": True}
SD, SD3, FLUX = "StableDiffusionPipeline", "StableDiffusion3Pipeline", "FluxPipeline"
FOR_UNETS = ("custom-diffusion", "stylealigned")
XL, Z_IMAGE, KLEIN = "StableDiffusionXLPipeline", "ZImagePipeline", "Flux2KleinPipeline"


def check(pipeline: str, model: str = "base", says: dict[str, Any] | None = None, **settings: Any) -> None:
    """``says`` is what the denoiser's configuration, the index and the scheduler's say."""
    config, found = configure(Path(model), **settings), {"guidance_embeds": True} | (says or {})
    check_fit(config, method_for(config.method), BaseFacts(LAYOUTS[pipeline], found, {}, found, found))


@pytest.mark.parametrize(
    ("pipeline", "settings", "wanted"),
    [
        (
            SD3,
            {"method": {"name": "custom-diffusion"}},
            r"method\.name=custom-diffusion: trains denoiser\.cross-attention.*one of dreambooth",
        ),
        (SD3, {"sampling": {"scheduler": "dpm++"}}, r"sampling\.scheduler=dpm\+\+: does not suit .*one of euler"),
        (SD, {"training": {"times": {"shift": "dynamic"}}}, r"training\.times\.shift=dynamic"),
        (SD, {"training": {"aux_times": {"shift": "dynamic"}}}, r"training\.aux_times\.shift=dynamic"),
        (SD, {"training": {"loss_weighting": "cosmap"}}, r"training\.loss_weighting=cosmap"),
        (SD3, {"training": {"resolution": 1000}}, r"training\.resolution=1000: does not suit .* multiple of 16 pixels"),
        (
            SD3,
            {"base": {"model": "x", "precision": "nf4"}, "method": {"name": "lora", "lora": {"kind": "lokr"}}},
            r"method\.lora\.kind=lokr: needs base\.precision\.denoiser of 16 bits",
        ),
        (
            SD3,
            {"base": {"model": "x", "precision": {"text_encoders": "fp8"}}, "method": {**TEXT_TOO, "lora": {"kind": "loha"}}},
            r"method\.lora\.kind=loha: needs base\.precision\.text_encoders of 16 bits",
        ),
        (FLUX, {"sampling": {"height": 1000}}, r"sampling\.height=1000: does not suit FLUX.* multiple of 16 pixels"),
        (SD3, {"training": {"resolution": 2048}}, r"training\.resolution=2048: .*at most 1536 pixels in height and 1536 in width"),
        (SD3, {"sampling": {"width": 2048}}, r"sampling\.width=2048: .*at most 1536 pixels in height and 1536 in width"),
        (Z_IMAGE, {"method": {"name": "lora", "train_text_encoder": True}}, r"method\.train_text_encoder: the text encoder of Z-Image"),
        (Z_IMAGE, {"method": {"identifier_rows": True}}, r"method\.identifier_rows: the text encoder of Z-Image"),
        (KLEIN, {"method": {"name": "lora", "train_text_encoder": True}}, r"method\.train_text_encoder: the text encoder of FLUX\.2"),
        (
            "Lumina2Pipeline",
            {"method": {"name": "lora", "train_text_encoder": True}},
            r"method\.train_text_encoder: the text encoder of Lum",
        ),
        (Z_IMAGE, {"method": {"name": "custom-diffusion"}}, r"trains denoiser\.cross-attention.*one of dreambooth"),
    ],
)
def test_what_a_family_does_not_have_is_refused(pipeline: str, settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        check(pipeline, **settings)
    assert caught.value.exit_code == 2


def test_all_that_does_not_go_with_a_family_is_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        check(SD3, method={"name": "custom-diffusion"}, sampling={"scheduler": "ddim", "height": 1000}, training={"resolution": 2048})
    assert all(field in str(caught.value) for field in ("method.name", "sampling.scheduler", "sampling.height", "training.resolution"))


@pytest.mark.parametrize("pipeline", [SD3, Z_IMAGE])
def test_a_method_that_does_not_go_is_refused_with_those_that_do(pipeline: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(pipeline, method={"name": "custom-diffusion"})
    assert all(name in str(caught.value) for name in METHODS if name not in FOR_UNETS)
    assert "stylealigned" not in str(caught.value)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in FOR_UNETS])
def test_the_other_methods_go_with_every_family(method: str) -> None:
    # Some are drawn by several prompts, which a denoiser that guides by itself refuses.
    for pipeline in LAYOUTS:
        check(pipeline, method={"name": method}, sampling={"guidance_formula": "plain"})


@pytest.mark.parametrize(
    ("pipeline", "model", "says", "undistilled"),
    [
        (FLUX, "black-forest-labs/FLUX.1-schnell", {"guidance_embeds": False}, "black-forest-labs/FLUX.1-dev"),
        (FLUX, "a/folder", {"guidance_embeds": False}, "black-forest-labs/FLUX.1-dev"),
        (SD3, "stabilityai/stable-diffusion-3.5-large-turbo", {}, "stabilityai/stable-diffusion-3.5-large"),
        (Z_IMAGE, "Tongyi-MAI/Z-Image-Turbo", {}, "train on Tongyi-MAI/Z-Image instead"),
        (Z_IMAGE, "Tongyi-MAI/Z-Image", {"shift": 6.0}, None),
        (Z_IMAGE, "a/folder", {"shift": 3.0}, "train on Tongyi-MAI/Z-Image instead"),
        (SD3, "stabilityai/stable-diffusion-3.5-large", {"shift": 3.0}, None),
        (KLEIN, "a/folder", {"is_distilled": True}, "train on black-forest-labs/FLUX.2-klein-base-4B instead"),
        (KLEIN, "black-forest-labs/FLUX.2-klein-base-9B", {"is_distilled": False}, None),
        (FLUX, "black-forest-labs/FLUX.1-dev", {}, None),
        (XL, "stabilityai/sdxl-turbo", {}, "train on stabilityai/stable-diffusion-xl-base-1.0 instead"),
        (SD, "someone/hyperreal", {}, None),
    ],
)
def test_distilled_bases_are_warned_of(
    caplog: pytest.LogCaptureFixture, pipeline: str, model: str, says: dict[str, Any], undistilled: str | None
) -> None:
    with caplog.at_level(logging.WARNING, logger="components.diffusion"):
        check(pipeline, model, says)
    assert [undistilled in record.getMessage() for record in caplog.records] == ([] if undistilled is None else [True])


def test_min_snr_weights_on_a_flow_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """They are at most (1 - σ)² of the velocity's error: see the flow objective."""
    with caplog.at_level(logging.WARNING, logger="components.diffusion"):
        for pipeline, gamma in ((SD3, 5.0), (SD3, None), (SD, 5.0)):
            check(pipeline, training={"min_snr_gamma": gamma})
    assert ["training.min_snr_gamma" in record.getMessage() for record in caplog.records] == [True]


def test_there_must_be_a_scale_of_the_style_to_choose() -> None:
    chosen = {"style_guidances": [1.25]}
    with pytest.raises(ConfigError, match=r"selection\.style_guidances: there is nothing to choose"):
        check(SD, selection=chosen)
    check(SD, says={"guidance_embeds": False}, selection=chosen, method={"name": "split-styleforge"})


def test_a_distilled_denoiser_takes_no_formula_of_guidance() -> None:
    formula = {"terms": [{"scale": 2, "away_from": "negative", "toward": "prompt"}]}
    with pytest.raises(ConfigError, match=r"sampling\.guidance_formula: this FLUX.* take guidance as an input.*expected plain"):
        check(FLUX, sampling={"guidance_formula": formula})
    check(FLUX, sampling={"guidance_formula": "plain"})
    check(FLUX, says={"guidance_embeds": False}, sampling={"guidance_formula": formula})
