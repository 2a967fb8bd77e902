"""Images and texts as vectors: a CLIP encoder, Inception, and the cache that spares an image from being encoded twice."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from components.core.config import ScoringSection
from components.core.content import digest_file, digest_folder, digest_value
from components.core.devices import default_device
from components.core.errors import InputError, ServiceUnreachable
from components.core.model_ref import local_model
from components.core.paths import state, storage_errors

Features = NDArray[np.float32]


class Extractor(Protocol):
    """Pictures to features. ``id`` changes whenever the features would; ``name`` and ``resize`` are for people."""

    id: str
    name: str
    resize: str
    batch_size: int

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) features of N RGB pictures."""
        ...


class ClipEncoder:
    """A CLIP's image and text encoder (``pocket``, a folder or a hub id; safetensors only): unit-norm embeddings of one space."""

    def __init__(self, model: str, revision: str | None = None, device: str | None = None, batch_size: int = 64) -> None:
        import torch

        folder = local_model(model, "scoring.extractor")
        self._model, self._tokenizer, self._processor, commit = _load_clip(str(folder or model), None if folder else revision)
        self.device = torch.device(device) if device else default_device("cuda")
        self._model.to(self.device)
        self.batch_size = batch_size
        self.max_tokens = int(self._model.config.text_config.max_position_embeddings)
        self.dimension = int(self._model.config.projection_dim)
        digest = digest_folder(folder) if folder else f"{model}@{commit}"
        self.id = f"clip:{digest}"
        self.name = folder.name if folder and model != "pocket" else model
        self.revision = None if folder else commit
        side = self._processor.size.get("shortest_edge") or self._processor.size.get("height")
        self.resize = f"shortest side to {side} px, PIL bicubic with antialiasing, centre crop"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) float32 embeddings of unit norm."""

        def encode(batch: list[Image]) -> Any:
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            return self._model.get_image_features(pixel_values=pixels.to(self.device))

        return self._encode(images, encode)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """(N, d) float32 embeddings of unit norm. Texts beyond the model's limit are cut, as CLIP does."""

        def encode(batch: list[str]) -> Any:
            tokens = self._tokenizer(batch, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
            return self._model.get_text_features(**{key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask")})

        return self._encode(texts, encode)

    def _encode(self, items: Sequence[Any], encode: Callable[[list[Any]], Any]) -> Features:
        import torch

        parts = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(items), self.batch_size):
            with torch.inference_mode():
                # transformers 5 returns the projected embedding in an output object's ``pooler_output``.
                output = encode(list(items[start : start + self.batch_size]))
            parts.append(getattr(output, "pooler_output", output).float().cpu().numpy())
        rows = np.concatenate(parts)
        return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def too_long(self, texts: Sequence[str]) -> list[str]:
        """The texts that do not fit the text encoder and would be scored by their beginning only."""
        lengths = self._tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        return [text for text, ids in zip(texts, lengths, strict=True) if len(ids) > self.max_tokens]


class InceptionExtractor:
    """The 2,048-d pool features of torch-fidelity's FID Inception, from a local ``pt_inception-2015-12-05-6726825d.pth``."""

    dimension = 2048

    def __init__(self, weights: str | Path, device: str | None = None, batch_size: int = 64) -> None:
        import torch

        path = Path(weights).expanduser()
        where = f"scoring.inception_weights={weights}"
        if not path.is_file():
            raise InputError(where, "no such file", expected="torch-fidelity's Inception weights (.pth)", remedy="fix the path or unset it")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise InputError(
                where,
                f"Inception features need torch-fidelity and torchvision, which are not installed ({error})",
                remedy="install them with `pip install torch-fidelity torchvision`, or unset the key to score in the CLIP's features",
            ) from error
        try:
            self._model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)).eval()
        except Exception as error:  # the loader raises whatever pickle, zip or state-dict reading raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(where, f"not torch-fidelity's Inception weights ({reason})", remedy="give the file as published") from error
        self.device = torch.device(device) if device else default_device("cuda")
        self._model.to(self.device)
        self.batch_size = batch_size
        self.id = f"inception:{digest_file(path)}"
        self.name = "inception-v3-compat (torch-fidelity), 2048-d"
        self.resize = "299 × 299 px, bilinear as in TensorFlow 1"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 2048) float32 features; each picture keeps its own size until the network's resize."""
        import torch

        rows = []
        for _, alike in itertools.groupby(images, key=lambda image: image.size):
            while batch := list(itertools.islice(alike, self.batch_size)):
                pixels = torch.from_numpy(np.stack([np.asarray(image, np.uint8) for image in batch])).permute(0, 3, 1, 2)
                with torch.inference_mode():
                    rows.append(self._model(pixels.contiguous().to(self.device))[0].float().cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)


@dataclass(frozen=True)
class Extractors:
    """The networks that scores are made with: a CLIP, and Inception where its weights are given."""

    clip: ClipEncoder
    inception: InceptionExtractor | None = None

    @classmethod
    def load(cls, settings: ScoringSection) -> Extractors:
        """The networks of a scoring section."""
        clip = ClipEncoder(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
        weights = settings.inception_weights
        return cls(clip, InceptionExtractor(weights, batch_size=settings.batch_size) if weights else None)

    @property
    def all(self) -> list[Extractor]:
        """Each of them."""
        return [self.clip] if self.inception is None else [self.clip, self.inception]

    @property
    def distribution(self) -> Extractor:
        """The one that FID and KID are measured in."""
        return self.inception or self.clip


class FeatureCache:
    """Vectors by content hash, one SQLite file an extractor; a file that SQLite cannot read is set aside and begun anew."""

    def __init__(self, extractor_id: str, folder: Path | None = None) -> None:
        folder = folder or state("cache", "features")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{digest_value(extractor_id)[:24]}.sqlite"
        self._table = "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
        try:
            with self._open() as connection:
                connection.execute(self._table)
        except sqlite3.DatabaseError:
            self.path.replace(self.path.with_suffix(".broken"))
            with self._open() as connection:
                connection.execute(self._table)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with storage_errors(self.path), contextlib.closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
            yield connection

    def get(self, keys: Sequence[str]) -> dict[str, Features]:
        """The vectors that are known, by key."""
        found: dict[str, Features] = {}
        with self._open() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                for key, blob in connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part):
                    found[key] = np.frombuffer(blob, "<f4").astype(np.float32)
        return found

    def put(self, vectors: Mapping[str, Features]) -> None:
        """Keep vectors; all of them or none."""
        rows = [(key, np.asarray(vector, "<f4").tobytes()) for key, vector in vectors.items()]
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def encode_texts_cached(encoder: ClipEncoder, texts: Sequence[str], cache: FeatureCache) -> dict[str, Features]:
    """Embedding of each distinct text, from the cache where it is known."""
    keys = {text: "text:" + digest_value(text) for text in dict.fromkeys(texts)}
    known = cache.get(list(keys.values()))
    missing = [text for text, key in keys.items() if key not in known]
    fresh = {keys[text]: vector for text, vector in zip(missing, encoder.encode_texts(missing), strict=True)}
    if fresh:
        cache.put(fresh)
    return {text: (known | fresh)[key] for text, key in keys.items()}


def _load_clip(source: str, revision: str | None) -> tuple[Any, Any, Any, str | None]:
    """CLIPModel, tokenizer, image processor and resolved commit."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    where = f"scoring.extractor={source}"

    def load(loader: Callable[..., Any], **options: Any) -> Any:
        try:
            return loader(source, revision=revision, **options)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if isinstance(error, ConnectionError) or "connect" in reason.lower() or "offline" in reason.lower():
                raise ServiceUnreachable(where, f"the hub does not answer ({reason})", remedy="name a local folder instead") from error
            raise InputError(
                where,
                f"cannot be loaded as a CLIP ({reason})",
                expected="a folder or hub id with config.json, model.safetensors, a tokenizer and preprocessor_config.json",
                remedy="convert pickled weights to safetensors first: pickles can run code and are refused",
            ) from error

    with _no_progress_bar():
        model = load(CLIPModel.from_pretrained, use_safetensors=True)
    if getattr(model.config, "model_type", "") != "clip":
        raise InputError(where, f"a {model.config.model_type}, not a CLIP", expected="a CLIPModel")
    tokenizer = load(AutoTokenizer.from_pretrained)
    # The PIL processor, so that the filter is the same whether torchvision is installed or not.
    processor = load(CLIPImageProcessorPil.from_pretrained)
    return model.eval().float(), tokenizer, processor, getattr(model.config, "_commit_hash", None)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers' bar over weight names out of the log, and leave its setting as it was."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
