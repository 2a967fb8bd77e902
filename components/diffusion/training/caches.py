"""Caches for VAE moments of picture variants and for the conditioning of prompts, keyed by content, never by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from PIL.Image import Image

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family
from components.diffusion.training.buckets import Size, bucket_for
from components.diffusion.training.pictures import cut, time_ids
from components.diffusion.training.samples import Sample
from components.diffusion.training.variety import Variant

LoadImage = Callable[[Path], Image]
ENCODE_BATCH = 8
HOME = torch.device("cpu")


class LatentCache:
    """VAE moments of pictures, keyed by (sample id, variant, bucket). With ``enabled`` off, every call computes them anew.

    Moments are cached, not draws from them, so that every step draws its own latent. ``buckets`` are the sizes that pictures are
    cut to, see :mod:`components.diffusion.training.buckets`; ``seed`` places the crops.
    """

    def __init__(
        self, family: Family, load_image: LoadImage, device: torch.device, seed: int, buckets: Sequence[Size], *, enabled: bool = True
    ) -> None:
        self._family, self._load, self._device, self._seed, self._enabled = family, load_image, device, seed, enabled
        self._buckets = buckets
        self._moments: dict[tuple[str, Variant, Size], torch.Tensor] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def bucket(self, sample: Sample) -> Size:
        """The size that a sample is cut to, (height, width) in pixels."""
        return bucket_for(self._size(sample), self._buckets) if len(self._buckets) > 1 else self._buckets[0]

    def by_bucket(self, samples: Sequence[Sample]) -> list[list[int]]:
        """The places of the samples in each bucket, one list per bucket, in the order in which the buckets first occur."""
        groups: dict[Size, list[int]] = {}
        for place, sample in enumerate(samples):
            groups.setdefault(self.bucket(sample), []).append(place)
        return list(groups.values())

    def fill(self, samples: Iterable[Sample], variants: Sequence[Variant]) -> None:
        """Encode every variant of every sample once, in a fixed order. Does nothing if the cache is off."""
        if not self._enabled:
            return
        requested = {(sample.id, variant, self.bucket(sample)): (sample, variant) for sample in samples for variant in variants}
        missing = [pair for key, pair in requested.items() if key not in self._moments]
        for group in self.by_bucket([sample for sample, _ in missing]):
            for start in range(0, len(group), ENCODE_BATCH):
                chunk = [missing[place] for place in group[start : start + ENCODE_BATCH]]
                for (sample, variant), moments in zip(chunk, self._encode(chunk), strict=True):
                    self._moments[sample.id, variant, self.bucket(sample)] = moments.clone()

    def moments(self, samples: Sequence[Sample], variants: Sequence[Variant]) -> torch.Tensor:
        """Moments of N samples of one bucket in their variants, shape (N, 2C, h, w), on the VAE's device.

        InputError names a picture whose moments are not finite.
        """
        pairs = list(zip(samples, variants, strict=True))
        if not self._enabled:
            return self._encode(pairs)
        self.fill(samples, list(dict.fromkeys(variants)))
        return torch.stack([self._moments[sample.id, variant, self.bucket(sample)] for sample, variant in pairs])

    def time_ids(self, samples: Sequence[Sample], variants: Sequence[Variant]) -> torch.Tensor:
        """Time ids of N samples in their variants, see ``pictures.time_ids``: integers of shape (N, 6)."""
        rows = [
            time_ids(self._size(sample), self.bucket(sample), variant, self._seed, sample.id)
            for sample, variant in zip(samples, variants, strict=True)
        ]
        return torch.tensor(rows)

    def _size(self, sample: Sample) -> tuple[int, int]:
        """(width, height) of a sample's picture, in pixels."""
        if sample.id not in self._sizes:
            self._sizes[sample.id] = self._load(sample.file).size
        return self._sizes[sample.id]

    def _encode(self, chunk: Sequence[tuple[Sample, Variant]]) -> torch.Tensor:
        views = []
        for sample, variant in chunk:
            picture = self._load(sample.file)
            self._sizes[sample.id] = picture.size
            views.append(cut(picture, self.bucket(sample), variant, self._seed, sample.id))
        moments = self._family.encode_images(torch.stack(views).to(self._device))
        for (sample, _), row in zip(chunk, moments, strict=True):
            if not torch.isfinite(row).all():
                raise InputError(
                    str(sample.file), "the base's VAE gives NaN or infinity for this image", expected="finite latents",
                    remedy="use a base with an intact VAE; VAEs converted to half precision often overflow",
                )  # fmt: skip
        return moments


class PromptCache:
    """Token ids and conditioning of prompts, each computed once. ``keep_states`` must be off while a text encoder trains.

    Conditioning is kept in CPU memory: for the 512 tokens of a long text encoder it takes 8 MB per prompt.
    """

    def __init__(self, family: Family, device: torch.device, *, keep_states: bool) -> None:
        self._family, self._device, self._keep = family, device, keep_states
        self._tokens: dict[str, dict[str, torch.Tensor]] = {}
        self._conditioning: dict[str, Conditioning] = {}

    def encode(
        self, prompts: Sequence[str], encoders: Mapping[str, torch.nn.Module] | None = None, times: torch.Tensor | None = None
    ) -> Conditioning:
        """The conditioning of N prompts. Each distinct prompt goes through the text encoders once.

        With ``times``, of shape (N,) or one for all, a token that has rows for each noise stage uses those of its time's stage.
        Gradients flow through ``encoders`` (wrapped text encoders by name); if None or empty, the frozen ones and their cache are used.
        """
        prompts = prompts if times is None else self._family.at_times(prompts, times)
        unique = list(dict.fromkeys(prompts))
        index = torch.tensor([unique.index(prompt) for prompt in prompts], device=self._device)
        if encoders:
            return self._family.encode_tokens(self._ids(unique), encoders).index_select(index)
        return self._frozen(unique).index_select(index)

    def _ids(self, unique: list[str]) -> dict[str, torch.Tensor]:
        missing = [prompt for prompt in unique if prompt not in self._tokens]
        if missing:
            ids = {name: rows.to(self._device) for name, rows in self._family.tokenize(missing).items()}
            self._tokens.update({prompt: {name: rows[row] for name, rows in ids.items()} for row, prompt in enumerate(missing)})
        return {name: torch.stack([self._tokens[prompt][name] for prompt in unique]) for name in self._family.tokenizers}

    @torch.no_grad()
    def _frozen(self, unique: list[str]) -> Conditioning:
        if not self._keep:
            return self._family.encode_tokens(self._ids(unique))
        for prompt in unique:
            if prompt not in self._conditioning:
                # One at a time, so that a prompt's conditioning does not depend on which others are in its batch.
                self._conditioning[prompt] = self._family.encode_tokens(self._ids([prompt])).to(HOME)
        return Conditioning.cat([self._conditioning[prompt] for prompt in unique]).to(self._device)
