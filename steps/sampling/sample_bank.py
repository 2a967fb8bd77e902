"""Step: draw the prompt bank with the style model, with the style and without it."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import resumable
from steps.sampling.sampling import draw_bank


@step(environment=code_of(__file__))
def sample_bank(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str
) -> Annotated[Folder, "pictures"]:
    """Draw the bank into ``style/`` and, once a prompt, ``plain/``; pictures that an interrupted run left are kept.

    ``concepts`` are each ``token`` bound to the style, with the bank's ``categories`` that ask for it; ``bank`` is its file's digest.
    """
    out = resumable("sample_bank", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    draw_bank(out, model, seed, concepts, sampling)
    return Folder(out)
