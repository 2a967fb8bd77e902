"""Features of image files: each file is read once, and decoded only if its content is new to some extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from components.core.images import decode_rgb
from components.evaluation.extractors.base import Extractor, Features
from components.evaluation.features import FeatureCache
from components.evaluation.pictures import Picture


@dataclass(frozen=True)
class FeatureTable:
    """Content hashes of all pictures to score, and by extractor the features for each hash."""

    hashes: dict[Path, str]
    vectors: dict[str, dict[str, Features]]

    def of(self, extractor: Extractor, paths: Iterable[Path]) -> Features:
        """(N, d) features of N pictures, in their order."""
        return np.stack([self.vectors[extractor.id][self.hashes[path]] for path in paths])


def scored_paths(sets: Iterable[Iterable[Picture]], reference: Sequence[Path]) -> list[Path]:
    """The files that scores are computed from, each once, in the order in which their features are extracted."""
    return list(dict.fromkeys([*(picture.path for pictures in sets for picture in pictures), *reference]))


def extract(paths: Sequence[Path], extractors: Sequence[Extractor], batch_size: int) -> FeatureTable:
    """Extract features with every extractor; each file is read once, and decoded only if its content is new to some extractor."""
    caches = {extractor.id: FeatureCache(extractor.id) for extractor in extractors}
    table = FeatureTable({}, {extractor.id: {} for extractor in extractors})
    unique = list(dict.fromkeys(paths))
    # Reading and decoding release the interpreter's lock, so two threads keep the network fed.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(unique), batch_size):
            batch = unique[start : start + batch_size]
            contents = list(pool.map(Path.read_bytes, batch))
            hashes = [hashlib.sha256(content).hexdigest() for content in contents]
            table.hashes.update(zip(batch, hashes, strict=True))
            missing = {extractor.id: _missing(hashes, caches[extractor.id], table.vectors[extractor.id]) for extractor in extractors}
            places = sorted({hashes.index(hash_) for keys in missing.values() for hash_ in keys})
            decoded = pool.map(lambda i, c=contents, b=batch: decode_rgb(c[i], str(b[i])), places)
            images: dict[str, Image] = {hashes[place]: image for place, image in zip(places, decoded, strict=True)}
            for extractor in extractors:
                if keys := missing[extractor.id]:
                    fresh = dict(zip(keys, extractor.encode_images([images[key] for key in keys]), strict=True))
                    caches[extractor.id].put(fresh)
                    table.vectors[extractor.id].update(fresh)
    return table


def _missing(hashes: list[str], cache: FeatureCache, known: dict[str, Features]) -> list[str]:
    """Hashes found neither in ``known`` nor in the cache; vectors found in the cache are added to ``known``."""
    unknown = [hash_ for hash_ in dict.fromkeys(hashes) if hash_ not in known]
    known.update(cache.get(unknown))
    return [hash_ for hash_ in unknown if hash_ not in known]
