"""DreamArtist and DreamStyler: what their rows bring, that they train and draw by their formulae, and what is left on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import MethodSection
from components.core.model_card import read_card, sampling_settings
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.sampling.guidance import Guidance
from components.diffusion.sampling.jobs import jobs_for
from components.diffusion.sampling.requests import prompt_requests
from components.diffusion.sampling.sampler import sample_bank
from components.diffusion.training.methods import method_for
from tests.components.diffusion.conftest import Folders, configure, cut_power, train

FAST: dict[str, Any] = {"steps": 4, "learning_rate": 1e-2, "checkpoint_every": 2}


def test_what_the_rows_bring() -> None:
    artist, lora, styler = (method_for(MethodSection(name=name)) for name in ("dreamartist", "dreamartist-lora", "dreamstyler"))  # type: ignore[arg-type]
    assert artist.recipe.new_tokens == lora.recipe.new_tokens == {"<sks>": 3, "<sks-neg>": 6}
    assert (artist.loss.name, artist.loss.guidance, lora.loss.guidance, lora.token_rate) == ("guided", 5.0, 3.0, 2.5e-3)
    assert styler.recipe.new_tokens == {f"<sks-T{stage}>": 1 for stage in range(6)}
    assert styler.concepts[0].prompt == "a photo of <sks> style, {caption}"
    changed = method_for(MethodSection(name="dreamartist", vectors=1, negative_vectors=10)).recipe
    assert changed.new_tokens == {"<sks>": 1, "<sks-neg>": 10}


@pytest.mark.parametrize("name", ["dreamartist", "dreamartist-lora"])
def test_both_tokens_learn_by_guidance_and_resume_bit_for_bit(tiny_base: Path, folders: Folders, name: str) -> None:
    config = configure(tiny_base, method={"name": name, "initial_word": "style"}, training={**FAST, "weight_decay": 0.0})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", step=2)
    assert (whole / DELTA_FILE).read_bytes() == (train(config, folders, "parts") / DELTA_FILE).read_bytes()
    family = load_bundle(tiny_base, device="cpu").family
    table = family.text_encoders["text_encoder"].get_input_embeddings().weight
    word = table[family.tokenizers["text_encoder"]("style", add_special_tokens=False).input_ids[0]]
    rows = {key.rpartition(".")[2]: value for key, value in load_file(whole / DELTA_FILE).items() if ".tokens." in key}
    # Four steps of Adam are about as long as four learning rates; noise at the beginning is a thousandth.
    rate = 2.5e-3 if name == "dreamartist-lora" else 1e-2
    for token in ("<sks>", "<sks-neg>"):
        assert rate < (rows[token] - word).abs().max() < 5 * rate + 6e-3
    if name == "dreamartist-lora":
        assert any("lora_B" in key and value.any() for key, value in load_file(whole / DELTA_FILE).items())


def test_a_model_is_drawn_away_from_its_negative_token(tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    model = train(configure(tiny_base, method={"name": "dreamartist"}, training=FAST), folders)
    card = read_card(model)
    assert card["concepts"][0]["negative"] == "<sks-neg>"
    settings = sampling_settings(card, {"guidance": 5.0})
    requests = prompt_requests(card, settings, ["a man"])
    bundle = load_bundle(model, device="cpu")
    latents = torch.randn((1, *bundle.family.latent_shape()), generator=torch.Generator().manual_seed(0))
    time = torch.tensor(500)
    with torch.no_grad():
        drawn = Guidance(bundle, settings).for_jobs(jobs_for(requests, 1, 0), 3)(latents, time, 0)
        against, toward = (
            bundle.family.predict(latents, time, bundle.family.encode_prompts([prompt]))
            for prompt in (requests[0].full_prompt.replace("<sks>", "<sks-neg>"), requests[0].full_prompt)
        )
    assert "<sks>" in requests[0].full_prompt
    torch.testing.assert_close(drawn, against + 5.0 * (toward - against), rtol=0, atol=1e-4)
    drawn_into = sample_bank(model, requests, settings.model_copy(update={"repeats": 1}), 0, tmp_path / "drawn")
    assert len(list((drawn_into / "images").iterdir())) == 1


def test_a_model_with_stages_is_drawn_by_those_of_each_step(tiny_base: Path, folders: Folders) -> None:
    config = configure(tiny_base, method={"name": "dreamstyler"}, training={**FAST, "steps": 12, "learning_rate": 0.1, "batch_size": 4})
    model = train(config, folders)
    rows = load_file(model / DELTA_FILE)
    assert set(rows) == {f"text_encoder.tokens.<sks-T{stage}>" for stage in range(6)}
    assert len({tuple(value.flatten().tolist()) for value in rows.values()}) == 6
    card = read_card(model)
    settings = sampling_settings(card, {"guidance": 5.0})
    requests = prompt_requests(card, settings, ["a man"])
    bundle = load_bundle(model, device="cpu")
    family = bundle.family
    latents = torch.randn((1, *family.latent_shape()), generator=torch.Generator().manual_seed(0))
    predict = Guidance(bundle, settings).for_jobs(jobs_for(requests, 1, 0), 3)
    with torch.no_grad():
        for step, (time, stage) in enumerate(((999, 5), (500, 3), (20, 0))):
            # ε_∅, ε_ns (the prompt without the style), ε_nc (without the content) and ε.
            prompts = ("", "a photo of a man", f"a photo of <sks-T{stage}> style", f"a photo of <sks-T{stage}> style, a man")
            empty, content, style, whole = (
                family.predict(latents, torch.tensor(time), family.encode_prompts([prompt])) for prompt in prompts
            )
            by_hand = empty + 1.5 * (content - empty) + 0.25 * (whole - content) + 0.25 * (style - empty) + 1.5 * (whole - style)
            by_hand += 5.0 * (whole - empty)
            torch.testing.assert_close(predict(latents, torch.tensor(time), step), by_hand, rtol=0, atol=1e-4)
