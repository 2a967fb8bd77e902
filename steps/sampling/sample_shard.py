"""Step: draw one shard of the prompt bank (`--shards`)."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import resumable
from steps.sampling.sampling import draw_bank


@step(environment=code_of(__file__))
def sample_shard(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str, shard: int, shards: int
) -> Annotated[Folder, "pictures"]:
    """Draw what ``sample_bank`` draws, but only every n-th batch: shard ``shard``, from 0, of ``shards``."""
    out = resumable("sample_shard", "pictures", key=[model.digest, seed, concepts, sampling, bank, shard, shards])
    draw_bank(out, model, seed, concepts, sampling, (shard, shards))
    return Folder(out)
