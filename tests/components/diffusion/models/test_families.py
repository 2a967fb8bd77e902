from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.config import RunConfig
from components.core.content import derive_seed
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.training.caches import PromptCache
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import read_training_set
from tests.components.diffusion.conftest import Folders

CPU = torch.device("cpu")
PROMPTS = ["a photo of a man", "a dog", "a photo of a man"]


@pytest.fixture(scope="module")
def bundle(tiny_base: Path) -> Bundle:
    return load_bundle(tiny_base, device="cpu")


def plain_parts(folder: Path) -> Any:
    """The pipeline as diffusers itself loads it."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder)


def plain_states(pipeline: Any, prompts: list[str]) -> torch.Tensor:
    """Token states as the textbook has them: tokenize, encode, take the last hidden state."""
    ids = pipeline.tokenizer(prompts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    states: torch.Tensor = pipeline.text_encoder(ids).last_hidden_state
    return states


def test_rows_of_a_conditioning_stay_together() -> None:
    both = Conditioning(torch.arange(12.0).view(3, 2, 2), torch.arange(3.0).view(3, 1))
    chosen = both.index_select(torch.tensor([2, 0, 2]))
    assert len(chosen) == 3
    assert chosen.states[:, 0, 0].tolist() == [8, 0, 8]
    assert chosen.pooled is not None and chosen.pooled.flatten().tolist() == [2, 0, 2]
    joined = Conditioning.cat([both, chosen])
    assert joined.states.shape == (6, 2, 2)
    assert joined.pooled is not None and joined.pooled.flatten().tolist() == [0, 1, 2, 2, 0, 2]
    alone = Conditioning(both.states)
    assert Conditioning.cat([alone, alone.index_select(torch.tensor([1]))]).pooled is None


def test_conditioning_and_prediction_are_bit_equal_to_the_plain_computation(bundle: Bundle, tiny_base: Path) -> None:
    pipeline = plain_parts(tiny_base)
    cache = PromptCache(bundle.family, CPU, keep_states=True)
    with torch.no_grad():
        wanted = torch.cat([plain_states(pipeline, [prompt]) for prompt in PROMPTS])
        conditioning = cache.encode(PROMPTS)
        assert conditioning.pooled is None
        assert torch.equal(conditioning.states, wanted)
        assert torch.equal(bundle.family.encode_prompts(PROMPTS[:2]).states, plain_states(pipeline, PROMPTS[:2]))
        latents = torch.randn((3, 4, 16, 16), generator=torch.Generator().manual_seed(0))
        times = torch.tensor([3, 500, 999])
        ours = bundle.family.predict(latents, times, conditioning)
        assert torch.equal(ours, pipeline.unet(latents, times, encoder_hidden_states=wanted).sample)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_training_step_is_bit_equal_to_the_plain_step(
    make_config: Callable[..., RunConfig], folders: Folders, tiny_base: Path, tiny_v_base: Path, prediction_type: str
) -> None:
    folder = tiny_base if prediction_type == "epsilon" else tiny_v_base
    config = make_config(base={"model": str(folder)}, training={"steps": 1, "min_snr_gamma": None})
    method = method_for(config.method)
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method), load_bundle(folder, device="cpu"), folders.checkpoints)
    pipeline = plain_parts(folder)
    pipeline.unet.train()
    pipeline.text_encoder.train()
    parts = (pipeline.unet, pipeline.text_encoder)
    groups = [{"params": list(part.parameters()), "lr": 1e-3} for part in parts]
    optimizer = torch.optim.AdamW(groups, fused=True, weight_decay=1e-2)

    batch = trainer.mixer.batch(0)
    trainer._encode_all()
    streams = {name: torch.Generator().manual_seed(derive_seed(3, name, 0, 0)) for name in ("latent", "noise", "timestep")}
    mean, log_variance = trainer.latents.moments(batch.samples, batch.variants).chunk(2, 1)
    clean = (mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * torch.randn(mean.shape, generator=streams["latent"])) * 0.5
    noise = torch.randn(clean.shape, generator=streams["noise"])
    times = torch.randint(0, 1000, (4,), generator=streams["timestep"])
    noisy = pipeline.scheduler.add_noise(clean, noise, times)
    wanted = noise if prediction_type == "epsilon" else pipeline.scheduler.get_velocity(clean, noise, times)
    unique = list(dict.fromkeys(batch.prompts))
    states = plain_states(pipeline, unique)[[unique.index(prompt) for prompt in batch.prompts]]
    losses = (pipeline.unet(noisy, times, encoder_hidden_states=states).sample - wanted).square().flatten(1).mean(1)
    loss = (losses * torch.tensor([0.5, 0.5, 0.5, 0.5])).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([value for part in parts for value in part.parameters()], 1.0)
    optimizer.step()

    log, _ = trainer.run()
    assert log[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for ours, plain in ((trainer.family.network, pipeline.unet), (trainer.family.text_encoders["text_encoder"], pipeline.text_encoder)):
        values = ours.state_dict()
        assert all(torch.equal(values[key], value) for key, value in plain.state_dict().items())
