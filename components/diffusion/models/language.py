"""The common base of families whose prompts are read by a language model: one text encoder, which no method trains."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family

READER = "text_encoder"


class LanguageModelFamily(Family):
    """A family whose prompts are encoded as hidden states of a language model, taken from ``layers``.

    It reads at most ``most_tokens`` tokens, including any text added around the prompt. ``states`` names the denoiser's setting for
    the width of the states. If ``masked``, the denoiser attends only to a prompt's own tokens, otherwise to the padding too. ``chat``
    is None where prompts are read as they are; else they are written with the tokenizer's chat template, and ``chat`` is the
    template's ``enable_thinking``.
    """

    layers: ClassVar[tuple[int, ...]] = (-2,)
    most_tokens: ClassVar[int] = 512
    states: ClassVar[str]
    masked: ClassVar[bool] = True
    chat: ClassVar[bool | None] = None

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        tokenizer = self.tokenizers[READER]
        # Some of these tokenizers pad on the left by default; the pipelines pad on the right.
        tokenizer.padding_side = "right"
        if self.chat is not None and getattr(tokenizer, "chat_template", "") is None:
            raise InputError(
                f"{where}/tokenizer", "has no chat template", expected="chat_template.jinja, or chat_template in tokenizer_config.json",
                remedy="save the whole pipeline with save_pretrained",
            )  # fmt: skip
        config, reader = self.denoiser.config, self.text_encoders[READER].config
        given, wanted = len(self.layers) * reader.hidden_size, config[self.states]
        if reader.num_hidden_layers < max(self.layers):
            raise InputError(
                f"{where}/{READER}", f"has {reader.num_hidden_layers} layers", expected=f"at least {max(self.layers)}",
            )  # fmt: skip
        if given != wanted:
            raise InputError(
                f"{where}/{READER}", f"gives states of {given} numbers where the transformer takes {wanted}",
                expected="matching parts",
            )  # fmt: skip
        if config.in_channels != (channels := self.latent_shape()[0]):
            raise InputError(
                f"{where}/transformer", f"takes {config.in_channels} channels where the VAE gives {channels}", expected="matching parts"
            )

    @property
    def longest(self) -> Mapping[str, int]:
        """The same limit as in the pipeline."""
        return {READER: self.most_tokens}

    @property
    def trained_encoders(self) -> tuple[str, ...]:
        """None: the language model is as large as the transformer and stays frozen."""
        return ()

    def written(self, prompts: Sequence[str], tokenizer: Any) -> list[str]:
        """Unless ``chat`` is None, the prompts as a user's turn in the tokenizer's chat template, up to where the answer would begin."""
        plain = super().written(prompts, tokenizer)
        if self.chat is None:
            return plain
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": self.chat}
        return [tokenizer.apply_chat_template([{"role": "user", "content": prompt}], **options) for prompt in plain]

    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """States (N, L, D), fp32, concatenated over the layers along D; with the mask of the prompts' own tokens if ``masked``."""
        ids = tokens[READER]
        mask = ids != self.tokenizers[READER].pad_token_id
        reader = (encoders or {}).get(READER, self.text_encoders[READER])
        seen: Any = _masks_of_shapes(reader, ids) if ids.is_meta else mask.long()
        hidden = reader(input_ids=ids, attention_mask=seen, output_hidden_states=True, use_cache=False).hidden_states
        states = torch.cat([hidden[layer].float() for layer in self.layers], dim=-1)
        return Conditioning(states, mask=mask if self.masked else None)

    def _pipeline_settings(self) -> dict[str, Any]:
        return {}


def _masks_of_shapes(reader: Any, ids: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Attention masks of full prompts by kind of layer, for meta tensors, which have no values to make masks from.

    Fused attention needs none; eager attention, which Gemma 2 uses to soft-cap its logits, needs them written out.
    """
    length, plain = ids.shape[1], reader.config._attn_implementation == "eager"
    return {
        kind: torch.empty((len(ids), 1, length, length), device=ids.device) if plain else None
        for kind in ("full_attention", "sliding_attention")
    }
