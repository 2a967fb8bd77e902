"""The networks that a scoring section names, and the cache that avoids encoding an image twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.core.config import ScoringSection
from components.core.content import digest_value
from components.core.errors import database_locked, is_locked
from components.core.paths import state, storage_errors
from components.evaluation.extractors.base import Extractor, Features
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.extractors.inception import InceptionExtractor


@dataclass(frozen=True)
class Extractors:
    """The networks used for scoring: a CLIP, Inception if its weights are given, and the extractors of the measures, by setting."""

    clip: ClipEncoder
    inception: InceptionExtractor | None = None
    measures: Mapping[str, Extractor] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: ScoringSection) -> Extractors:
        """Load the networks that a scoring section names."""
        clip = ClipEncoder(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
        weights = settings.inception_weights
        loaded: dict[str, Extractor] = {}
        names = measure_extractors(settings)
        for key, name in names.items():
            loaded[key] = next((loaded[other] for other in loaded if names[other] == name), None) or make_extractor(
                name, f"scoring.{key}", batch_size=settings.batch_size
            )
        return cls(clip, InceptionExtractor(weights, batch_size=settings.batch_size) if weights else None, loaded)

    @property
    def all(self) -> list[Extractor]:
        """All extractors, each once."""
        known: list[Extractor] = [self.clip, *([self.inception] if self.inception else []), *self.measures.values()]
        return list({extractor.id: extractor for extractor in known}.values())

    @property
    def distribution(self) -> Extractor:
        """The extractor whose features FID and KID are computed in."""
        return self.inception or self.clip


def measure_extractors(settings: ScoringSection) -> dict[str, str]:
    """Names of the extractors that the requested measures need, by setting; those for colours and lines are fixed and have no setting."""
    needed = {
        "style_extractor": bool({"style_score", "truth"} & set(settings.measures)),
        "copy_extractor": "copies" in settings.measures,
        "kd_extractor": True,
    }
    fixed = {"colour_extractor": "colours", "line_extractor": "texture"} if "truth" in settings.measures else {}
    return {key: name for key, needs in needed.items() if needs and (name := getattr(settings, key))} | fixed


class FeatureCache:
    """Feature vectors by content hash, one SQLite file per extractor; a file that SQLite cannot read is set aside and replaced."""

    def __init__(self, extractor_id: str, folder: Path | None = None) -> None:
        folder = folder or state("cache", "features")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{digest_value(extractor_id)[:24]}.sqlite"
        self._table = "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
        try:
            with self._open() as connection:
                connection.execute(self._table)
        except sqlite3.OperationalError:
            # Out of reach, not broken.
            raise
        except sqlite3.DatabaseError:
            self.path.replace(self.path.with_suffix(".broken"))
            with self._open() as connection:
                connection.execute(self._table)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with storage_errors(self.path), contextlib.closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.OperationalError as error:
            if is_locked(error):
                raise database_locked(str(self.path)) from error
            raise

    def get(self, keys: Sequence[str]) -> dict[str, Features]:
        """The vectors that the cache holds, by key."""
        found: dict[str, Features] = {}
        with self._open() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                for key, blob in connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part):
                    found[key] = np.frombuffer(blob, "<f4").astype(np.float32)
        return found

    def put(self, vectors: Mapping[str, Features]) -> None:
        """Store vectors, all of them or none."""
        rows = [(key, np.asarray(vector, "<f4").tobytes()) for key, vector in vectors.items()]
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def encode_texts_cached(encoder: ClipEncoder, texts: Sequence[str], cache: FeatureCache) -> dict[str, Features]:
    """Embedding of each distinct text, from the cache if it is there."""
    keys = {text: "text:" + digest_value(text) for text in dict.fromkeys(texts)}
    known = cache.get(list(keys.values()))
    missing = [text for text, key in keys.items() if key not in known]
    fresh = {keys[text]: vector for text, vector in zip(missing, encoder.encode_texts(missing), strict=True)}
    if fresh:
        cache.put(fresh)
    return {text: (known | fresh)[key] for text, key in keys.items()}
