import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file

from components.core.errors import InputError
from components.core.images import load_rgb
from components.core.paths import read_jsonl
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.training.caches import LatentCache, PromptCache
from components.diffusion.training.pictures import cut, place, time_ids
from components.diffusion.training.samples import Sample
from components.diffusion.training.variety import Variant
from tests.components.diffusion.conftest import Folders, configure, cut_power, edit, train

CPU = torch.device("cpu")


def test_conditioning_is_diffusers_own(xl: Bundle, tiny_xl_base: Path) -> None:
    prompts = ["a photo of sks style", "a dog"]
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl_base)
    with torch.no_grad():
        states, zeros, pooled, pooled_zeros = pipeline.encode_prompt(prompts, device="cpu")
        ours = PromptCache(xl.family, CPU, keep_states=True).encode([*prompts, ""])
    assert ours.states.shape == (3, 32, 16 + 24)
    assert ours.pooled is not None and ours.pooled.shape == (3, 20)
    torch.testing.assert_close(ours.states[:2], states)
    torch.testing.assert_close(ours.pooled[:2], pooled)
    # What XL was trained to take for "no prompt": zeros, not the states of an empty text.
    assert not ours.states[2].any() and not ours.pooled[2].any()
    assert torch.equal(zeros, torch.zeros_like(states)) and not pooled_zeros.any()


def test_a_base_may_want_the_empty_prompt_encoded(xl_copy: Path) -> None:
    before = load_bundle(xl_copy, device="cpu").digest
    edit(xl_copy / "model_index.json", force_zeros_for_empty_prompt=False)
    bundle = load_bundle(xl_copy, device="cpu")
    assert bundle.digest != before
    _, wanted, _, pooled = StableDiffusionXLPipeline.from_pretrained(xl_copy).encode_prompt("a man", device="cpu", negative_prompt="")
    ours = bundle.family.encode_prompts([""])
    torch.testing.assert_close(ours.states, wanted)
    torch.testing.assert_close(ours.pooled, pooled)


def test_an_added_token_does_not_move_the_pooled_vector(tiny_xl_base: Path) -> None:
    # With the end token that published configurations hold, CLIP pools at the greatest id: at a new token, not at the end.
    family = load_bundle(tiny_xl_base, device="cpu").family
    tokenizer, encoder = family.tokenizers["text_encoder_2"], family.text_encoders["text_encoder_2"]
    tokenizer.add_tokens(["<new>"])
    encoder.resize_token_embeddings(len(tokenizer))
    ids = family.tokenize(["a <new> man"])["text_encoder_2"]
    assert ids.max() == len(tokenizer) - 1
    output = encoder.text_model(ids)
    end = int((ids[0] == tokenizer.eos_token_id).int().argmax())
    assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])


def test_the_cut_is_where_the_time_ids_say() -> None:
    # 96 × 48 pixels to 64 high: resized to 128 × 64, the centre square begins 32 from the left.
    assert time_ids((96, 48), (64, 64), Variant(), 0, "x") == (48, 96, 0, 32, 64, 64)
    assert time_ids((48, 96), (64, 64), Variant(), 0, "x") == (96, 48, 32, 0, 64, 64)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    for variant in (Variant(), Variant(2), Variant(2, True)):
        placed = place(picture.size, (48, 48), variant, 0, "x")
        source = picture.resize((placed.width, placed.height), Image.Resampling.LANCZOS)
        if variant.flipped:
            source = source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        _, _, top, left, _, _ = time_ids(picture.size, (48, 48), variant, 0, "x")
        wanted = np.asarray(source)[top : top + 48, left : left + 48]
        ours = (cut(picture, (48, 48), variant, 0, "x").permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(ours - wanted).max() < 1e-3


@pytest.mark.parametrize("enabled", [True, False])
def test_time_ids_come_with_the_latents(xl: Bundle, tmp_path: Path, enabled: bool) -> None:
    load = Mock(wraps=load_rgb)
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    sample = Sample("a", tmp_path / "a.png", "a man", 1.0)
    cache = LatentCache(xl.family, load, CPU, 0, [(32, 32)], enabled=enabled)
    cache.moments([sample], [Variant()])
    ids = cache.time_ids([sample, sample], [Variant(), Variant(1)])
    load.assert_called_once_with(tmp_path / "a.png")
    assert ids.tolist()[0] == [40, 60, 0, 8, 32, 32]
    assert LatentCache(xl.family, load, CPU, 0, [(32, 32)]).time_ids([sample], [Variant(1)]).tolist() == ids[1:].tolist()


def test_training_moves_both_text_encoders_and_resumes(folders: Folders, tiny_xl_base: Path) -> None:
    settings = {"steps": 3, "checkpoint_every": 2, "gradient_checkpointing": True, "ema_decay": 0.5}
    config = configure(tiny_xl_base, training=settings)
    out = train(config, folders)
    cut_power(config, folders, "again", step=2)
    again = train(config, folders, "again")
    assert read_jsonl(out / "training" / "log.jsonl") == read_jsonl(again / "training" / "log.jsonl")
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model", "text_encoder_2/model"):
        before, after, resumed = (load_file(folder / f"{name}.safetensors") for folder in (tiny_xl_base, out, again))
        assert any(not torch.equal(before[key], after[key]) for key in before), name
        assert all(torch.equal(resumed[key], after[key]) for key in after), name
    before, after = (load_file(folder / "text_encoder" / "model.safetensors") for folder in (tiny_xl_base, out))
    # Nothing depends on what comes after the penultimate states, so weight decay must not eat it either.
    idle = [key for key in before if ".layers.1." in key or "final_layer_norm" in key]
    assert idle and all(torch.equal(before[key], after[key]) for key in idle)
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (out / vae).read_bytes() == (tiny_xl_base / vae).read_bytes()


def test_the_vae_stays_in_fp32_under_autocast(tiny_xl_base: Path) -> None:
    # Fault 6: in half precision this VAE overflows.
    family, seen = load_bundle(tiny_xl_base, device="cpu").family, []
    for layer in (family.vae.encoder.conv_in, family.vae.decoder.conv_out):
        layer.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        moments = family.encode_images(torch.zeros(1, 3, 32, 32))
        family.decode_latents(family.sample_latents(moments, None))
    assert [*seen, moments.dtype] == [torch.float32] * 3


def test_large_pictures_go_through_the_vae_one_by_one(xl: Bundle, xl_copy: Path) -> None:
    assert not xl.family.vae.use_slicing
    edit(xl_copy / "unet" / "config.json", sample_size=512)
    assert load_bundle(xl_copy, device="cpu").family.vae.use_slicing


def test_other_networks_with_the_same_class_are_refused(xl_copy: Path) -> None:
    file = xl_copy / "unet" / "config.json"
    original = json.loads(file.read_text())
    edit(file, addition_time_embed_dim=10)
    with pytest.raises(InputError, match="80 numbers where the UNet takes 68"):
        load_bundle(xl_copy)
    file.write_text(json.dumps({**original, "addition_embed_type": None, "projection_class_embeddings_input_dim": None}))
    with pytest.raises(InputError, match="addition_embed_type is None"):
        load_bundle(xl_copy)
