"""The pocket flow base in training: the widened VAE, noise levels, what diffusers reads; tiny budgets, the real code."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline

from components.bases import train as training
from components.bases.timed import mixed_precision
from components.bases.tokenizer import MAX_LENGTH, read_tokenizer
from components.bases.train_flow import LATENTS, draw_sigmas, encode_prompts, new_transformer
from components.bases.train_unet import tokenize
from components.bases.train_vae import to_tensor, widened_vae
from components.core.errors import InputError
from components.core.paths import embedded_weights
from components.pocket.render import render_set
from components.pocket.world import POCKET


def test_a_widened_vae_begins_as_the_one_it_learnt_from() -> None:
    learnt = AutoencoderKL.from_pretrained(embedded_weights("base") / "vae", torch_dtype=torch.float32).eval()
    wide = widened_vae(learnt, LATENTS).eval()
    pixels = to_tensor(render_set("test-wide", 2).pixels)
    with torch.no_grad():
        narrow, found = learnt.encode(pixels).latent_dist, wide.encode(pixels).latent_dist
        assert found.mean.shape == (2, LATENTS, 16, 16)
        # Not always to the bit: some processors sum another number of channels in another order.
        near = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(found.mean[:, :8], narrow.mean, **near)
        torch.testing.assert_close(found.std[:, :8], narrow.std, **near)
        torch.testing.assert_close(wide.decode(found.mean).sample, learnt.decode(narrow.mean).sample, **near)
        assert found.mean[:, 8:].std() > 0.1


def test_noise_levels_are_logit_normal_and_one_in_each_stratum() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.stack([draw_sigmas(4, generator) for _ in range(2000)])
    # Quartiles of a standard normal: ±0.67449, through the sigmoid.
    bounds = torch.tensor([0.0, 0.33749, 0.5, 0.66251, 1.0])
    assert all((levels[:, k] >= bounds[k] - 1e-4).all() and (levels[:, k] <= bounds[k + 1] + 1e-4).all() for k in range(4))
    logits = levels.logit()
    assert logits.mean().item() == pytest.approx(0, abs=0.02) and logits.std().item() == pytest.approx(1, abs=0.02)


def test_a_fresh_transformer_answers_zero() -> None:
    states, pooled = torch.randn(2, 4, 192), torch.randn(2, 192)
    with torch.no_grad():
        assert not new_transformer()(torch.randn(2, LATENTS, 16, 16), states, pooled, torch.tensor([3.0, 900.0])).sample.any()


def test_flow_base_is_trained_resumed_and_read_by_diffusers(tmp_path, monkeypatch) -> None:
    world = replace(POCKET, sets={"train": 8, "qualified": 8, "evaluator": 8})
    monkeypatch.setattr(training.train_flow, "BATCH", 2)
    with pytest.raises(InputError, match="pocket-flow: no pocket base"):
        training.train(tmp_path, world, base="pocket-flow", parts=["vae"], work=tmp_path / "work")
    (tmp_path / "base").symlink_to(embedded_weights("base"))
    with pytest.raises(InputError, match="the vae part first"):
        training.train(tmp_path, world, base="pocket-flow", parts=["transformer"], work=tmp_path / "work")
    moment = {"vae": 1e-6, "transformer": 1e-6, "decoder": 1e-6}
    training.train(tmp_path, world, base="pocket-flow", minutes=moment, work=tmp_path / "work")
    log = tmp_path / "work" / "pocket-flow" / "transformer-checkpoint.pt"
    assert torch.load(log, weights_only=True)["step"] == 1

    folder = tmp_path / "flow"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 16e6
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32)
    assert pipeline.vae.config.latent_channels == LATENTS
    assert pipeline.vae.config.shift_factor and pipeline.vae.config.scaling_factor != 1
    prompt = "a mosaic of a cat, beach background"
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(prompt, prompt, prompt, do_classifier_free_guidance=False, max_sequence_length=0)
        ours = encode_prompts((pipeline.text_encoder, pipeline.text_encoder_2), tokenize(read_tokenizer(folder / "tokenizer"), [prompt]))
    assert states.shape == (1, MAX_LENGTH, 192)
    torch.testing.assert_close((states, pooled), ours)
    picture = pipeline(prompt, height=64, width=64, num_inference_steps=1, max_sequence_length=0, output_type="np").images
    assert picture.shape == (1, 64, 64, 3)

    training.train(tmp_path, world, base="pocket-flow", minutes=moment, work=tmp_path / "again", go_on=True)
    again = tmp_path / "again" / "pocket-flow"
    assert (again / "transformer-checkpoint.pt").is_file() and not (again / "vae-checkpoint.pt").exists()
    with pytest.raises(InputError, match=r"--part vae.*--continue"):
        training.train(tmp_path, world, base="pocket-flow", parts=["vae"], minutes=moment, work=tmp_path / "again", go_on=True)


def test_mixed_precision_changes_nothing_outside() -> None:
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed
    before = allowed()
    query = torch.randn(1, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    with mixed_precision(torch.device("cpu")):
        found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert allowed() == before and torch.backends.cuda.flash_sdp_enabled() and not torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(found.float(), torch.softmax(query @ query.mT / 2, -1) @ query, atol=2e-2, rtol=2e-2)
