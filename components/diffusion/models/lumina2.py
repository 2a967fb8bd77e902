"""Lumina-Image 2.0 (Qin et al., 2025): a transformer over picture and prompt, FLUX.1's VAE, and Gemma 2 with a system prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser
from components.diffusion.models.language import LanguageModelFamily
from components.diffusion.models.layouts import LUMINA_2
from components.diffusion.objectives.flow import SCALE, FlowObjective, even_levels

SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based on textual "
    "prompts or user prompts. <Prompt Start> "
)


class _FullMask(torch.Tensor):
    """A mask that is a meta tensor: the transformer needs prompt lengths as numbers, so all prompts count as full."""

    # Results of operations on it are plain tensors again.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def sum(self, *_: Any, **__: Any) -> torch.Tensor:
        """L for each of the N rows, as a tensor with values."""
        return torch.full(self.shape[:1], self.shape[1])


class Lumina2(LanguageModelFamily):
    """A transformer that counts time from noise to picture and predicts x₀ − ε.

    Guidance is plain, as in all families; the pipeline in diffusers also rescales the guided prediction to the norm of the prompt's
    own, unless ``cfg_normalization`` is off.
    """

    layout = LUMINA_2
    most_tokens = 256
    states = "cap_feat_dim"

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = FlowObjective(scheduler_config, patch=self.denoiser.config.patch_size, sigmas=even_levels)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Attention and MLPs of all blocks."""
        mlps = (f"feed_forward.linear_{number}" for number in (1, 2, 3))
        return ("to_q", "to_k", "to_v", "to_out.0", *mlps)

    def written(self, prompts: Sequence[str], tokenizer: Any) -> list[str]:
        """The prompts after the system prompt that the base was trained with; an empty prompt gets none."""
        return [SYSTEM + prompt if prompt else prompt for prompt in super().written(prompts, tokenizer)]

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The velocity ε − x₀, shape (N, C, h, w), fp32."""
        mask = conditioning.mask
        if mask is not None and mask.is_meta:
            mask = mask.as_subclass(_FullMask)
        prediction: torch.Tensor = self.called(denoiser)(
            hidden_states=latents, timestep=1.0 - times.expand(len(latents)) / SCALE, encoder_hidden_states=conditioning.states,
            encoder_attention_mask=mask, return_dict=False,
        )[0]  # fmt: skip
        return -prediction.float()
