"""Weights between a base and what it was tuned to, or beyond (WiSE-FT, Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from components.diffusion.models.families import Family


def weights_of(family: Family) -> dict[str, torch.Tensor]:
    """All weights of a family, by part and name. They are its own, and no copies."""
    return {f"{part}.{name}": value.data for part, module in family.parts.items() for name, value in module.named_parameters()}


@torch.no_grad()
def interpolate(family: Family, base: Mapping[str, torch.Tensor], strength: float) -> None:
    """Leave θ₀ + α (θ − θ₀) in a family of weights θ, for the ``base``'s weights θ₀ and α the ``strength``, in place.

    Rows of new tokens, which the base does not have, stay as they are.
    """
    for name, value in weights_of(family).items():
        origin = base[name].to(value.device, value.dtype)
        # A table with new rows is longer than the base's.
        common = value[: len(origin)] if value.dim() else value
        common.copy_(origin + strength * (common - origin))
