"""Cross-attention heat maps: which places of a picture attend to which words of its prompt, over all layers and steps.

While the usual sampler draws, the attention of every cross-attention layer is recorded. The layers' results are not touched, so
the picture is the same as without recording. The maps are averaged over heads, layers and steps, as in DAAM (Tang et al., 2023)
and in the StyleForge papers' figures.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image

from components.core.config import SamplingSection
from components.core.errors import InputError, StyleForgeError
from components.diffusion.models.bundle import Bundle
from components.diffusion.models.families import Family
from components.diffusion.models.tokens import expand
from components.diffusion.sampling.jobs import Job, PromptRequest, jobs_for
from components.diffusion.sampling.sampler import draw_pictures

# Words that only connect others. They are mapped only if asked for by name.
FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "her", "his", "in", "into", "is", "it", "its", "of", "off", "on", "onto", "or",
     "over", "the", "their", "to", "under", "upon", "with", "without")
)  # fmt: skip


@dataclass(frozen=True)
class HeatMap:
    """Where a picture attends to one word.

    ``values``, float32 of shape (h, w), is for each latent the share of its attention that goes to the word, in 0–1. A word that
    has several tokens, or occurs more than once, gets the sum over all of them, so that shares stay comparable however a tokenizer
    splits the word. ``positions`` are the tokens' positions in the prompt.
    """

    token: str
    positions: tuple[int, ...]
    values: np.ndarray

    @property
    def share(self) -> float:
        """The share of the whole picture's attention that goes to the word, in 0–1."""
        return float(self.values.mean())

    @property
    def breadth(self) -> float:
        """How widely the attention is spread: (Σv)² / (n Σv²), 1 for an even map, 1/n if a single place has it all."""
        values = self.values.astype(np.float64)
        return float(values.sum() ** 2 / (values.size * (values**2).sum()))


@dataclass(frozen=True)
class Explanation:
    """A drawn picture, and a heat map for each word of the request."""

    job: Job
    picture: Image
    maps: tuple[HeatMap, ...]


def explain_pictures(
    bundle: Bundle, requests: Sequence[tuple[PromptRequest, Sequence[str]]], settings: SamplingSection, seed: int
) -> Iterator[Explanation]:
    """Draw one picture of each prompt and map its words (see :func:`token_positions`), in the order of the prompts' ids.

    It is the prompt's first picture from :func:`components.diffusion.sampling.sampler.sample_bank` with the same settings and seed,
    bit for bit if the batch has the same size. Raises InputError, before anything is drawn, if the model has no cross-attention, a
    word is not in its prompt, or two prompts have the same id.
    """
    if not has_maps(bundle):
        raise InputError(
            bundle.model, f"{bundle.family.layout.title} has no cross-attention to map", expected="a base with a UNet",
            remedy="set attention.prompts=0",
        )  # fmt: skip
    places = {
        request.id: {word: token_positions(bundle.family, request.full_prompt, word) for word in dict.fromkeys(words)}
        for request, words in requests
    }
    # Checked before the first picture is drawn.
    return _explain(bundle, jobs_for([request for request, _ in requests], 1, seed), places, settings, seed)


def _explain(
    bundle: Bundle, jobs: Sequence[Job], places: Mapping[str, Mapping[str, tuple[int, ...]]], settings: SamplingSection, seed: int
) -> Iterator[Explanation]:
    for start in range(0, len(jobs), settings.batch_size):
        batch = jobs[start : start + settings.batch_size]
        with record_attention(bundle.family, len(batch), bundle.family.picture_size(settings)) as record:
            pictures = [picture for _, picture in draw_pictures(bundle, [job.request for job in batch], settings, seed)]
        everything = record.maps().cpu().numpy()
        for job, picture, maps in zip(batch, pictures, everything, strict=True):
            named = places[job.request.id].items()
            yield Explanation(job, picture, tuple(HeatMap(word, at, maps[list(at)].sum(axis=0)) for word, at in named))


class AttentionRecord:
    """The cross-attention of N pictures while they are drawn, summed at each resolution of the network.

    The last N (``pictures``) rows of each batch belong to the prompts, the rows before to other branches of the guidance. ``size`` is
    (h, w) of the latents.
    """

    def __init__(self, pictures: int, size: tuple[int, int]) -> None:
        self.pictures, self.size = pictures, size
        self.calls = 0
        self._sums: dict[int, torch.Tensor] = {}

    def add(self, probabilities: torch.Tensor) -> None:
        """Add one layer's attention at one step, shape (N, Q, L)."""
        places = probabilities.shape[1]
        self._sums[places] = self._sums[places] + probabilities if places in self._sums else probabilities
        self.calls += 1

    def maps(self) -> torch.Tensor:
        """The mean over all layers and steps, equally weighted, shape (N, L, h, w): at each place the L shares sum to 1.

        Coarser layers are enlarged bilinearly to the latents' size. Raises StyleForgeError if the network has no cross-attention.
        """
        if not self._sums:
            raise StyleForgeError("the denoiser", "has no cross-attention layer", expected="a network that attends to its prompt")
        total: torch.Tensor | float = 0.0
        for places, values in sorted(self._sums.items(), reverse=True):
            grid = values.transpose(1, 2).unflatten(2, coarser(self.size, places))
            total = total + F.interpolate(grid, size=self.size, mode="bilinear", align_corners=False)
        assert isinstance(total, torch.Tensor)
        return total / self.calls


def coarser(size: tuple[int, int], places: int) -> tuple[int, int]:
    """(h, w) of a layer with ``places`` places in a network that halves ``size`` repeatedly, rounding up."""
    height, width = size
    while height * width > places and height * width > 1:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != places:
        raise StyleForgeError(
            "the denoiser", f"a cross-attention layer has {places} places", expected=f"{size[0]} × {size[1]}, halved any number of times"
        )
    return height, width


def has_maps(bundle: Bundle) -> bool:
    """Whether a model has cross-attention layers to map; in joint transformers, picture and prompt attend to each other and themselves."""
    return bool(_cross_attention(bundle.family))


def _cross_attention(family: Family) -> list[Any]:
    from diffusers.models.attention_processor import Attention

    return [module for module in family.denoiser.modules() if isinstance(module, Attention) and module.is_cross_attention]


@contextlib.contextmanager
def record_attention(family: Family, pictures: int, size: tuple[int, int]) -> Iterator[AttentionRecord]:
    """Record each call of the network within the block, for the last ``pictures`` rows of its batch.

    ``size`` is the pictures' (height, width) in pixels. The layers' own processors still compute the results, and are put back at the
    end.
    """
    record = AttentionRecord(pictures, family.latent_shape(*size)[1:])
    layers = _cross_attention(family)
    before = [layer.processor for layer in layers]
    for layer, processor in zip(layers, before, strict=True):
        layer.set_processor(_Recording(processor, record))
    try:
        yield record
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


class _Recording:
    """An attention processor that records the attention and leaves the work to another one."""

    def __init__(self, processor: Any, record: AttentionRecord) -> None:
        self._processor, self._record = processor, record

    # diffusers only passes arguments that the signature names.
    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None, temb: torch.Tensor | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        if encoder_hidden_states is not None:
            rows = slice(-self._record.pictures, None)
            mask = None if attention_mask is None else attention_mask[rows]
            self._record.add(attention_probabilities(attn, hidden_states[rows], encoder_hidden_states[rows], mask))
        return self._processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **options)


@torch.no_grad()
def attention_probabilities(attn: Any, states: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q kᵀ / √d) of diffusers' cross-attention layer, averaged over its heads, fp32 of shape (N, Q, L).

    ``states`` are those of the picture's places, shape (N, Q, C), ``context`` those of the prompt's tokens, shape (N, L, D); ``mask``,
    shape (N, 1, L), is added to the logits.
    """
    if attn.norm_cross:
        context = attn.norm_encoder_hidden_states(context)
    query, key = (projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for projected in (attn.to_q(states), attn.to_k(context)))
    query = query if attn.norm_q is None else attn.norm_q(query)
    key = key if attn.norm_k is None else attn.norm_k(key)
    # Half precision is too coarse for shares of a percent.
    with torch.autocast(states.device.type, enabled=False):
        logits = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        if mask is not None:
            logits = logits + mask.float().unsqueeze(1)
        return logits.softmax(dim=-1).mean(dim=1)


def token_positions(family: Family, prompt: str, word: str, field: str = "--token") -> tuple[int, ...]:
    """Positions of a word's tokens in a prompt as the network receives it; position 0 is the start token.

    The word is found wherever it occurs as a whole word, in any case; it may be several words ("red hat"). All tokens that it is
    split into belong to it, and all rows of a token that was learnt with several. Raises InputError if the word is not in the prompt
    or comes after the last token that the text encoder reads; ``field`` is where the word was given, for the error message.
    """
    if not contains_word(prompt, word):
        raise InputError(f"{field} {word!r}", f"is not a word of the prompt {prompt!r}", expected=f"one of {', '.join(words_of(prompt))}")
    found: set[int] = set()
    limit = family.limit
    for tokenizer in family.tokenizers.values():
        # A learnt token of several rows is written out as all of them before the tokenizer reads it.
        (written,), (whole,) = expand([prompt], tokenizer), expand([word], tokenizer)
        spans = [*_word_spans(written, whole), *_word_spans(written, word)]
        offsets = tokenizer(written, truncation=False, verbose=False, return_offsets_mapping=True).offset_mapping
        inside = [place for place, (start, end) in enumerate(offsets) if any(start < last and first < end for first, last in spans)]
        # The last position is the end token's.
        found |= {place for place in inside if place < limit - 1}
    if not found:
        raise InputError(
            f"{field} {word!r}", f"the prompt {prompt!r} is cut off before it", expected=f"at most {limit - 2} tokens",
            remedy="shorten the prompt",
        )  # fmt: skip
    return tuple(sorted(found))


def _word_spans(prompt: str, word: str) -> list[tuple[int, int]]:
    pattern = r"\s+".join(re.escape(part) for part in word.split())
    if not pattern:
        return []
    # An edge that is no letter ("[v]", "<sks>") needs no word boundary.
    left, right = (r"(?<!\w)" if re.match(r"\w", word.strip()) else ""), (r"(?!\w)" if re.search(r"\w$", word.strip()) else "")
    return [match.span() for match in re.finditer(left + pattern + right, prompt, re.IGNORECASE)]


def contains_word(prompt: str, word: str) -> bool:
    """Whether a prompt contains a word, as :func:`token_positions` looks for it."""
    return bool(_word_spans(prompt, word))


def words_of(prompt: str) -> list[str]:
    """The distinct words of a prompt, in order."""
    return list(dict.fromkeys(re.findall(r"<[^\s<>]+>|\w+(?:['’-]\w+)*", prompt)))


def telling_words(prompt: str) -> list[str]:
    """The words of a prompt that name something: all but function words such as "a" and "of"."""
    return [word for word in words_of(prompt) if word.lower() not in FUNCTION_WORDS]


def words_to_map(request: PromptRequest, identifiers: Sequence[str], chosen: Sequence[str] = (), count: int = 3) -> list[str]:
    """The words to map if none are asked for: the identifiers, "style", and some words of the prompt bank's own text.

    The latter are the ``chosen`` words or, by default, the first ``count`` of :func:`telling_words`. Words that the full prompt does
    not contain are left out.
    """
    own = chosen or telling_words(request.prompt)[:count]
    words = dict.fromkeys([*(word for word in identifiers if word), "style", *own])
    return [word for word in words if contains_word(request.full_prompt, word)]
