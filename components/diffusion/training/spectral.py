"""Spectral shifts (SVDiff, Han et al., 2023): only the singular values of a part's matrices train."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize

from components.core.errors import InputError
from components.diffusion.training.parameters import ParameterSet


class SpectralShift(torch.nn.Module):
    """W ↦ W + U·diag(ReLU(σ + δ) − σ)·Vᵀ for the singular value decomposition W = U·diag(σ)·Vᵀ.

    At δ = 0 the result equals W bit for bit, which U·diag(ReLU(σ + δ))·Vᵀ would not. A weight of more than two dimensions counts as a
    matrix of shape (co, ci·h·w), a vector as a single row, whose only singular value is its length. LinAlgError if the weight holds NaN
    or infinity.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rows = weight.detach().float()
        matrix = rows.flatten(1) if rows.dim() > 1 else rows[None]
        rank = min(matrix.shape)
        if matrix.is_meta:
            found = matrix.new_empty(matrix.shape[0], rank), matrix.new_empty(rank), matrix.new_empty(rank, matrix.shape[1])
        else:
            found = torch.linalg.svd(matrix, full_matrices=False)
        # Frozen parameters instead of buffers: several processes then start with the first one's, and do not send them at each step.
        self.left, self.values, self.right = (torch.nn.Parameter(factor.contiguous(), requires_grad=False) for factor in found)
        self.delta = torch.nn.Parameter(torch.zeros_like(self.values))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The shifted weight, in the type and the shape of ``weight``."""
        shift = F.relu(self.values + self.delta) - self.values
        update = self.left @ (shift[:, None] * self.right)
        return weight + update.view(weight.shape).to(weight.dtype)


class SpectralShifts(ParameterSet):
    """Shifts of the singular values of one part's weights: of its matrices or, with ``norms``, of its vectors. Biases stay frozen.

    Another machine finds the same singular vectors only up to rounding, so a delta that is loaded there gives the same weights within
    a tolerance. InputError names a layer whose weight cannot be decomposed.
    """

    def __init__(self, part: str, kind: str, module: torch.nn.Module, idle: set[int], *, norms: bool = False) -> None:
        self.part, self.rate, self.way = part, kind, f"{kind}.spectral" + (".norms" if norms else "")
        self._layers: dict[str, torch.nn.Module] = {}
        self._shifts: dict[str, torch.nn.Parameter] = {}
        for name, layer in list(module.named_modules()):
            weight = layer._parameters.get("weight")
            if weight is None or id(weight) in idle or (weight.dim() < 2) != norms:
                continue
            try:
                shift = SpectralShift(weight)
            except torch.linalg.LinAlgError as error:
                raise InputError(
                    f"{part}.{name}.weight", "has no singular values: it holds NaN or infinity", expected="finite weights",
                    remedy="repair the base, or choose a method that does not need them, such as lora",
                ) from error  # fmt: skip
            # ``unsafe`` skips a check that would only compute every weight once.
            parametrize.register_parametrization(layer, "weight", shift, unsafe=True)
            self._layers[name], self._shifts[name] = layer, shift.delta

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``unet.conv_in.spectral`` …: δ, shape (min(co, ci·h·w),)."""
        return {f"{self.part}.{name}.spectral": delta for name, delta in self._shifts.items()}

    def fold(self) -> None:
        """Replace the base's weights with the shifted ones."""
        for layer in self._layers.values():
            parametrize.remove_parametrizations(layer, "weight")
