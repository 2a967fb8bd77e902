"""Z-Image (Tongyi-MAI, 2025): a transformer over one stream of picture and prompt, FLUX.1's VAE, and Qwen3 with a chat template."""

from collections.abc import Mapping
from typing import Any

import torch

from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser
from components.diffusion.models.language import LanguageModelFamily
from components.diffusion.models.layouts import Z_IMAGE
from components.diffusion.objectives.flow import SCALE, FlowObjective, even_levels


class ZImage(LanguageModelFamily):
    """A transformer that counts time from noise to picture and predicts x₀ − ε.

    As in all families, a guidance scale of 1 means none; the ``guidance_scale`` of the pipeline in diffusers is lower by 1.
    """

    layout = Z_IMAGE
    states = "cap_feat_dim"
    chat = True

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = FlowObjective(scheduler_config, sigmas=even_levels)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Attention and MLPs of all blocks."""
        return ("to_q", "to_k", "to_v", "to_out.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The velocity ε − x₀, shape (N, C, h, w), fp32."""
        frames, reached = list(latents.unsqueeze(2)), (SCALE - times.expand(len(latents))) / SCALE
        predictions = self.called(denoiser)(frames, reached, conditioning.own_states(), return_dict=False)[0]
        return -torch.stack(list(predictions)).squeeze(2).float()
