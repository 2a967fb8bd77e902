"""Pictures drawn in line with one of the style's: StyleAligned (Hertz et al., 2024, arXiv 2312.02133), which trains nothing.

The style's picture is denoised along with those that are drawn. In each self-attention layer their queries and keys take the mean and
spread of its own (AdaIN), and they look at its places as well as at theirs. The paper inverts the picture to get its noisy latents; here
they are the picture under noise that stays the same from step to step, as in training, which takes no forward.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from components.core.config import SamplingSection
from components.core.content import derive_seed
from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.jobs import Job, PromptRequest
from components.diffusion.sampling.latents import encode


class AlignedAttention:
    """An attention processor: each group of ``rows`` rows looks at its first row, which is the style's picture."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, attention: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """(N, places, channels) to the same."""
        count, places, _channels = hidden_states.shape

        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.view(count, places, attention.heads, -1).transpose(1, 2)

        query, key, value = (heads(layer(hidden_states)) for layer in (attention.to_q, attention.to_k, attention.to_v))
        query, key = self._in_line(query), self._in_line(key)
        # To the style's picture itself the second copy of its places changes nothing.
        key, value = (torch.cat([each, self._first(each)], dim=2) for each in (key, value))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(count, places, -1)
        for layer in attention.to_out:
            found = layer(found)
        return found

    def _first(self, values: torch.Tensor) -> torch.Tensor:
        groups = values.unflatten(0, (-1, self._rows))
        return groups[:, :1].expand_as(groups).flatten(0, 1)

    def _in_line(self, values: torch.Tensor) -> torch.Tensor:
        """AdaIN over the places (Huang & Belongie, 2017, equation 8)."""
        first = self._first(values)
        own, other = (each.std(dim=2, keepdim=True, unbiased=False).clamp(min=1e-5) for each in (values, first))
        return other * (values - values.mean(dim=2, keepdim=True)) / own + first.mean(dim=2, keepdim=True)


class Aligned:
    """The picture that a model is drawn in line with, at the size of the drawing."""

    def __init__(self, bundle: Bundle, settings: SamplingSection) -> None:
        assert bundle.aligned_to is not None
        self._family = family = bundle.family
        family.turn("vae")
        with torch.no_grad():
            self._clean = encode(family, [bundle.aligned_to.path], family.picture_size(settings))
        noise = torch.randn(self._clean.shape, generator=torch.Generator().manual_seed(derive_seed(0, "aligned")))
        self._noise = noise.to(self._clean)
        self.job = Job(PromptRequest("reference", "", bundle.aligned_to.prompt, bundle.aligned_to.prompt), 0, 0)

    def before(self, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """A branch's latents (N, C, h, w) with the style's picture before them, as noisy as they are."""
        times = time.reshape(1).round().long() if not time.is_floating_point() else time.reshape(1)
        noisy, _ = self._family.objective.corrupt(self._clean, self._noise, times.to(self._clean.device))
        return torch.cat([noisy.to(latents), latents])

    @contextlib.contextmanager
    def attention(self, rows: int) -> Iterator[None]:
        """Within the block self-attention is that of groups of so many rows."""
        layers = [module for name, module in self._family.denoiser.named_modules() if name.endswith(".attn1")]
        before = [layer.processor for layer in layers]
        for layer in layers:
            layer.set_processor(AlignedAttention(rows))
        try:
            yield
        finally:
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(processor)
