"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, AutoencoderKL, UNet2DConditionModel, ε- or v-prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser, Family
from components.diffusion.models.layouts import STABLE_DIFFUSION
from components.diffusion.objectives.discrete import DiscreteObjective

PREDICTION_TYPES = ("epsilon", "v_prediction")


class StableDiffusion(Family):
    """Latent diffusion (Rombach et al., 2022) with noise in discrete steps."""

    layout = STABLE_DIFFUSION

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = DiscreteObjective(scheduler_config)
        self._check(where)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Query, key, value and output of all attention layers."""
        return ("to_q", "to_k", "to_v", "to_out.0")

    def _check(self, where: str) -> None:
        predicted = self.objective.prediction_type
        if predicted not in PREDICTION_TYPES:
            raise InputError(f"{where}/scheduler", f"prediction_type is {predicted!r}", expected=f"one of {', '.join(PREDICTION_TYPES)}")
        channels, latent = self.denoiser.config.in_channels, self.vae.config.latent_channels
        if channels != latent:
            raise InputError(
                f"{where}/unet", f"takes {channels} channels where the VAE gives {latent}", expected="a plain text-to-image base",
                remedy="inpainting, depth and upscaling variants cannot be fine-tuned here",
            )  # fmt: skip
        width, states = self.denoiser.config.cross_attention_dim, sum(part.config.hidden_size for part in self.text_encoders.values())
        if width != states:
            raise InputError(
                f"{where}/text_encoder", f"gives states of size {states} where the UNet attends to {width}", expected="matching parts"
            )

    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """Token states, shape (N, L, D), fp32."""
        own, ids = self.text_encoders["text_encoder"], tokens["text_encoder"]
        # Stable Diffusion was trained without a mask over the padding; some bases say otherwise in their configuration.
        mask = None
        if getattr(own.config, "use_attention_mask", False):
            end = (ids == self.tokenizers["text_encoder"].eos_token_id).int().argmax(dim=1, keepdim=True)
            mask = (torch.arange(ids.shape[1], device=ids.device) <= end).long()
        encoder = (encoders or {}).get("text_encoder", own)
        states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return Conditioning(states.float())

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The UNet's prediction, shape (N, C, h, w), fp32."""
        unet, more = self.called(denoiser), self._added(latents, conditioning, time_ids)
        prediction: torch.Tensor = unet(latents, times, encoder_hidden_states=conditioning.states, return_dict=False, **more)[0]
        return prediction.float()

    def _added(self, latents: torch.Tensor, conditioning: Conditioning, time_ids: torch.Tensor | None) -> dict[str, Any]:
        """Further arguments that the UNet takes."""
        return {}

    def _pipeline_settings(self) -> dict[str, Any]:
        return {**super()._pipeline_settings(), "requires_safety_checker": False, "safety_checker": [None, None]}
