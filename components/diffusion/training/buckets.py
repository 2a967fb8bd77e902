"""Aspect-ratio buckets: of the sizes with about the base's area, a picture trains at the one that crops it least."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""(height, width) in pixels."""
MAX_RATIO = 2.0
"""Ratio of the longer to the shorter side of the most elongated bucket; pictures beyond that ratio are cropped."""


def bucket_sizes(side: int, step: int) -> list[Size]:
    """The largest sizes of at most ``side``² pixels, in multiples of ``step``, up to the ratio ``MAX_RATIO``; the square first."""
    widths = range(math.ceil(side / math.sqrt(MAX_RATIO) / step) * step, int(side * math.sqrt(MAX_RATIO)) + 1, step)
    found = {(side * side // width // step * step, width) for width in widths}
    sizes = {size for size in found | {(width, height) for height, width in found} if max(size) <= MAX_RATIO * min(size)}
    return [(side, side), *sorted(sizes - {(side, side)})]


def bucket_for(size: tuple[int, int], buckets: Sequence[Size]) -> Size:
    """The bucket for a picture of ``size`` (width, height): the one that keeps most of it; of several, the first."""
    return max(buckets, key=lambda bucket: _part_kept(size, bucket))


def _part_kept(size: tuple[int, int], bucket: Size) -> float:
    across, down = size[0] * bucket[0], size[1] * bucket[1]
    return min(across, down) / max(across, down)
