"""The pocket base's UNet and text encoder, trained together from scratch.

A text encoder trained on a contrastive loss alone loses the background from its token states, so it is trained here, on
the denoising loss. Noise prediction, min-SNR weighting (γ = 5; Hang et al. 2023), 10 % empty captions for guidance, EMA.
The weighting changes how often a timestep is drawn instead of scaling its loss, and the timesteps of a batch are
stratified: the same expectation with less variance, and no forward pass spent on timesteps that would hardly count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from components.bases.timed import TimedRun, device_of, initialising, mixed_precision
from components.bases.tokenizer import MAX_LENGTH, text_config
from components.bases.train_vae import LATENTS
from components.core.content import derive_seed

CHANNELS = (48, 96, 160)
TEXT_WIDTH, BATCH = 128, 32
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
NOISE_OFFSET = 0.1
"""Standard deviation of a constant added to each channel's noise. At the last timestep a picture's mean shows through the noise
(ᾱ = 0.005). Without the offset, the network learns to read brightness from it; in sampling there is only noise to read, and dark
or unevenly lit styles come out half as dark."""


def new_unet() -> UNet2DConditionModel:
    """A fresh UNet: attention on the two lower levels, one layer per block."""
    with initialising("unet"):
        return UNet2DConditionModel(
            sample_size=16,
            in_channels=LATENTS,
            out_channels=LATENTS,
            layers_per_block=1,
            block_out_channels=CHANNELS,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A fresh CLIP text encoder of 3 layers."""
    with initialising("text"):
        return CLIPTextModel(text_config(tokenizer, TEXT_WIDTH, layers=3))


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(N, MAX_LENGTH) token ids, padded as Stable Diffusion pads."""
    ids = tokenizer(texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt").input_ids
    return torch.as_tensor(ids)


def whole_captions(tokenizer: CLIPTokenizer, captions: list[str]) -> list[int]:
    """Indices of the captions that fit into MAX_LENGTH tokens: a truncated one would lose its end, often the background."""
    return [index for index, ids in enumerate(tokenizer(captions, verbose=False).input_ids) if len(ids) <= MAX_LENGTH]


def train_unet(
    latents: torch.Tensor,
    captions: list[str],
    tokenizer: CLIPTokenizer,
    work: Path,
    budget: float,
    device: str | None = None,
    start: Path | None = None,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train UNet and text encoder on scaled ``latents`` (N, 8, 16, 16), from ``start`` (diffusers layout) if given; returns EMA weights."""
    where = device_of(device)
    unet, text = (part.to(where).train() for part in _networks(tokenizer, start))
    averages = torch.nn.ModuleList(_networks(tokenizer, start)).to(where).requires_grad_(False)
    groups = [{"params": list(unet.parameters()), "lr": 1e-3}, {"params": list(text.parameters()), "lr": 6e-4, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    run = TimedRun(work, "unet", budget, {"unet": unet, "text": text, "ema": averages}, optimizer)
    tokens = tokenize(tokenizer, [*captions, ""]).to(where)
    scheduler = DDPMScheduler(**NOISE)
    shares = time_shares(scheduler.alphas_cumprod)
    for step in run.steps(warmup=200):
        generator = torch.Generator().manual_seed(derive_seed(0, "pocket-unet", step))
        rows = torch.randint(0, len(latents), (BATCH,), generator=generator)
        empty = torch.rand(BATCH, generator=generator) < 0.1
        clean = latents[rows].float()
        noise = draw_noise(clean.shape, generator)
        times = draw_times(shares, BATCH, generator)
        noisy = scheduler.add_noise(clean, noise, times)
        ids = tokens[torch.where(empty, len(captions), rows)]
        with mixed_precision(where):
            states = text(ids).last_hidden_state
            predicted = unet(noisy.to(where), times.to(where), states).sample
        loss = (predicted.float() - noise.to(where)).square().mean()
        run.learn(loss, [*unet.parameters(), *text.parameters()])
        if step % 5 == 4:
            average(averages, (unet, text), min(0.9985, (1 + step) / (10 + step)) ** 5)
    unet_ema, text_ema = averages
    assert isinstance(unet_ema, UNet2DConditionModel) and isinstance(text_ema, CLIPTextModel)
    return unet_ema.eval(), text_ema.eval()


def draw_noise(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise (N, C, h, w) plus ``NOISE_OFFSET`` times another normal number per plane (h, w), which noises brightness."""
    noise = torch.randn(shape, generator=generator)
    return noise + NOISE_OFFSET * torch.randn((*shape[:2], 1, 1), generator=generator)


def time_shares(alphas_cumprod: torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
    """Cumulative probabilities (T,) of the timesteps, each proportional to min(SNR, γ)/SNR (eq. 6 for noise prediction)."""
    snr = alphas_cumprod.double() / (1 - alphas_cumprod.double())
    weights = snr.clamp(max=gamma) / snr
    return weights.cumsum(0) / weights.sum()


def draw_times(shares: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` timesteps, one from each of ``count`` equally likely strata: (count,) int64."""
    points = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    return torch.searchsorted(shares, points, right=True).clamp(max=len(shares) - 1)


def _networks(tokenizer: CLIPTokenizer, start: Path | None) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    if start is None:
        return new_unet(), new_text_encoder(tokenizer)
    unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
    return unet, CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)


@torch.no_grad()
def average(averages: torch.nn.ModuleList, models: tuple[torch.nn.Module, ...], decay: float) -> None:
    """Move each average towards its model by ``1 - decay``."""
    for average, model in zip(averages, models, strict=True):
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - decay)


def mirrored(pixels: np.ndarray) -> np.ndarray:
    """The pictures (N, H, W, 3), flipped left to right."""
    return np.ascontiguousarray(pixels[:, :, ::-1])
