"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, AutoencoderKL, UNet2DConditionModel, ε- or v-prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family, Network
from components.diffusion.models.layouts import STABLE_DIFFUSION
from components.diffusion.training.objective import min_snr_weights

PREDICTION_TYPES = ("epsilon", "v_prediction")


class StableDiffusion(Family):
    """Latent diffusion (Ho et al., 2020; Rombach et al., 2022). A time is one of the schedule's T integer timesteps."""

    layout = STABLE_DIFFUSION

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        from diffusers import DDPMScheduler

        super().__init__(parts, scheduler_config, where)
        # The noise schedule that the base was trained with; samplers by name are made from the same configuration.
        schedule = {key: value for key, value in scheduler_config.items() if not key.startswith("_")}
        self.schedule = DDPMScheduler.from_config({**schedule, "clip_sample": False})
        self.prediction_type = self.schedule.config["prediction_type"]
        self._check(where)

    def _check(self, where: str) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise InputError(
                f"{where}/scheduler", f"prediction_type is {self.prediction_type!r}", expected=f"one of {', '.join(PREDICTION_TYPES)}"
            )
        channels, latent = self.network.config.in_channels, self.vae.config.latent_channels
        if channels != latent:
            raise InputError(
                f"{where}/unet", f"takes {channels} channels where the VAE gives {latent}", expected="a plain text-to-image base",
                remedy="inpainting, depth and upscaling variants cannot be fine-tuned here",
            )  # fmt: skip
        width, states = self.network.config.cross_attention_dim, sum(part.config.hidden_size for part in self.text_encoders.values())
        if width != states:
            raise InputError(
                f"{where}/text_encoder", f"gives states of size {states} where the UNet attends to {width}", expected="matching parts"
            )

    def encode_tokens(self, tokens: torch.Tensor, encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """Token states, shape (N, L, D), fp32."""
        own, ids = self.text_encoders["text_encoder"], tokens[:, 0]
        # Stable Diffusion was trained without a mask over the padding; some bases say otherwise in their configuration.
        mask = None
        if getattr(own.config, "use_attention_mask", False):
            end = (ids == self.tokenizers["text_encoder"].eos_token_id).int().argmax(dim=1, keepdim=True)
            mask = (torch.arange(ids.shape[1], device=ids.device) <= end).long()
        encoder = (encoders or {}).get("text_encoder", own)
        states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return Conditioning(states.float())

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, network: Network | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The UNet's prediction, shape (N, C, h, w), fp32."""
        unet, more = network or self.network, self._added(latents, conditioning, time_ids)
        prediction: torch.Tensor = unet(latents, times, encoder_hidden_states=conditioning.states, return_dict=False, **more)[0]
        return prediction.float()

    def _added(self, latents: torch.Tensor, conditioning: Conditioning, time_ids: torch.Tensor | None) -> dict[str, Any]:
        """What else the UNet takes."""
        return {}

    def draw_times(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Uniform timesteps."""
        return torch.randint(0, len(self.schedule.alphas_cumprod), (count,), generator=generator)

    def spread_times(self, count: int) -> torch.Tensor:
        """The middles of ``count`` equal parts of the schedule."""
        return ((torch.arange(count) + 0.5) * len(self.schedule.alphas_cumprod) / count).long()

    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """√ᾱ_t · x₀ + √(1 − ᾱ_t) · ε (Ho et al., 2020, equation 4), and ε or v (Salimans & Ho, 2022, section 4)."""
        noisy: torch.Tensor = self.schedule.add_noise(clean, noise, times)
        return noisy, noise if self.prediction_type == "epsilon" else self.schedule.get_velocity(clean, noise, times)

    def loss_weights(self, times: torch.Tensor, min_snr_gamma: float) -> torch.Tensor:
        """See :func:`components.diffusion.training.objective.min_snr_weights`."""
        # Not diffusers' compute_snr, which squares a quotient of roots: its rounding would move every trained model.
        alpha = self.schedule.alphas_cumprod.to(times.device)[times].float()
        return min_snr_weights(alpha / (1.0 - alpha), min_snr_gamma, self.prediction_type)

    def _pipeline_settings(self) -> dict[str, Any]:
        return {"requires_safety_checker": False, "safety_checker": [None, None]}
