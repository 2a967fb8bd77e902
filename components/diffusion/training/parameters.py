"""A set of parameters that train together: what all kinds of them can do."""

from __future__ import annotations

import abc
from collections.abc import Mapping

import torch


class ParameterSet(abc.ABC):
    """Parameters of one part of a base that train together.

    ``part`` is the part's name, ``rate`` which learning rate moves them (``denoiser``, ``text_encoder`` or ``tokens``), and ``way`` the
    set's name in a recipe, by which that rate may have a factor.
    """

    part: str
    rate: str
    way: str

    @abc.abstractmethod
    def named(self) -> dict[str, torch.nn.Parameter]:
        """The parameters by the names that they have in checkpoints and deltas, in a fixed order."""

    @abc.abstractmethod
    def fold(self) -> None:
        """Put the result into the part's own weights and take out what was put in, if anything was."""

    def origin(self) -> dict[str, torch.Tensor]:
        """Tensors beside the base that the parameters began from and that loading them needs, by their names in files; mostly none."""
        return {}

    def begin_from(self, origin: Mapping[str, torch.Tensor]) -> None:
        """Take a saved :meth:`origin` in the place of this one."""
        assert not origin
