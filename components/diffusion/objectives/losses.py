"""Building blocks of all losses, *per sample*, so that they compose. The objective decides what is predicted."""

import torch
import torch.nn.functional as F


def per_sample_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample, in fp32, shape (N,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def guided(against: torch.Tensor, towards: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance (Ho & Salimans, 2022), ``against + scale · (towards − against)``, of predictions of one shape."""
    return against + scale * (towards - against)


def calibrated_target(base: torch.Tensor, target: torch.Tensor, scale: float) -> torch.Tensor:
    """What to predict so that guidance by ``scale`` away from ``base`` yields ``target``: ``base + (target − base) / scale``.

    For a given noisy latent, ε, v and a flow's velocity are affine functions of one another, and the coefficients of this combination
    sum to 1, so the same formula holds for each of them.
    """
    return base + (target - base) / scale


def dco_loss(losses: torch.Tensor, base: torch.Tensor, beta: float) -> torch.Tensor:
    """−log σ(−β (L − L₀)) of each sample, shape (N,): Direct Consistency Optimization (Lee et al., 2024, equation 8).

    ``losses`` are the trained denoiser's, ``base`` the base's for the same noisy latents, both mean squared errors of
    what the family predicts (ε, v or a flow's velocity).
    """
    return F.softplus(beta * (losses - base))


def min_snr_weights(snr: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """min-SNR-γ loss weight of each sample, shape (N,) (Hang et al., 2023, section 3.4).

    min(snr, γ) / snr for ``epsilon`` and min(snr, γ) / (snr + 1) for ``v_prediction``. At zero terminal SNR the first has
    the limit 1.
    """
    clipped = snr.clamp(max=gamma)
    if prediction_type == "v_prediction":
        return clipped / (snr + 1.0)
    return torch.where(snr > 0, clipped / snr.clamp(min=torch.finfo(snr.dtype).tiny), torch.ones_like(snr))


def draw_noise(shape: torch.Size, generator: torch.Generator, offset: float = 0.0) -> torch.Tensor:
    """Gaussian noise of ``shape`` (N, C, h, w) on the generator's device.

    With ``offset`` > 0, offset noise: a constant of that standard deviation is added to each channel of each sample, so
    that the denoiser learns to move a picture's mean brightness.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    if offset:
        noise = noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator, device=generator.device)
    return noise
