"""Interpolate weights between a base and a model tuned from it, or extrapolate them (WiSE-FT, Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from components.diffusion.models.families import Family


def weights_of(family: Family) -> dict[str, torch.Tensor]:
    """All weights of a family, by part and name; the tensors themselves, not copies."""
    return {f"{part}.{name}": value.data for part, module in family.parts.items() for name, value in module.named_parameters()}


@torch.no_grad()
def interpolate(family: Family, base: Mapping[str, torch.Tensor], strength: float) -> None:
    """Set a family's weights θ in place to θ₀ + α (θ − θ₀), where θ₀ are the ``base``'s weights and α is the ``strength``.

    Rows of new tokens, which the base does not have, stay as they are.
    """
    for name, value in weights_of(family).items():
        origin = base[name].to(value.device, value.dtype)
        # A table with new rows is longer than the base's.
        common = value[: len(origin)] if value.dim() else value
        common.copy_(origin + strength * (common - origin))
