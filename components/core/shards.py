"""How work in batches is divided among machines: by whole batches, so that each item is in the same batch as on one machine."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
Shard = tuple[int, int]
"""(i, n): the i-th of n shards, counted from 0."""


def every_nth_batch(items: Sequence[Item], batch_size: int, shard: Shard) -> list[Item]:
    """The items of every n-th batch, beginning with the i-th. Together, the shards hold every item once.

    A matrix product of another shape rounds differently, so batches are neither split nor joined: a shard's batches are those of the whole.
    """
    index, count = shard
    starts = range(0, len(items), batch_size)
    return [item for start in starts[index::count] for item in items[start : start + batch_size]]
