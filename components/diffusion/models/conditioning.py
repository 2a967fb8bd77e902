"""Encoded prompts as a denoiser takes them: one tensor, or several that belong together row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conditioning:
    """N prompts as the denoiser takes them.

    ``states`` are the token states, shape (N, L, D); ``pooled`` is one vector per prompt, shape (N, P), or None in families whose
    denoiser takes none; ``mask``, shape (N, L), is true at the tokens that the denoiser attends to, or None if it attends to all.
    """

    states: torch.Tensor
    pooled: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.states)

    def own_states(self) -> list[torch.Tensor]:
        """The states of each prompt's own tokens, shapes (l, D); meta tensors, whose mask has no values, count as full-length prompts."""
        if self.mask is None or self.mask.is_meta:
            return list(self.states)
        return [states[mask] for states, mask in zip(self.states, self.mask, strict=True)]

    def index_select(self, index: torch.Tensor) -> Conditioning:
        """The rows that ``index`` (integers, shape (M,)) selects, in its order."""
        pooled, mask = (None if each is None else each.index_select(0, index) for each in (self.pooled, self.mask))
        return Conditioning(self.states.index_select(0, index), pooled, mask)

    def to(self, device: torch.device) -> Conditioning:
        """The same on another device."""
        return Conditioning(*(None if each is None else each.to(device) for each in (self.states, self.pooled, self.mask)))  # type: ignore[arg-type]

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate the rows of ``parts``, all of one family."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        masks = [part.mask for part in parts if part.mask is not None]
        states = torch.cat([part.states for part in parts])
        return Conditioning(states, torch.cat(pooled) if pooled else None, torch.cat(masks) if masks else None)
