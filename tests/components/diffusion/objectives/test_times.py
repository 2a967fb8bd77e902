from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from scipy.stats import norm

from components.core.config import TimesSection
from components.core.errors import ConfigError
from components.diffusion.models.bundle import load_bundle
from components.diffusion.objectives.base import Objective
from components.diffusion.objectives.flow import FlowObjective
from components.diffusion.objectives.times import TimeLaw, shifted

COUNT = 20_000


@pytest.fixture(scope="module")
def discrete(tiny_base: Path) -> Objective:
    return load_bundle(tiny_base, device="cpu").family.objective


def levels(law: TimeLaw, places: int = 128 * 128, count: int = COUNT) -> torch.Tensor:
    return law.levels(count, torch.Generator().manual_seed(0), places)


@pytest.mark.parametrize(
    ("section", "quantiles"),
    [
        ({"law": "uniform"}, {0.1: 0.1, 0.5: 0.5, 0.9: 0.9}),
        # A positive mean is more noise: diffusers' `logit_mean` has the other sign (0.30 at +1).
        ({"law": "logit-normal", "mean": 1.0}, {0.5: 1 / (1 + math.exp(-1)), 0.9: 1 / (1 + math.exp(-1 - norm.ppf(0.9)))}),
        ({"law": "mode", "scale": 1.29}, {0.5: 0.5, 0.9: 0.9 - 1.29 * (math.sin(math.pi / 2 * 0.9) ** 2 - 0.9)}),
        # λ ~ N(−6, 2²), σ = sigmoid(−λ/2).
        ({"law": "style-friendly"}, {0.5: 1 / (1 + math.exp(-3)), 0.1: 1 / (1 + math.exp(-(6 + 2 * norm.ppf(0.1)) / 2))}),
    ],
)
def test_laws_have_their_quantiles(section: dict[str, float], quantiles: dict[float, float]) -> None:
    drawn = levels(TimeLaw().changed(TimesSection(**section)))
    assert drawn.min() > 0.0 and drawn.max() < 1.0
    for share, wanted in quantiles.items():
        assert drawn.quantile(share).item() == pytest.approx(wanted, abs=0.01)


def test_style_friendly_levels_follow_the_size_of_the_picture() -> None:
    # λ − ln(128² / hw): −6 at 128², −4.6 at 64², −1.8 at 16².
    law = TimeLaw().changed(TimesSection(law="style-friendly"))
    medians = [-2 * torch.logit(levels(law, side * side).median()).item() for side in (128, 64, 16)]
    assert medians == pytest.approx([-6.0, -6.0 + 2 * math.log(2), -6.0 + 2 * math.log(8)], abs=0.06)


@pytest.mark.parametrize("law", ["uniform", "logit-normal", "mode", "style-friendly"])
def test_stratified_levels_fall_into_a_share_each(law: str) -> None:
    whole = TimeLaw().changed(TimesSection(law=law, stratified=True))
    bounds = levels(TimeLaw().changed(TimesSection(law=law))).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    drawn = torch.stack([whole.levels(4, torch.Generator().manual_seed(seed), 128 * 128) for seed in range(50)])
    # Quarters are found by sampling: a draw at a bound may seem to be in its neighbour.
    shares = torch.bucketize(drawn, bounds).sort(dim=1).values
    assert (shares == torch.arange(4)).float().mean() > 0.97
    # Which sample has which share is drawn too.
    assert len({tuple(row.argsort().tolist()) for row in drawn}) > 10


def test_a_shift_multiplies_the_odds_of_noise() -> None:
    level = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    moved = shifted(level, 3.0)
    torch.testing.assert_close(moved / (1 - moved), 3.0 * level / (1 - level))


def test_a_configuration_changes_what_it_names() -> None:
    own = TimeLaw("logit-normal", shift=3.0, stratified=True)
    assert own.changed(TimesSection()) == own
    assert own.changed(TimesSection(mean=0.5)) == TimeLaw("logit-normal", mean=0.5, shift=3.0, stratified=True)
    assert own.changed(TimesSection(law="uniform", shift="none", stratified=False)) == TimeLaw("uniform")
    assert own.changed(TimesSection(law="style-friendly")) == TimeLaw("style-friendly", mean=3.0, stratified=True)
    assert own.changed(TimesSection(law="style-friendly", shift=2.0)).shift == 2.0


def test_discrete_schedules_take_every_law(discrete: Objective) -> None:
    def times(**section: object) -> torch.Tensor:
        law = discrete.law(TimesSection.model_validate(section))
        drawn = discrete.draw_times(law, 4000, torch.Generator().manual_seed(0), 128 * 128)
        assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() <= 999
        return drawn

    assert times(law="logit-normal", mean=1.0).float().median().item() == pytest.approx(731, abs=20)
    # By log-SNR, whatever the schedule: 4 at the median, less 2 ln 2.
    style = times(law="style-friendly", mean=-2.0)
    assert discrete.log_snr(style).median().item() == pytest.approx(4.0, abs=0.15)
    assert discrete.log_snr(times(law="style-friendly", mean=-2.0, shift=2.0)).median().item() == pytest.approx(
        4 - 2 * math.log(2), abs=0.15
    )
    plain, moved = times(stratified=True), times(stratified=True, shift=2.0)
    assert (discrete.log_snr(plain) - discrete.log_snr(moved)).median().item() == pytest.approx(2 * math.log(2), abs=0.05)
    with pytest.raises(ConfigError, match="only flow bases"):
        discrete.law(TimesSection(shift="dynamic"))


def test_on_a_grid_only_the_times_of_the_sampler_are_drawn(discrete: Objective) -> None:
    # "Sparse updating" of Specialist Diffusion: 10 · U{0 … 99}, from the stream of numbers that all times come from.
    every, on_grid = (
        discrete.draw_times(discrete.law(TimesSection(grid=grid)), COUNT, torch.Generator().manual_seed(0), 256) for grid in (None, 100)
    )
    assert torch.equal(on_grid, every // 10 * 10)
    assert on_grid.dtype == torch.int64 and on_grid.unique().tolist() == list(range(0, 1000, 10))
    # As a sampler with leading spacing: multiples of ⌊1000 / 30⌋.
    theirs = DDIMScheduler(timestep_spacing="leading")
    theirs.set_timesteps(30)
    law = discrete.law(TimesSection(grid=30, law="logit-normal"))
    drawn = discrete.draw_times(law, COUNT, torch.Generator().manual_seed(0), 256)
    assert set(drawn.tolist()) <= set(theirs.timesteps.tolist()) and len(drawn.unique()) > 20
    with pytest.raises(ConfigError, match=r"training\.times\.grid=1001.*at most 1000"):
        discrete.law(TimesSection(grid=1001))


def test_a_flow_on_a_grid_is_where_euler_steps() -> None:
    flow = FlowObjective({"shift": 3.0, "_class_name": "FlowMatchEulerDiscreteScheduler"})
    every, on_grid = (
        flow.draw_times(flow.law(TimesSection(grid=grid)), COUNT, torch.Generator().manual_seed(0), 1024) for grid in (None, 8)
    )
    assert sorted(on_grid.unique().tolist()) == sorted(flow.sampler("euler", 8, 1024).timesteps.tolist())
    gaps = (every.unsqueeze(1) - on_grid.unique()).abs()
    torch.testing.assert_close((every - on_grid).abs(), gaps.min(dim=1).values)
