"""The common interface of sets of parameters that train together."""

from __future__ import annotations

import abc
from collections.abc import Mapping

import torch


class ParameterSet(abc.ABC):
    """Parameters of one part of a base that train together.

    ``part`` is the part's name, ``rate`` the name of their learning rate (``denoiser``, ``text_encoder`` or ``tokens``), and ``way`` the
    set's name in a recipe, which may give it a factor of that rate.
    """

    part: str
    rate: str
    way: str

    @abc.abstractmethod
    def named(self) -> dict[str, torch.nn.Parameter]:
        """The parameters by their names in checkpoints and deltas, in a fixed order."""

    @abc.abstractmethod
    def fold(self) -> None:
        """Merge the result into the part's own weights, and remove any modules that were inserted."""

    def origin(self) -> dict[str, torch.Tensor]:
        """Tensors, besides the base's, that the parameters started from and that loading needs, by their names in files; usually none."""
        return {}

    def begin_from(self, origin: Mapping[str, torch.Tensor]) -> None:
        """Start from a saved :meth:`origin` instead of this one."""
        assert not origin
