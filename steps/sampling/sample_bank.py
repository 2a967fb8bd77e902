"""Steps that draw the prompt bank, whole or in shards, and with the base.

- ``sample_bank``: Sample the prompt bank with the style model, with the style and without it.
- ``sample_base``: Sample the same bank with the base: the baseline, shared by all styles.
- ``sample_shard``: Sample one shard of the prompt bank (`--shards`).
- ``join_pictures``: Join the shards of the prompt bank.
"""

from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import SamplingSection
from components.core.model_card import as_chosen
from components.core.shards import Shard
from steps.io.artifacts import Folder
from steps.io.base_model import load_base
from steps.io.caching import code_of
from steps.io.workspace import resumable, scratch

PARTS = ("style", "plain")


def draw_bank(out: Path, model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], shard: Shard = (0, 1)) -> None:
    """Draw the bank into ``style/`` and, once for each prompt to measure drift, into ``plain/``; valid existing pictures are kept."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling import sampler
    from steps.sampling.requests import bank_requests

    settings = as_chosen(model.path, SamplingSection(**sampling))
    bundle = load_bundle(str(model.path))
    styled = bank_requests(settings.bank, settings.limit, settings.style_template, concepts)
    sampler.sample_bank(bundle, styled, settings, seed, out / "style", shard)
    plain = bank_requests(settings.bank, settings.limit, settings.plain_template)
    sampler.sample_bank(bundle, plain, settings.without_style().model_copy(update={"repeats": 1}), seed, out / "plain", shard)


@step(environment=code_of(__file__))
def sample_bank(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str
) -> Annotated[Folder, "pictures"]:
    """Draw the bank into ``style/`` and, once a prompt, ``plain/``; pictures that an interrupted run left are kept.

    ``concepts`` lists each ``token`` bound to the style and the ``categories`` of the bank that use it; ``bank`` is the file's digest.
    """
    out = resumable("sample_bank", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    draw_bank(out, model, seed, concepts, sampling)
    return Folder(out)


@step(environment=code_of(__file__))
def sample_shard(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str, shard: int, shards: int
) -> Annotated[Folder, "pictures"]:
    """Draw what ``sample_bank`` draws, but only every n-th batch: shard ``shard``, from 0, of ``shards``."""
    out = resumable("sample_shard", "pictures", key=[model.digest, seed, concepts, sampling, bank, shard, shards])
    draw_bank(out, model, seed, concepts, sampling, (shard, shards))
    return Folder(out)


@step(environment=code_of(__file__))
def join_pictures(shards: list[Folder]) -> Annotated[Folder, "pictures"]:
    """Put the pictures and rows of all shards together: the content, and so the digest, of ``sample_bank``'s folder."""
    from components.diffusion.sampling.sampler import merge_shards

    out = scratch("join_pictures")
    for part in PARTS:
        merge_shards([shard.path / part for shard in shards], out / part)
    return Folder(out)


@step(environment=code_of(__file__))
def sample_base(seed: int, base: dict[str, Any], sampling: dict[str, Any], bank: str) -> Annotated[Folder, "base_pictures"]:
    """Draw the bank with the plain template. Nothing of the style goes in, so all styles share the result.

    ``base`` holds its configuration section and the ``digest`` of its files; ``sampling`` does not contain the style's template.
    """
    from components.diffusion.sampling import sampler
    from steps.sampling.requests import bank_requests

    settings = SamplingSection(**sampling)
    out = resumable("sample_base", "pictures", key=[base["digest"], base["precision"], seed, sampling, bank])
    plain = bank_requests(settings.bank, settings.limit, settings.plain_template)
    sampler.sample_bank(load_base(base), plain, settings, seed, out)
    return Folder(out)
