"""The configurations of real bases: the papers' settings, and each run whole on a tiny model of its family in the base's place."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import RunConfig, TimesSection, load_config
from components.core.hub import COMMIT
from components.core.paths import REPOSITORY, read_jsonl
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.families import Family
from components.diffusion.models.flux import Flux
from components.diffusion.models.flux2 import Flux2Klein
from components.diffusion.models.sd3 import StableDiffusion3
from components.diffusion.models.sdxl import StableDiffusionXL
from components.diffusion.models.stable_diffusion import StableDiffusion
from components.diffusion.models.z_image import ZImage
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import sample_bank
from components.diffusion.training.fine_tuning import fine_tune
from components.diffusion.training.methods import method_for
from tests.components.diffusion.conftest import write_folders
from tests.fixtures_models import tiny_sd_folder, tiny_sdxl_folder
from tests.fixtures_original import SIZES
from tests.tiny_bases import tiny_flux2_folder, tiny_flux_folder, tiny_sd3_folder, tiny_z_image_folder

NAMES = ("sd15", "sd21", "sdxl")
FAMILIES: dict[str, type[Family]] = {
    "sd15": StableDiffusion, "sd21": StableDiffusion, "sdxl": StableDiffusionXL, "sd35-medium": StableDiffusion3, "flux-dev": Flux,
    "flux2-klein": Flux2Klein, "z-image": ZImage,
}  # fmt: skip
FLOWS = sorted(FAMILIES.keys() - set(NAMES))
# Only what makes it large: nothing else of the configurations is changed.
SMALLER = (
    "training.steps=2", "training.checkpoint_every=1", "training.validate_every=2", "training.resolution=null", "sampling.steps=2",
    "sampling.repeats=1",
)  # fmt: skip


def configuration(name: str, *overrides: str) -> RunConfig:
    return load_config(REPOSITORY / "configs" / f"{name}.yaml", overrides)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {
        "sd15": tiny_sd_folder(root / "sd15"),
        "sd21": tiny_sd_folder(root / "sd21", prediction_type="v_prediction"),
        "sdxl": tiny_sdxl_folder(root / "sdxl"),
        "sd35-medium": tiny_sd3_folder(root / "sd35"),
        "flux-dev": tiny_flux_folder(root / "flux"),
        "flux2-klein": tiny_flux2_folder(root / "flux2"),
        "z-image": tiny_z_image_folder(root / "z-image"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_the_papers_settings(name: str) -> None:
    config = configuration(name)
    training, sampling = config.training, config.sampling
    assert config.method.name == "single-styleforge"
    assert (config.method.instance_prompt, config.method.aux_prompt) == ("a photo of {token} style", "a photo of style")
    assert method_for(config.method).prior_weight == 1.0
    assert method_for(config.method).trains == {"denoiser", "text_encoder"}
    assert (config.aux.source or method_for(config.method).preserves) == "curated"
    assert (config.aux.count, config.aux.form) == (20, "digital painting")
    assert (training.steps, training.learning_rate, training.batch_size, training.aux_batch_size) == (800, 2e-6, 1, 1)
    assert (training.adam_betas, training.adam_epsilon, training.weight_decay) == ((0.9, 0.999), 1e-8, 1e-2)
    assert (training.max_gradient_norm, training.schedule, training.min_snr_gamma) == (1.0, "constant", None)
    assert (sampling.bank, sampling.limit, sampling.repeats, sampling.guidance) == ("builtin", None, 4, 7.5)
    assert config.base.revision and COMMIT.fullmatch(config.base.revision)
    assert config.scoring.extractor_revision and COMMIT.fullmatch(config.scoring.extractor_revision)


@pytest.mark.parametrize("name", FLOWS)
def test_it_holds_the_settings_of_the_public_script(name: str) -> None:
    config = configuration(name)
    training, drawing = config.training, config.sampling
    assert config.method.name == "lora" and training.learning_rate == (4e-4 if name == "sd35-medium" else 1e-4)
    assert (training.steps, training.batch_size, training.gradient_accumulation) == (500, 1, 4)
    assert (training.schedule, training.gradient_checkpointing, training.mixed_precision) == ("constant", True, "bf16")
    # Both as the family has them.
    assert training.times == TimesSection() and (drawing.scheduler, drawing.steps, drawing.guidance) == (None, None, None)
    assert config.base.revision and COMMIT.fullmatch(config.base.revision)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_trains_saves_loads_and_samples(name: str, tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def fetch(model: str, **options: Any) -> str:
        """The hub, which gives only what was asked for."""
        asked.update(options, model=model)
        files = [file for pattern in options["allow_patterns"] for file in tiny[name].glob(pattern)]
        for file in files:
            target = tmp_path / "snapshot" / file.relative_to(tiny[name])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    config = configuration(name, *SMALLER)
    folders = write_folders(tmp_path / "run", reference=2)
    out = fine_tune(config, *folders.inputs, folders.out, folders.checkpoints)
    assert (asked["model"], asked["revision"]) == (config.base.model, config.base.revision)
    rows = read_jsonl(out / "training" / "log.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in rows) and np.isfinite(rows[-1]["validation_loss"])

    bundle, base = load_bundle(out, device="cpu"), load_bundle(tiny[name], device="cpu")
    assert type(bundle.family) is FAMILIES[name]
    predicts = {"sd15": "epsilon", "sd21": "v_prediction", "sdxl": "epsilon"}
    assert bundle.family.objective.prediction_type == predicts.get(name, "flow")
    for part in (bundle.family.layout.denoiser, *(base.family.text_encoders if name in NAMES else ())):
        before, after = base.family.parts[part].state_dict(), bundle.family.parts[part].state_dict()
        moved = [key for key in after.keys() & before.keys() if not torch.equal(before[key], after[key])]
        assert moved or any(value.any() for key, value in after.items() if "lora_B" in key), part
    requests = [PromptRequest("p0", "people", "a man", "a photo of sks style, a man")]
    drawn = sample_bank(bundle, requests, config.sampling, config.seed, tmp_path / "drawn")
    with Image.open(drawn / "images" / "p0-r0.png") as picture:
        assert picture.size == (base.family.resolution,) * 2


def test_published_sizes_fit_together_and_come_to_what_the_configurations_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the real sizes, without memory: what the families check holds for them, and how much they weigh."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def text(width: int, layers: int, heads: int, **more: Any) -> CLIPTextConfig:
        return CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads, **more)

    class Tokenizer:
        model_max_length, eos_token_id = 77, 49407

    schedule = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
    tokenizers = {"tokenizer": Tokenizer(), "tokenizer_2": Tokenizer()}
    with torch.device("meta"):
        vae = AutoencoderKL(**SIZES["vae"][0])
        first = CLIPTextModel(text(768, 12, 12))
        unets = {
            "sd15": UNet2DConditionModel(sample_size=64, attention_head_dim=8, cross_attention_dim=768),
            "sd21": UNet2DConditionModel(
                sample_size=96, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True
            ),
            "sdxl": UNet2DConditionModel(**SIZES["sdxl"][0], sample_size=128, attention_head_dim=(5, 10, 20)),
        }  # fmt: skip
        second = CLIPTextModelWithProjection(text(1280, 32, 20, projection_dim=1280))
        large = CLIPTextModel(text(1024, 23, 16))
    encoders = {"sd15": {"text_encoder": first}, "sd21": {"text_encoder": large}, "sdxl": {"text_encoder": first, "text_encoder_2": second}}
    families = {name: FAMILIES[name]({"unet": unets[name], "vae": vae, **encoders[name], **tokenizers}, schedule, "here") for name in NAMES}
    assert [families[name].resolution for name in NAMES] == [512, 768, 1024]
    for name, millions in (("sd15", "983 M"), ("sd21", "1,206 M"), ("sdxl", "3,385 M")):
        parts = [families[name].denoiser, *families[name].text_encoders.values()]
        count = sum(value.numel() for part in parts for value in part.parameters())
        assert f"{count / 1e6:,.0f} M" == millions
        text_of_it = (REPOSITORY / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
        assert millions in text_of_it and (f"{count * 16 / 1e9:.1f} GB" in text_of_it or f"{count * 16 / 1e9:.0f} GB" in text_of_it)
