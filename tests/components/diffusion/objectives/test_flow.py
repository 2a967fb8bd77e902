import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from components.core.config import TimesSection, TrainingSection
from components.diffusion.objectives.flow import FlowObjective

SD3 = FlowObjective({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
FLUX = FlowObjective({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_dynamic_shifting": True})
AT_1024 = 128 * 128
TIMES = torch.tensor([1.0, 250.0, 500.0, 999.0])


def drawn(objective: FlowObjective, count: int = 20_000, places: int = AT_1024, **section: object) -> torch.Tensor:
    law = objective.law(TimesSection.model_validate(section))
    return objective.draw_times(law, count, torch.Generator().manual_seed(0), places)


def test_the_line_from_picture_to_noise_and_its_velocity() -> None:
    clean, noise = torch.full((4, 1, 1, 1), 3.0), torch.full((4, 1, 1, 1), -2.0)
    noisy, target = SD3.corrupt(clean, noise, TIMES)
    assert noisy.flatten().tolist() == pytest.approx([3 - 5 * 0.001, 3 - 5 * 0.25, 0.5, 3 - 5 * 0.999])
    assert target.flatten().tolist() == [-5.0] * 4
    assert SD3.noise(noisy, target, TIMES).flatten().tolist() == pytest.approx([-2.0] * 4)
    assert SD3.log_snr(TIMES).tolist() == pytest.approx([2 * math.log((1000 - time) / time) for time in TIMES.tolist()], abs=1e-3)
    assert SD3.spread_times(4).tolist() == [125.0, 375.0, 625.0, 875.0]


def test_dynamic_shift_is_applied_in_training() -> None:
    # Fault 1: left to the scheduler, a dynamic shift never reaches the times of training, whose median then is 0.50.
    levels = drawn(FLUX) / 1000
    assert FLUX.shift_for(AT_1024) == pytest.approx(3.16, abs=0.01) and FLUX.shift_for(64 * 64) == pytest.approx(1.88, abs=0.01)
    assert levels.median().item() == pytest.approx(0.76, abs=0.01)
    assert (levels > 0.9).float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (drawn(FLUX, places=64 * 64) / 1000).median().item() == pytest.approx(1.88 / 2.88, abs=0.01)
    assert (drawn(FLUX, shift="none") / 1000).median().item() == pytest.approx(0.5, abs=0.01)


def test_a_static_shift_is_the_bases_own() -> None:
    assert (drawn(SD3) / 1000).median().item() == pytest.approx(0.75, abs=0.01)
    assert (drawn(SD3, shift=1.0) / 1000).median().item() == pytest.approx(0.5, abs=0.01)


def test_a_positive_mean_is_more_noise() -> None:
    # Fault 2: diffusers' `logit_mean` has the other sign: 0.30 at +1, 0.70 at −1.
    means = [(drawn(SD3, mean=mean, shift="none") / 1000).mean().item() for mean in (1.0, -1.0)]
    assert means == pytest.approx([0.70, 0.30], abs=0.01)


def test_no_weight_is_a_million() -> None:
    # Fault 3: σ⁻² weighs a sample at the least level a million times, and is cancelled by preconditioning, the script's default.
    weights = SD3.loss_weights(TIMES, TrainingSection(loss_weighting="sigma_sqrt"))
    assert weights is not None and weights.tolist() == pytest.approx([100.0, 16.0, 4.0, 1 / 0.999**2])
    assert SD3.loss_weights(TIMES, TrainingSection()) is None
    cosmap = SD3.loss_weights(TIMES, TrainingSection(loss_weighting="cosmap"))
    assert cosmap is not None and cosmap[2].item() == pytest.approx(4 / math.pi)


def test_min_snr_weighs_the_error_of_the_picture() -> None:
    # x₀ = x_t − σ v, so its squared error is σ² times that of v, and shall weigh min(SNR, γ).
    weights = SD3.loss_weights(TIMES, TrainingSection(min_snr_gamma=5.0))
    assert weights is not None
    by_hand = [level**2 * min(((1 - level) / level) ** 2, 5.0) for level in (0.001, 0.25, 0.5, 0.999)]
    assert weights.tolist() == pytest.approx(by_hand, rel=1e-4)


def test_times_are_exact_and_stay_in_range() -> None:
    # Fault 4: in bf16 only 506 of 1,000 levels are left, and a draw of 1.0 is an index beyond the last timestep.
    times = drawn(SD3, law="uniform", shift="none")
    assert times.dtype == torch.float32 and len(times.unique()) > 19_500

    class Edges(torch.Generator):
        pass

    law = SD3.law(TimesSection(law="uniform", shift="none", stratified=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0.0, 1.0], dtype=torch.float64))
        edges = SD3.draw_times(law, 2, Edges(), AT_1024)
    assert edges.min() > 0.0 and edges.max() <= 1000.0
    assert torch.isfinite(SD3.corrupt(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1), edges)[0]).all()


@pytest.mark.parametrize("objective", [SD3, FLUX])
def test_a_batch_is_stratified(objective: FlowObjective) -> None:
    law = objective.law(TimesSection())
    assert law.stratified
    whole = drawn(objective).quantile(torch.tensor([0.25, 0.5, 0.75]))
    batches = torch.stack([objective.draw_times(law, 4, torch.Generator().manual_seed(seed), AT_1024) for seed in range(50)])
    assert (torch.bucketize(batches, whole).sort(dim=1).values == torch.arange(4)).float().mean() > 0.97


def test_training_times_are_those_of_the_sampler() -> None:
    """Uniform levels, shifted, are what diffusers' scheduler steps through."""
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    theirs.set_timesteps(1000, mu=FLUX.mu_for(AT_1024))
    ours = drawn(FLUX, count=1000, law="uniform").sort(descending=True).values
    assert (ours - theirs.timesteps).abs().max() < 5.0
