"""Stable Diffusion XL (Podell et al., 2023): two text encoders, and a UNet conditioned on how each picture was cropped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family
from components.diffusion.models.layouts import STABLE_DIFFUSION_XL, downsampling
from components.diffusion.models.sources import zeros_for_empty_prompt
from components.diffusion.models.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """Two CLIP text encoders whose penultimate states are joined, the second's pooled projection, and time ids.

    With ``zero_empty``, an empty prompt is encoded as zeros, as in the base's own training, rather than by the text encoders.
    """

    layout = STABLE_DIFFUSION_XL

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str, *, zero_empty: bool = True) -> None:
        super().__init__(parts, scheduler_config, where)
        self.zero_empty = zero_empty
        # Published configurations have a wrong end token, with which CLIP takes the greatest id for the end: an added token's.
        self.text_encoders["text_encoder_2"].text_model.eos_token_id = self.tokenizers["text_encoder_2"].eos_token_id

    @classmethod
    def open(cls, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], folder: Path, where: str) -> Self:
        """See :meth:`Family.open`; the index says how an empty prompt is encoded."""
        return cls(parts, scheduler_config, where, zero_empty=zeros_for_empty_prompt(folder))

    def _check(self, where: str) -> None:
        super()._check(where)
        config = self.denoiser.config
        if config.addition_embed_type != "text_time":
            raise InputError(
                f"{where}/unet", f"addition_embed_type is {config.addition_embed_type!r}", expected="text_time, as in Stable Diffusion XL"
            )
        numbers = self.text_encoders["text_encoder_2"].config.projection_dim + 6 * config.addition_time_embed_dim
        if config.projection_class_embeddings_input_dim != numbers:
            raise InputError(
                f"{where}/text_encoder_2",
                f"pooled text and time ids make {numbers} numbers where the UNet takes {config.projection_class_embeddings_input_dim}",
                expected="matching parts of a base model; the refiner is not one",
            )

    @property
    def idle_parameters(self) -> list[torch.nn.Parameter]:
        """The first text encoder's parameters after its penultimate states, which nothing depends on."""
        first = self.text_encoders["text_encoder"]
        return [*first.encoder.layers[-1].parameters(), *first.final_layer_norm.parameters()]

    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """States of both text encoders before their last layer, joined, (N, L, D₁ + D₂), and the second's projection, (N, P)."""
        states, pooled = [], None
        for name, encoder in self.text_encoders.items():
            output = (encoders or {}).get(name, encoder)(input_ids=tokens[name], output_hidden_states=True)
            states.append(output.hidden_states[-2].float())
            pooled = getattr(output, "text_embeds", None)
        assert pooled is not None
        both, pooled = torch.cat(states, dim=-1), pooled.float()
        if self.zero_empty:
            filled = (tokens["text_encoder"][:, 1] != self.tokenizers["text_encoder"].eos_token_id).to(both.dtype)
            both, pooled = both * filled.view(-1, 1, 1), pooled * filled.view(-1, 1)
        return Conditioning(both, pooled)

    def _added(self, latents: torch.Tensor, conditioning: Conditioning, time_ids: torch.Tensor | None) -> dict[str, Any]:
        if time_ids is None:
            factor = downsampling(self.vae.config)
            height, width = latents.shape[2] * factor, latents.shape[3] * factor
            time_ids = torch.tensor([[height, width, 0, 0, height, width]]).expand(len(latents), -1)
        return {"added_cond_kwargs": {"text_embeds": conditioning.pooled, "time_ids": time_ids.to(latents.device, torch.float32)}}

    def _pipeline_settings(self) -> dict[str, Any]:
        return {**Family._pipeline_settings(self), "force_zeros_for_empty_prompt": self.zero_empty}
