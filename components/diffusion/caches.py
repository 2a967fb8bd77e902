"""What need not be computed twice: VAE moments of picture variants, and states of prompts; keyed by content, never by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from components.diffusion.families import Family
from components.diffusion.pictures import Variant, cut
from components.diffusion.samples import Sample
from components.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

LoadImage = Callable[[Path], "Image"]
ENCODE_BATCH = 8


class LatentCache:
    """VAE moments of pictures, keyed by (sample id, variant).

    Moments are kept, not draws from them, so that every step draws a latent of its own. Turned off, it computes the same on
    every call.

    Args:
        family: whose VAE encodes.
        load_image: reads one picture file as RGB.
        device: where the VAE is.
        seed: the run's seed, for the places of the crops.
        enabled: keep what was computed.
    """

    def __init__(self, family: Family, load_image: LoadImage, device: torch.device, seed: int, *, enabled: bool = True) -> None:
        self._family, self._load, self._device, self._seed, self._enabled = family, load_image, device, seed, enabled
        self._kept: dict[tuple[str, Variant], torch.Tensor] = {}

    def fill(self, samples: Iterable[Sample], variants: Sequence[Variant]) -> None:
        """Encode every variant of every sample once, in a fixed order. Does nothing where the cache is off."""
        if not self._enabled:
            return
        wanted = {(sample.id, variant): (sample, variant) for sample in samples for variant in variants}
        missing = [pair for key, pair in wanted.items() if key not in self._kept]
        for start in range(0, len(missing), ENCODE_BATCH):
            chunk = missing[start : start + ENCODE_BATCH]
            for (sample, variant), moments in zip(chunk, self._encode(chunk), strict=True):
                self._kept[sample.id, variant] = moments.clone()

    def moments(self, samples: Sequence[Sample], variants: Sequence[Variant]) -> torch.Tensor:
        """Moments of N samples in their variants, shape (N, 2C, h, w), on the VAE's device.

        Raises:
            InputError: the VAE's moments of a picture are not finite; the picture is named.
        """
        if not self._enabled:
            return self._encode(list(zip(samples, variants, strict=True)))
        self.fill(samples, list(dict.fromkeys(variants)))
        return torch.stack([self._kept[sample.id, variant] for sample, variant in zip(samples, variants, strict=True)])

    def _encode(self, chunk: Sequence[tuple[Sample, Variant]]) -> torch.Tensor:
        pixels = torch.stack(
            [cut(self._load(sample.file), self._family.resolution, variant, self._seed, sample.id) for sample, variant in chunk]
        )
        moments = self._family.encode_images(pixels.to(self._device))
        for (sample, _), row in zip(chunk, moments, strict=True):
            if not torch.isfinite(row).all():
                raise InputError(
                    str(sample.file), "the base's VAE gives NaN or infinity for this picture", expected="finite latents",
                    remedy="use a base whose VAE is whole; VAEs that were cut to half precision often overflow",
                )  # fmt: skip
        return moments


class PromptCache:
    """Token ids and, where the text encoder is frozen, token states of prompts, each computed once.

    Args:
        family: whose tokenizer and text encoder encode.
        device: where the text encoder is.
        keep_states: keep token states; must be off while the text encoder trains.
    """

    def __init__(self, family: Family, device: torch.device, *, keep_states: bool) -> None:
        self._family, self._device, self._keep = family, device, keep_states
        self._tokens: dict[str, torch.Tensor] = {}
        self._states: dict[str, torch.Tensor] = {}

    def states(self, prompts: Sequence[str], encoder: torch.nn.Module | None = None) -> torch.Tensor:
        """Token states of N prompts, shape (N, L, D). Each different prompt goes through the text encoder once.

        With ``encoder`` gradients flow; without, the states come from the frozen text encoder (and its cache).
        """
        unique = list(dict.fromkeys(prompts))
        index = torch.tensor([unique.index(prompt) for prompt in prompts], device=self._device)
        if encoder is not None:
            return self._family.encode_tokens(self._ids(unique), encoder).index_select(0, index)
        return self._frozen(unique).index_select(0, index)

    def _ids(self, unique: list[str]) -> torch.Tensor:
        missing = [prompt for prompt in unique if prompt not in self._tokens]
        if missing:
            self._tokens.update(zip(missing, self._family.tokenize(missing).to(self._device), strict=True))
        return torch.stack([self._tokens[prompt] for prompt in unique])

    @torch.no_grad()
    def _frozen(self, unique: list[str]) -> torch.Tensor:
        if not self._keep:
            return self._family.encode_tokens(self._ids(unique))
        for prompt in unique:
            if prompt not in self._states:
                # One at a time, so that a prompt's states do not depend on which others came with it.
                self._states[prompt] = self._family.encode_tokens(self._ids([prompt]))[0]
        return torch.stack([self._states[prompt] for prompt in unique])
