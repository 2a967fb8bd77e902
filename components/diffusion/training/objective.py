"""The denoising objective: targets, signal-to-noise ratios, and losses and weights *per sample*, so that everything composes."""

from __future__ import annotations

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction")


def add_noise(clean: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """√ᾱ_t · x₀ + √(1 − ᾱ_t) · ε for each sample (Ho et al., 2020, equation 4).

    Args:
        clean: latents x₀, shape (N, C, h, w).
        noise: ε, same shape.
        alphas_cumprod: ᾱ, shape (T,).
        timesteps: t, integers of shape (N,).
    """
    signal, spread = _mix(alphas_cumprod, timesteps, clean.ndim)
    return signal * clean + spread * noise


def target(
    clean: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """What the network should predict, shape (N, C, h, w).

    ε for ``epsilon``; v = √ᾱ_t · ε − √(1 − ᾱ_t) · x₀ for ``v_prediction`` (Salimans & Ho, 2022, section 4).

    Raises:
        ValueError: for any other prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal, spread = _mix(alphas_cumprod, timesteps, clean.ndim)
        return signal * noise - spread * clean
    raise ValueError(f"unknown prediction type {prediction_type!r}")


def per_sample_loss(prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample, in fp32, shape (N,)."""
    return (prediction.float() - wanted.float()).square().flatten(1).mean(1)


def snr(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t) of each sample, shape (N,)."""
    alpha = alphas_cumprod[timesteps].float()
    return alpha / (1.0 - alpha)


def min_snr_weights(ratio: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """min-SNR-γ loss weight of each sample, shape (N,) (Hang et al., 2023, section 3.4).

    min(snr, γ) / snr for ``epsilon`` and min(snr, γ) / (snr + 1) for ``v_prediction``. At zero terminal SNR the first has
    the limit 1.
    """
    clipped = ratio.clamp(max=gamma)
    if prediction_type == "v_prediction":
        return clipped / (ratio + 1.0)
    return torch.where(ratio > 0, clipped / ratio.clamp(min=torch.finfo(ratio.dtype).tiny), torch.ones_like(ratio))


def sample_weights(
    weights: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    timesteps: torch.Tensor,
    prediction_type: str,
    gamma: float | None,
) -> torch.Tensor:
    """The mixed batch's weights with min-SNR multiplied in, shape (N,).

    ``weights`` already holds 1/B for StyleRef and λ/B' for Aux samples, so that ``(loss * weight).sum()`` is
    mean(StyleRef) + λ · mean(Aux).
    """
    if gamma is None:
        return weights
    return weights * min_snr_weights(snr(alphas_cumprod, timesteps), gamma, prediction_type)


def draw_noise(shape: torch.Size, generator: torch.Generator, offset: float = 0.0) -> torch.Tensor:
    """Gaussian noise of ``shape`` (N, C, h, w) on the generator's device.

    With ``offset`` > 0, offset noise: a constant of that standard deviation is added to each channel of each sample, so
    that the network learns to move a picture's mean brightness.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    if offset:
        noise = noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator, device=generator.device)
    return noise


def _mix(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    alpha = alphas_cumprod[timesteps].float().view(-1, *[1] * (dimensions - 1))
    return alpha.sqrt(), (1.0 - alpha).sqrt()
