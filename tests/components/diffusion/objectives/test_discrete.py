import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.core.config import TimesSection
from components.diffusion.models.bundle import Bundle
from components.diffusion.objectives.discrete import DiscreteObjective
from components.diffusion.objectives.losses import draw_noise, min_snr_weights, per_sample_loss

SNR = torch.tensor([99.0, 4.0, 1.0, 1 / 9, 1 / 99])


def test_times_are_uniform_and_belong_to_the_generator(bundle: Bundle) -> None:
    objective = bundle.family.objective
    drawn = objective.draw_times(objective.times, 500, torch.Generator().manual_seed(0), 256)
    assert torch.equal(drawn, torch.randint(0, 1000, (500,), generator=torch.Generator().manual_seed(0)))
    assert objective.spread_times(4).tolist() == [125, 375, 625, 875]


@pytest.mark.parametrize("law", [TimesSection(stratified=True), TimesSection(law="mode"), TimesSection(law="logit-normal")])
def test_a_draw_of_one_is_no_time_beyond_the_last(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, law: TimesSection) -> None:
    objective = bundle.family.objective
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0.0, 1.0], dtype=torch.float64))
    drawn = objective.draw_times(objective.law(law), 2, torch.Generator(), 256)
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() <= 999


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_target_says_which_noise_was_added(prediction_type: str) -> None:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    objective = DiscreteObjective({**betas, "prediction_type": prediction_type})
    clean, noise = torch.randn((2, 3, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    times = torch.tensor([1, 500, 999])
    torch.testing.assert_close(objective.noise(*objective.corrupt(clean, noise, times), times), noise, rtol=0, atol=1e-5)


@given(st.floats(0.0, 1e6), st.floats(0.1, 100.0))
def test_min_snr_weights_stay_in_bounds_even_at_zero_snr(ratio: float, gamma: float) -> None:
    epsilon, velocity = (min_snr_weights(torch.tensor([ratio]), gamma, name).item() for name in ("epsilon", "v_prediction"))
    assert 0.0 < epsilon <= 1.0 + 1e-6
    assert 0.0 <= velocity <= 1.0


def test_weights_are_per_sample_so_that_min_snr_and_the_prior_compose() -> None:
    # Fault 1 of the public scripts: with 2 B losses and B weights, shapes broadcast silently to (2 B, B).
    losses, prior = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 0.3
    mixed = torch.tensor([1 / 2, 1 / 2, prior / 3, prior / 3, prior / 3])
    weighted = mixed * min_snr_weights(SNR, 5.0, "epsilon")
    by_sample = [5 / 99, 1.0, 1.0, 1.0, 1.0]
    by_hand = (1 * by_sample[0] + 2 * by_sample[1]) / 2 + prior * (3 * by_sample[2] + 4 * by_sample[3] + 5 * by_sample[4]) / 3
    assert (losses * weighted).sum().item() == pytest.approx(by_hand, rel=1e-4)


def test_the_loss_is_a_mean_of_each_sample_in_fp32() -> None:
    prediction = torch.zeros((2, 1, 2, 2), dtype=torch.float16)
    # 300² overflows fp16.
    losses = per_sample_loss(prediction, torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 300.0)]))
    assert losses.dtype == torch.float32
    assert losses.tolist() == [4.0, 90000.0]


def test_offset_noise_moves_whole_channels() -> None:
    shape = torch.Size((4, 3, 64, 64))
    plain = draw_noise(shape, torch.Generator().manual_seed(0))
    moved = draw_noise(shape, torch.Generator().manual_seed(0), offset=0.5) - plain
    assert torch.equal(plain, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert moved.std(dim=(2, 3)).max() < 1e-5
    assert moved.mean(dim=(2, 3)).std() > 0.1
