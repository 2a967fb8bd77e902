"""The pocket base's VAE: AutoencoderKL, 64 × 64 × 3 → 16 × 16 × 8, trained on crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from components.core.content import derive_seed
from components.pocket.timed import TimedRun, device_of, initialising

CHANNELS, LATENTS = (32, 48, 64), 8
BATCH, CROP = 16, 32


def new_vae() -> AutoencoderKL:
    """A fresh VAE with a fixed initialisation."""
    with initialising("vae"):
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=LATENTS,
            block_out_channels=CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=64,
            mid_block_add_attention=False,
        )


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(N, H, W, 3) uint8 → (N, 3, H, W) float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(pixels: NDArray[np.uint8], work: Path, budget: float, device: str | None = None) -> AutoencoderKL:
    """Train for ``budget`` seconds on ``pixels`` (N, 64, 64, 3); returns the VAE in eval mode with its scaling factor set."""
    vae = new_vae()
    _train(vae, list(vae.parameters()), pixels, work, "vae", budget, device, rate=1.5e-3)
    vae.register_to_config(scaling_factor=round(float(1 / encode(vae, pixels[:1024]).std()), 5))
    return vae


def polish_decoder(vae: AutoencoderKL, pixels: NDArray[np.uint8], work: Path, budget: float, device: str | None = None) -> AutoencoderKL:
    """Train the decoder alone for ``budget`` seconds: sharper pictures from the same latents, so the UNet stays right."""
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    _train(vae, [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()], pixels, work, "decoder", budget, device, rate=1e-3)
    return vae


def _train(
    vae: AutoencoderKL,
    parameters: list[torch.nn.Parameter],
    pixels: NDArray[np.uint8],
    work: Path,
    part: str,
    budget: float,
    device: str | None,
    rate: float,
) -> None:
    """The loop of both. Loss: L1 + a squared error + L1 of the gradients (keeps contours sharp) + a faint KL term."""
    where = device_of(device)
    vae.to(where, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    run = TimedRun(work, part, budget, {"vae": vae}, optimizer)
    for step in run.steps():
        rng = np.random.default_rng(derive_seed(0, f"pocket-{part}", step))
        rows = rng.integers(0, len(pixels), BATCH)
        top, left = rng.integers(0, (64 - CROP) // 4 + 1, 2) * 4
        x = to_tensor(pixels[rows][:, top : top + CROP, left : left + CROP]).to(where, memory_format=torch.channels_last)
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            posterior = vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(derive_seed(0, f"pocket-{part}-noise", step)))
            decoded = vae.decode(posterior.mean + posterior.std * noise.to(where)).sample
        error = decoded.float() - x
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + 3e-5 * kl
        run.learn(loss, parameters, l1=float(error.detach().abs().mean()), kl=float(kl.detach()))
    vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: NDArray[np.uint8], batch: int = 64) -> torch.Tensor:
    """Means of the posteriors, unscaled: (N, 8, 16, 16) float32 on the CPU."""
    parts = [
        vae.encode(to_tensor(pixels[i : i + batch]).to(vae.device)).latent_dist.mean.float().cpu() for i in range(0, len(pixels), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def psnr(vae: AutoencoderKL, pixels: NDArray[np.uint8], batch: int = 64) -> float:
    """Mean over pictures of the peak signal-to-noise ratio of the reconstruction, in dB, on uint8 pictures."""
    values: list[torch.Tensor] = []
    for i in range(0, len(pixels), batch):
        x = to_tensor(pixels[i : i + batch]).to(vae.device)
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        error = (((y + 1) * 127.5).round() - ((x + 1) * 127.5).round()).square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp(min=1e-6)))
    return float(torch.cat(values).mean())
