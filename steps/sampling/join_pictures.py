"""Step: join the shards of the prompt bank."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch
from steps.sampling.sampling import PARTS


@step(environment=code_of(__file__))
def join_pictures(shards: list[Folder]) -> Annotated[Folder, "pictures"]:
    """Put the pictures and rows of all shards together: the content, and so the digest, of ``sample_bank``'s folder."""
    from components.diffusion.sampling.sampler import merge_shards

    out = scratch("join_pictures")
    for part in PARTS:
        merge_shards([shard.path / part for shard in shards], out / part)
    return Folder(out)
