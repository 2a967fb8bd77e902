"""The pocket bases from outside: what is drawn with a flow base as ``base train`` saves it, and what is said where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from components.bases.check import check_pictures
from components.bases.probe import load_probe
from components.bases.saving import save_flow
from components.bases.tokenizer import MAX_LENGTH, read_tokenizer
from components.bases.train_flow import LATENTS, new_text_encoders, new_transformer
from components.bases.train_vae import new_vae
from components.core.config import SamplingSection, load_config
from components.core.errors import InputError
from components.core.paths import embedded_weights
from components.diffusion.models.bundle import load_bundle
from components.pocket.world import POCKET
from runs.bases import check, draw


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow base that has learnt nothing."""
    folder, first = tmp_path_factory.mktemp("pocket") / "flow", embedded_weights("base")
    vae, transformer, tokenizer = new_vae(LATENTS), new_transformer(), read_tokenizer(first / "tokenizer")
    vae.register_to_config(scaling_factor=0.5, shift_factor=-0.1)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    save_flow(folder, vae, (transformer, *new_text_encoders(tokenizer, first / "text_encoder")), tokenizer)
    return folder


def test_a_flow_base_draws_here_as_in_diffusers(flow: Path) -> None:
    family = load_bundle(flow).family
    question = POCKET.questions(1)[0]
    assert family.latent_shape() == (LATENTS, 16, 16)
    ours = family.encode_prompts([question.prompt])
    pipeline = StableDiffusion3Pipeline.from_pretrained(flow, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32)
    states, _, pooled, _ = pipeline.encode_prompt(
        question.prompt, question.prompt, question.prompt, do_classifier_free_guidance=False, max_sequence_length=0
    )
    assert ours.states.shape == (1, MAX_LENGTH, 192)
    torch.testing.assert_close((ours.states, ours.pooled), (states, pooled))
    pictures = draw(flow, [question], SamplingSection(steps=2, guidance=2.0))
    assert pictures.shape == (1, 64, 64, 3) and pictures.dtype == np.uint8


def test_the_flow_base_draws_what_it_is_asked_for() -> None:
    """A few pictures, in half the steps: `styleforge base check pocket-flow` has the bars."""
    questions = POCKET.questions(24)
    settings = load_config("pocket-flow").sampling.model_copy(update={"steps": 10})
    found = check_pictures(load_probe(embedded_weights("probe"), POCKET), POCKET, draw("pocket-flow", questions, settings), questions)
    assert found["background"] >= 90 and found["subject"] >= 75


def test_a_base_without_weights_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.core.model_ref.embedded_weights", lambda part: tmp_path / part)
    with pytest.raises(InputError, match=r"base.model=pocket-flow: the embedded weights are missing.*base train pocket-flow"):
        check("pocket-flow", ["vae"], print)
