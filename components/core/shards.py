"""How work that goes in batches is shared among machines: in whole batches, so that each has the company that it has on one."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
Shard = tuple[int, int]
"""(i, n): the i-th of n shards."""


def every_nth_batch(items: Sequence[Item], batch_size: int, shard: Shard) -> list[Item]:
    """The items of every n-th batch, beginning with the i-th. All shards together are all items, each once.

    A matrix product of another shape rounds differently; so a batch is never split, nor are two put together: in a shard the batches
    begin where they begin in the whole.
    """
    index, count = shard
    starts = range(0, len(items), batch_size)
    return [item for start in starts[index::count] for item in items[start : start + batch_size]]
