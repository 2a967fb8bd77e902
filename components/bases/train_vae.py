"""The pocket bases' VAE: AutoencoderKL, 64 × 64 × 3 → 16 × 16 × 8 (12 channels for the flow base), trained on crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from components.bases.timed import TimedRun, device_of, initialising, mixed_precision
from components.core.content import derive_seed

CHANNELS, LATENTS = (32, 48, 64), 8
BATCH, CROP = 16, 32


def new_vae(latents: int = LATENTS) -> AutoencoderKL:
    """A fresh VAE with ``latents`` latent channels and a fixed initialisation."""
    with initialising("vae"):
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=latents,
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


def train_vae(
    vae: AutoencoderKL,
    pixels: NDArray[np.uint8],
    work: Path,
    budget: float,
    device: str | None = None,
    *,
    rate: float = 1.5e-3,
    shifted: bool = False,
) -> AutoencoderKL:
    """Train for ``budget`` seconds on ``pixels`` (N, 64, 64, 3); returns the VAE in eval mode with its scaling factor set.

    With ``shifted``, the latents' mean is also set as its shift factor, as in SD3.
    """
    _train(vae, list(vae.parameters()), pixels, work, "vae", budget, device, rate)
    latents = encode(vae, pixels[:1024])
    shift = {"shift_factor": round(float(latents.mean()), 5)} if shifted else {}
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5), **shift)
    return vae


@torch.no_grad()
def widened_vae(learnt: AutoencoderKL, latents: int) -> AutoencoderKL:
    """A VAE with more latent channels that starts as ``learnt``: its first channels are copied, the decoder ignores the rest at first."""
    vae, known, before = new_vae(latents), learnt.state_dict(), learnt.config.latent_channels
    # Of a posterior's 2 × L channels, the first half are means and the second half log-variances.
    kept = {latents: list(range(before)), 2 * latents: [*range(before), *range(latents, latents + before)]}
    for name, value in vae.state_dict().items():
        if value.shape == known[name].shape:
            value.copy_(known[name])
            continue
        rows = torch.tensor(kept.get(value.shape[0], range(value.shape[0])))
        value[rows] = 0.0
        if value.ndim == 1:
            value[rows] = known[name]
        else:
            columns = torch.tensor(kept.get(value.shape[1], range(value.shape[1])))
            value[rows[:, None], columns] = known[name]
    return vae


def polish_decoder(vae: AutoencoderKL, pixels: NDArray[np.uint8], work: Path, budget: float, device: str | None = None) -> AutoencoderKL:
    """Train the decoder alone for ``budget`` seconds: sharper pictures from the same latents, so the denoiser remains valid."""
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
    """The training loop of both. Loss: L1 + squared error + L1 of the image gradients (keeps contours sharp) + a weak KL term."""
    where = device_of(device)
    vae.to(where, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    run = TimedRun(work, part, budget, {"vae": vae}, optimizer)
    for step in run.steps():
        rng = np.random.default_rng(derive_seed(0, f"pocket-{part}", step))
        rows = rng.integers(0, len(pixels), BATCH)
        top, left = rng.integers(0, (64 - CROP) // 4 + 1, 2) * 4
        x = to_tensor(pixels[rows][:, top : top + CROP, left : left + CROP]).to(where, memory_format=torch.channels_last)
        with mixed_precision(where):
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
    """Means of the posteriors, unscaled: (N, C, 16, 16) float32 on the CPU."""
    vae.to(memory_format=torch.channels_last)
    with mixed_precision(vae.device):
        batches = (to_tensor(pixels[i : i + batch]).to(vae.device, memory_format=torch.channels_last) for i in range(0, len(pixels), batch))
        parts = [vae.encode(x).latent_dist.mean.float().cpu() for x in batches]
    return torch.cat(parts)


@torch.no_grad()
def psnr(vae: AutoencoderKL, pixels: NDArray[np.uint8], batch: int = 64) -> float:
    """Peak signal-to-noise ratio of the reconstructions, rounded to uint8, as a mean over pictures, in dB."""
    values: list[torch.Tensor] = []
    for i in range(0, len(pixels), batch):
        x = to_tensor(pixels[i : i + batch]).to(vae.device)
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        error = (((y + 1) * 127.5).round() - ((x + 1) * 127.5).round()).square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp(min=1e-6)))
    return float(torch.cat(values).mean())
