"""What prompts are to a network: one tensor or several that go together, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conditioning:
    """N prompts as the network takes them.

    ``states`` are the token states, shape (N, L, D); ``pooled`` one vector a prompt, shape (N, P), or None in families
    whose network takes none.
    """

    states: torch.Tensor
    pooled: torch.Tensor | None = None

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.states)

    def index_select(self, index: torch.Tensor) -> Conditioning:
        """The rows that ``index`` (integers, shape (M,)) names, in its order."""
        return Conditioning(self.states.index_select(0, index), None if self.pooled is None else self.pooled.index_select(0, index))

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts, of one family, under each other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)
