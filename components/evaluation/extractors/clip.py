"""A CLIP's image and text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from components.core.devices import default_device
from components.core.errors import InputError
from components.evaluation.extractors.base import Features, to_unit_norm
from components.evaluation.extractors.pretrained import Source, commit

_EXPECTED = "a folder or hub id with config.json, model.safetensors, a tokenizer and preprocessor_config.json"


class ClipEncoder:
    """A CLIP's image and text encoder (``pocket``, a folder or a hub id; safetensors only): unit-norm embeddings in one space.

    ``field`` is the setting that names the model, for errors.
    """

    unit_norm = True

    def __init__(
        self, model: str, revision: str | None = None, device: str | None = None, batch_size: int = 64, field: str = "scoring.extractor"
    ) -> None:
        import torch
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        source = Source.find(model, revision, field, "a CLIP", _EXPECTED)
        self._model, _ = source.load_model(CLIPModel.from_pretrained)
        if self._model.config.model_type != "clip":
            raise InputError(source.where, f"a {self._model.config.model_type}, not a CLIP", expected="a CLIPModel")
        self._tokenizer = source.load(AutoTokenizer.from_pretrained, trust_remote_code=False)
        # The PIL processor, so that the filter is the same whether torchvision is installed or not.
        self._processor = source.load(CLIPImageProcessorPil.from_pretrained)
        self.device = torch.device(device) if device else default_device("cuda")
        self._model.to(self.device)
        self.batch_size = batch_size
        self.max_tokens = int(self._model.config.text_config.max_position_embeddings)
        self.dimension = int(self._model.config.projection_dim)
        self.id = f"clip:{source.digest(self._model)}"
        self.name = source.name
        self.revision = None if source.folder else commit(self._model)
        side = self._processor.size.get("shortest_edge") or self._processor.size.get("height")
        self.resize = f"shortest side to {side} px, PIL bicubic with antialiasing, centre crop"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) float32 embeddings of unit norm."""

        def encode(batch: list[Image]) -> Any:
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            return self._model.get_image_features(pixel_values=pixels.to(self.device))

        return self._encode(images, encode)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """(N, d) float32 embeddings of unit norm. Texts beyond the model's limit are truncated, as in CLIP."""

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
        return to_unit_norm(np.concatenate(parts))

    def too_long(self, texts: Sequence[str]) -> list[str]:
        """The texts that do not fit the text encoder and would be scored by their beginning only."""
        lengths = self._tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        return [text for text, ids in zip(texts, lengths, strict=True) if len(ids) > self.max_tokens]
