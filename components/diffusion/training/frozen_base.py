"""The base's own predictions in the middle of its fine-tuning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from components.diffusion.training.trainables import Trainables


class FrozenBase:
    """The base as it was before training, in the very networks that train.

    Every set of parameters begins as the base, so a copy of what trains, as it began, takes its place for the time of a block:
    adapters are then without effect, whole networks are the base's, and learnt tokens are those that they began as. The copy takes as
    much memory as the trained weights; frozen ones are shared. It is made before training, and before a checkpoint is loaded, once
    what trains is on its device.
    """

    def __init__(self, trained: Trainables) -> None:
        self._trained = trained
        trained.remember()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, the networks are the base's, without gradients and without dropout."""
        current = {name: value.data for name, value in self._trained.named().items()}
        modes = [(part, part.training) for part in self._trained.parts.values()]
        try:
            for name, value in self._trained.named().items():
                value.data = self._trained.initial[name]
            for part, _ in modes:
                part.eval()
            with torch.no_grad():
                yield
        finally:
            # What a graph saved of the trained weights stays valid: their memory was never written to.
            for name, value in self._trained.named().items():
                value.data = current[name]
            for part, mode in modes:
                part.train(mode)
