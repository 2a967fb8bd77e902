"""Laws of times: distributions of the noise levels in training, between 0 (the picture) and 1 (noise alone).

The sign convention throughout is **larger is noisier**. ``mean`` is that of the level's logit, ln(level / (1 − level)), which is
−½ of a flow's log-SNR: a positive mean is more noise. diffusers' ``logit_mean`` has the opposite sign, since it draws positions
in a list of timesteps that begins with the noisiest.

Each law is given by its quantiles, so that it can be stratified: each of N samples falls into a different N-th of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch

from components.core.config import TimesSection

# Default (mean, std, scale) of each law. The mode's scale is that of Esser et al. (2024, section 3.1); style-friendly is
# λ ~ N(−6, 2²) of Choi et al. (2024) at a latent of 128 × 128.
_USUAL = {
    "uniform": (0.0, 1.0, 0.0), "logit-normal": (0.0, 1.0, 0.0), "mode": (0.0, 1.0, 1.29), "style-friendly": (3.0, 1.0, 0.0),
}  # fmt: skip
_REFERENCE_PLACES = 128 * 128
_EDGE = 2.0**-24
"""Levels stay at least this far from 0 and 1, where logits and log-SNR are infinite."""


@dataclass(frozen=True)
class TimeLaw:
    """A fully specified law of noise levels. ``shift`` is a factor, ``"dynamic"`` (by the picture's size), or None.

    With a ``grid``, only the times of a sampler with that many steps are drawn ("sparse updating" of Specialist Diffusion, Lu et al.,
    2023).
    """

    law: str = "uniform"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 0.0
    shift: float | str | None = None
    stratified: bool = False
    grid: int | None = None

    def changed(self, section: TimesSection) -> TimeLaw:
        """This law with the changes that a configuration asks for. A different law brings its own defaults, but keeps the shift.

        Style-friendly levels are shifted only if that is asked for: they already depend on the picture's size.
        """
        found = self
        if section.law is not None and section.law != self.law:
            mean, std, scale = _USUAL[section.law]
            shift = None if section.law == "style-friendly" else self.shift
            found = dataclasses.replace(self, law=section.law, mean=mean, std=std, scale=scale, shift=shift)
        given = section.model_dump(include={"mean", "std", "scale", "shift", "stratified", "grid"}, exclude_none=True)
        if given.get("shift") == "none":
            given["shift"] = None
        return dataclasses.replace(found, **given)

    @property
    def of_logits(self) -> bool:
        """Whether it is a law of log-SNR, independent of the objective's schedule; others are laws of the position in the schedule."""
        return self.law == "style-friendly"

    def levels(self, count: int, generator: torch.Generator, places: int) -> torch.Tensor:
        """Noise levels before any shift, float64 of shape (N,), for latents of ``places`` = h · w places."""
        shares = torch.rand(count, generator=generator, dtype=torch.float64)
        if self.stratified:
            shares = (torch.randperm(count, generator=generator) + shares) / count
        shares = shares.clamp(_EDGE, 1.0 - _EDGE)
        if self.law == "uniform":
            return shares
        if self.law == "mode":
            # f(1 − u) of Esser et al. (2024), so that it increases with u.
            return shares - self.scale * ((math.pi / 2 * shares).sin().square() - shares)
        mean = self.mean
        if self.law == "style-friendly":
            # The same noise destroys less of a larger picture: information grows with the number of places.
            mean -= 0.5 * math.log(_REFERENCE_PLACES / places)
        return torch.sigmoid(mean + self.std * torch.special.ndtri(shares)).clamp(_EDGE, 1.0 - _EDGE)


def shifted(levels: torch.Tensor, factor: float) -> torch.Tensor:
    """Shift levels to a·σ / (1 + (a − 1)·σ) (Esser et al., 2024, equation 23): odds of noise times a, log-SNR minus 2 ln a."""
    return factor * levels / (1.0 + (factor - 1.0) * levels)
