"""Draw pictures aligned with one of the style's: StyleAligned (Hertz et al., 2024, arXiv 2312.02133), which trains nothing.

The style's picture is denoised along with those that are drawn. In each self-attention layer, their queries and keys take on the mean
and standard deviation of its own (AdaIN), and they attend to its places as well as to their own. The paper inverts the picture to get
its noisy latents; here it is noised as in training, with noise that stays the same from step to step, which costs no forward pass.
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
    """An attention processor: each group of ``rows`` rows also attends to its first row, which is the style's picture."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, attention: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Self-attention of states (N, places, channels); returns the same shape."""
        count, places, _channels = hidden_states.shape

        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.view(count, places, attention.heads, -1).transpose(1, 2)

        query, key, value = (heads(layer(hidden_states)) for layer in (attention.to_q, attention.to_k, attention.to_v))
        query, key = self._in_line(query), self._in_line(key)
        # For the style's picture itself, the second copy of its places changes nothing.
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
    """The picture that drawings are aligned with, at their size."""

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
        """A branch's latents (N, C, h, w), preceded by the style's picture at the same noise level."""
        times = time.reshape(1).round().long() if not time.is_floating_point() else time.reshape(1)
        noisy, _ = self._family.objective.corrupt(self._clean, self._noise, times.to(self._clean.device))
        return torch.cat([noisy.to(latents), latents])

    @contextlib.contextmanager
    def attention(self, rows: int) -> Iterator[None]:
        """Within the block, self-attention is aligned in groups of ``rows`` rows."""
        layers = [module for name, module in self._family.denoiser.named_modules() if name.endswith(".attn1")]
        before = [layer.processor for layer in layers]
        for layer in layers:
            layer.set_processor(AlignedAttention(rows))
        try:
            yield
        finally:
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(processor)
