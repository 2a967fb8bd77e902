"""The flow bases: Stable Diffusion 3's architecture in miniature, the transformer trained from scratch by flow matching.

The two CLIP text encoders are trained with it. As in SD3, the first one comes pretrained: it is the UNet base's, or both come from
:mod:`components.bases.train_text`. There is no T5. x_t = (1 - σ) x₀ + σ ε, target ε - x₀ (Esser et al. 2024), stratified logit-normal
times, 10 % empty captions, EMA.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from components.bases.timed import TimedRun, compiled, device_of, initialising, mixed_precision
from components.bases.tokenizer import text_config
from components.bases.train_unet import TEXT_WIDTH, average, tokenize
from components.core.content import derive_seed

Networks = tuple[SD3Transformer2DModel, CLIPTextModelWithProjection, CLIPTextModelWithProjection]
LATENTS = 12
WIDTH, HEADS, LAYERS = 192, 3, 4
SECOND_WIDTH = 64
BATCH = 32
FLOW = {"num_train_timesteps": 1000, "shift": 2.0}
"""Scheduler settings of the saved base. What a picture shows is decided at high noise, so the shift makes fine-tuning and sampling
spend more time there; the base's own training is not shifted. SD3 has 3, for 128 × 128 latents."""


def new_transformer() -> SD3Transformer2DModel:
    """A fresh transformer: 16 × 16 latents in 64 patches of 2 × 2, queries and keys normalised as in SD3.5."""
    joint = TEXT_WIDTH + SECOND_WIDTH
    with initialising("transformer"):
        model = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=LATENTS,
            out_channels=LATENTS,
            num_layers=LAYERS,
            attention_head_dim=WIDTH // HEADS,
            num_attention_heads=HEADS,
            joint_attention_dim=joint,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=joint,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
        )
        _begin_at_zero(model)
    return model


def _begin_at_zero(model: SD3Transformer2DModel) -> None:
    """Initialise each block as the identity and the output as zero (adaLN-Zero; Peebles & Xie 2023)."""
    last = [model.norm_out.linear, model.proj_out]
    for block in model.transformer_blocks:
        last += [block.norm1.linear, block.norm1_context.linear]
    for layer in last:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


def new_text_encoders(tokenizer: CLIPTokenizer, first: Path) -> tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection]:
    """The UNet base's text encoder, from the folder ``first``, with an identity projection, and a fresh one of 2 layers."""
    learnt = CLIPTextModel.from_pretrained(first, torch_dtype=torch.float32)
    with initialising("text-2"):
        one, two = (
            CLIPTextModelWithProjection(text_config(tokenizer, width, layers)) for width, layers in ((TEXT_WIDTH, 3), (SECOND_WIDTH, 2))
        )
    one.text_model.load_state_dict(learnt.state_dict())
    torch.nn.init.eye_(one.text_projection.weight)
    return one, two


def encode_prompts(encoders: tuple[torch.nn.Module, ...], ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states (N, L, 192) and pooled embeddings (N, 192), as in SD3: the penultimate hidden states, and the projections."""
    found = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    return torch.cat([one.hidden_states[-2] for one in found], dim=-1), torch.cat([one.text_embeds for one in found], dim=-1)


def train_flow(
    latents: torch.Tensor, captions: list[str], tokenizer: CLIPTokenizer, work: Path, budget: float, device: str | None,
    fresh: Callable[[], Networks],
) -> Networks:  # fmt: skip
    """Train transformer and text encoders on shifted and scaled ``latents`` (N, 12, 16, 16); returns their EMA weights.

    ``fresh`` makes the networks that the training starts from.
    """
    where = device_of(device)
    transformer, *texts = (part.to(where).train() for part in fresh())
    averages = torch.nn.ModuleList(fresh()).to(where).requires_grad_(False)
    groups = [
        {"params": list(transformer.parameters()), "lr": 1e-3},
        {"params": list(texts[0].parameters()), "lr": 3e-4, "weight_decay": 0.0},
        {"params": list(texts[1].parameters()), "lr": 6e-4, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    modules = {"transformer": transformer, "text": texts[0], "text_2": texts[1], "ema": averages}
    run = TimedRun(work, "transformer", budget, modules, optimizer)
    tokens = tokenize(tokenizer, [*captions, ""]).to(where)
    parameters = [*transformer.parameters(), *texts[0].parameters(), *texts[1].parameters()]

    def velocity(noisy: torch.Tensor, ids: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        states, pooled = encode_prompts((texts[0], texts[1]), ids)
        return transformer(noisy, states, pooled, 1000 * sigmas).sample

    predict = compiled(velocity, where, budget)
    for step in run.steps(warmup=500):
        generator = torch.Generator().manual_seed(derive_seed(0, "pocket-flow", step))
        rows = torch.randint(0, len(latents), (BATCH,), generator=generator)
        empty = torch.rand(BATCH, generator=generator) < 0.1
        clean = latents[rows].float()
        noise = torch.randn(clean.shape, generator=generator)
        sigmas = draw_sigmas(BATCH, generator)
        level = sigmas[:, None, None, None]
        noisy, target = (1 - level) * clean + level * noise, noise - clean
        ids = tokens[torch.where(empty, len(captions), rows)]
        with mixed_precision(where):
            predicted = predict(noisy.to(where), ids, sigmas.to(where))
        run.learn((predicted.float() - target.to(where)).square().mean(), parameters)
        if step % 5 == 4:
            average(averages, (transformer, *texts), min(0.9985, (1 + step) / (10 + step)) ** 5)
    transformer_ema, first_ema, second_ema = averages
    assert isinstance(transformer_ema, SD3Transformer2DModel)
    assert isinstance(first_ema, CLIPTextModelWithProjection) and isinstance(second_ema, CLIPTextModelWithProjection)
    return transformer_ema.eval(), first_ema.eval(), second_ema.eval()


def draw_sigmas(count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` noise levels sigmoid(N(0, 1)), one from each of ``count`` equally likely strata: (count,) float32, ascending."""
    points = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    return torch.special.ndtri(points.clamp(1e-6, 1 - 1e-6)).sigmoid().float()


def read_networks(folder: Path) -> Networks:
    """The transformer and the text encoders of a flow base in diffusers layout."""
    one, two = (
        CLIPTextModelWithProjection.from_pretrained(folder / name, torch_dtype=torch.float32) for name in ("text_encoder", "text_encoder_2")
    )
    return SD3Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32), one, two
