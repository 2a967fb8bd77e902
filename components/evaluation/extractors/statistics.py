"""Statistics over the positions of a layer, from which style is read.

Gatys et al., *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, section 2.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

Kind = Literal["moments", "gram"]
_NAME = re.compile(rf"(.+):({'|'.join(get_args(Kind))})-(\d+)")
_WIDEST = 128


@dataclass(frozen=True)
class Statistic:
    """Which statistic of which layer."""

    kind: Kind
    layer: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.layer}"

    def of(self, places: Any) -> Any:
        """(N, 2 C) means and standard deviations of the channels of (N, C, P), or their (N, C²) Gram matrix divided by P."""
        return moments(places) if self.kind == "moments" else gram(places)


def split_name(name: str) -> tuple[str, Statistic | None]:
    """Split an extractor's name from a statistic at its end, such as ``:moments-2``; None if there is no statistic."""
    found = _NAME.fullmatch(name)
    return (found[1], Statistic(found[2], int(found[3]))) if found else (name, None)  # type: ignore[arg-type]


def moments(places: Any) -> Any:
    """(N, 2 C) means and standard deviations over the P positions of (N, C, P)."""
    import torch

    return torch.cat([places.mean(-1), places.std(-1)], 1)


def gram(places: Any) -> Any:
    """(N, C²) products of channels, averaged over the P positions of (N, C, P)."""
    return (places @ places.transpose(1, 2) / places.shape[-1]).flatten(1)


def narrow(places: Any) -> Any:
    """Reduce (N, C, P) to (N, min(C, 128), P) by a projection with random signs, which preserves products of channels up to noise.

    A Gram matrix of 1,024 channels would be a million numbers per image. Achlioptas, *Database-friendly random projections*, 2003.
    """
    import torch

    if places.shape[1] <= _WIDEST:
        return places
    signs = torch.from_numpy(_signs(places.shape[1])).to(places)
    return torch.einsum("kc,ncp->nkp", signs, places) / _WIDEST**0.5


@cache
def _signs(channels: int) -> Any:
    import numpy as np

    return np.random.default_rng(channels).integers(0, 2, (_WIDEST, channels)) * 2.0 - 1.0
