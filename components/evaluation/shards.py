"""Feature extraction on several machines: each shard writes its own features, and scoring reads them all before it begins."""

from collections.abc import Sequence
from pathlib import Path

from components.core.config import ScoringSection
from components.core.content import digest_value
from components.core.paths import atomic_folder
from components.core.shards import Shard, every_nth_batch
from components.evaluation.extraction import extract, scored_paths
from components.evaluation.features import Extractors, FeatureCache
from components.evaluation.pictures import read_pictures

_EXTRACTOR = "extractor"


def extract_shard(folders: Sequence[Path], reference: Sequence[Path], settings: ScoringSection, shard: Shard, out: Path) -> Path:
    """Write the features of one shard of :func:`scored_paths`, by content hash, one file per extractor; returns ``out``."""
    from safetensors.numpy import save_file

    extractors = Extractors.load(settings).all
    paths = every_nth_batch(scored_paths((read_pictures(folder) for folder in folders), reference), settings.batch_size, shard)
    table = extract(paths, extractors, settings.batch_size)
    with atomic_folder(out) as folder:
        for extractor in extractors:
            found = table.vectors[extractor.id]
            save_file(
                {hash_: found[hash_] for hash_ in sorted(found)}, folder / f"{digest_value(extractor.id)[:24]}.safetensors",
                metadata={_EXTRACTOR: extractor.id},
            )  # fmt: skip
    return Path(out)


def remember(shards: Sequence[Path]) -> None:
    """Put the features of shards into this machine's cache, where scoring finds them."""
    from safetensors import safe_open

    for file in sorted(item for shard in shards for item in Path(shard).glob("*.safetensors")):
        with safe_open(file, framework="np") as opened:
            FeatureCache(opened.metadata()[_EXTRACTOR]).put({key: opened.get_tensor(key) for key in opened.keys()})  # noqa: SIM118
