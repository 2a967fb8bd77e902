from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.diffusion.training import objective

ALPHAS = torch.tensor([0.99, 0.8, 0.5, 0.1, 0.01])


def test_noising_and_targets_are_the_papers_by_hand() -> None:
    clean, noise = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), -2.0)
    timesteps = torch.tensor([1, 3])
    noisy = objective.add_noise(clean, noise, ALPHAS, timesteps).flatten().tolist()
    assert noisy == pytest.approx([math.sqrt(0.8) * 3 - math.sqrt(0.2) * 2, math.sqrt(0.1) * 3 - math.sqrt(0.9) * 2])
    assert objective.target(clean, noise, ALPHAS, timesteps, "epsilon") is noise
    velocity = objective.target(clean, noise, ALPHAS, timesteps, "v_prediction").flatten().tolist()
    assert velocity == pytest.approx([-math.sqrt(0.8) * 2 - math.sqrt(0.2) * 3, -math.sqrt(0.1) * 2 - math.sqrt(0.9) * 3])
    with pytest.raises(ValueError, match="sample"):
        objective.target(clean, noise, ALPHAS, timesteps, "sample")


def test_noising_and_velocity_agree_with_diffusers() -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction")
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn((2, 3, 4, 2, 2), generator=generator)
    timesteps = torch.tensor([0, 500, 999])
    torch.testing.assert_close(
        objective.add_noise(clean, noise, scheduler.alphas_cumprod, timesteps), scheduler.add_noise(clean, noise, timesteps)
    )
    wanted = scheduler.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(objective.target(clean, noise, scheduler.alphas_cumprod, timesteps, "v_prediction"), wanted)


def test_min_snr_by_hand_for_both_predictions() -> None:
    timesteps = torch.arange(5)
    ratio = objective.snr(ALPHAS, timesteps)
    by_hand = [0.99 / 0.01, 0.8 / 0.2, 1.0, 0.1 / 0.9, 0.01 / 0.99]
    assert ratio.tolist() == pytest.approx(by_hand, rel=1e-4)
    assert objective.min_snr_weights(ratio, 5.0, "epsilon").tolist() == pytest.approx([min(s, 5) / s for s in by_hand], rel=1e-4)
    assert objective.min_snr_weights(ratio, 5.0, "v_prediction").tolist() == pytest.approx([min(s, 5) / (s + 1) for s in by_hand], rel=1e-4)


@given(st.floats(0.0, 1e6), st.floats(0.1, 100.0))
def test_min_snr_weights_stay_in_bounds_even_at_zero_snr(ratio: float, gamma: float) -> None:
    epsilon = objective.min_snr_weights(torch.tensor([ratio]), gamma, "epsilon").item()
    velocity = objective.min_snr_weights(torch.tensor([ratio]), gamma, "v_prediction").item()
    assert 0.0 < epsilon <= 1.0 + 1e-6
    assert 0.0 <= velocity <= 1.0


def test_weights_are_per_sample_so_that_min_snr_and_the_prior_compose() -> None:
    # Fault 1 of the public scripts: with 2 B losses and B weights, shapes broadcast silently to (2 B, B).
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    prior = 0.3
    mixed = torch.tensor([1 / 2, 1 / 2, prior / 3, prior / 3, prior / 3])
    timesteps = torch.tensor([0, 1, 2, 3, 4])
    plain = objective.sample_weights(mixed, ALPHAS, timesteps, "epsilon", None)
    assert (losses * plain).sum().item() == pytest.approx(1.5 + prior * 4.0)
    weighted = objective.sample_weights(mixed, ALPHAS, timesteps, "epsilon", 5.0)
    assert weighted.shape == (5,)
    snr = [99.0, 4.0, 1.0, 1 / 9, 1 / 99]
    min_snr = [min(s, 5) / s for s in snr]
    by_hand = (1 * min_snr[0] + 2 * min_snr[1]) / 2 + prior * (3 * min_snr[2] + 4 * min_snr[3] + 5 * min_snr[4]) / 3
    assert (losses * weighted).sum().item() == pytest.approx(by_hand, rel=1e-4)


def test_the_loss_is_a_mean_of_each_sample_in_fp32() -> None:
    prediction = torch.zeros((2, 1, 2, 2), dtype=torch.float16)
    wanted = torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 300.0)])
    # 300² overflows fp16.
    losses = objective.per_sample_loss(prediction, wanted)
    assert losses.dtype == torch.float32
    assert losses.tolist() == [4.0, 90000.0]


def test_offset_noise_moves_whole_channels() -> None:
    shape = torch.Size((4, 3, 64, 64))
    plain = objective.draw_noise(shape, torch.Generator().manual_seed(0))
    moved = objective.draw_noise(shape, torch.Generator().manual_seed(0), offset=0.5) - plain
    assert torch.equal(plain, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert moved.std(dim=(2, 3)).max() < 1e-5
    assert moved.mean(dim=(2, 3)).std() > 0.1
