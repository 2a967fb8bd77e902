"""The base's own predictions while it is being fine-tuned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from components.diffusion.training.trainables import Trainables


class FrozenBase:
    """The base as it was before training, inside the networks that train.

    Every parameter set starts out equivalent to the base, so a copy of the initial values replaces the trained ones within a block:
    adapters then have no effect, whole networks are the base's, and learnt tokens have their initial rows. The copy takes as much
    memory as the trained weights; frozen weights are shared. It is made before training and before a checkpoint is loaded, once
    the trained parameters are on their device.
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
            # Trained weights that an autograd graph has saved stay valid: their memory was never written to.
            for name, value in self._trained.named().items():
                value.data = current[name]
            for part, mode in modes:
                part.train(mode)
