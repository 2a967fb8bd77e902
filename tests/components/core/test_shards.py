from hypothesis import given
from hypothesis import strategies as st

from components.core.shards import every_nth_batch


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 12))
def test_shards_are_a_partition_and_keep_batches_whole(items: int, batch_size: int, shards: int) -> None:
    whole = [tuple(range(start, min(start + batch_size, items))) for start in range(0, items, batch_size)]
    seen = []
    for shard in range(shards):
        mine = every_nth_batch(range(items), batch_size, (shard, shards))
        batches = [tuple(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]
        # Cut into batches again, as whoever works on a shard does, they are batches of the whole.
        assert set(batches) <= set(whole)
        seen += batches
    assert sorted(seen) == whole
