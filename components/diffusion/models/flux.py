"""FLUX.1 (Black Forest Labs, 2024), dev and schnell: a transformer over packed latents, T5's states and CLIP's pooled vector."""

from collections.abc import Mapping
from typing import Any

import torch

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser, Family
from components.diffusion.models.layouts import FLUX
from components.diffusion.objectives.flow import SCALE, FlowObjective, even_levels

CLIP, T5 = "text_encoder", "text_encoder_2"
PATCH = 2
"""Latents along a side of the square that is packed into one token."""
TRAINED_GUIDANCE = 1.0
"""Guidance scale given to dev in training: at 1 it predicts the training pictures, not what guidance would make of them."""


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) as tokens (N, hw/4, 4C): squares of 2 × 2, row by row."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(count, -1, channels * PATCH**2)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of :func:`pack`, for latents of ``height`` × ``width``."""
    squares = tokens.reshape(len(tokens), height // PATCH, width // PATCH, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(len(tokens), -1, height, width)


def picture_ids(height: int, width: int, device: torch.device) -> torch.Tensor:
    """(0, row, column) of each token of latents of ``height`` × ``width``, shape (hw/4, 3)."""
    rows, columns = torch.meshgrid(torch.arange(height // PATCH), torch.arange(width // PATCH), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).to(device, torch.float32)


class Flux(Family):
    """FLUX.1: dev takes the guidance scale as an input and guides by itself; schnell takes no guidance at all."""

    layout = FLUX

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = FlowObjective(scheduler_config, patch=PATCH, sigmas=even_levels)
        config, clip, t5 = self.denoiser.config, self.text_encoders[CLIP].config, self.text_encoders[T5].config
        latent = PATCH**2 * self.vae.config.latent_channels
        facts = (
            ("transformer", "takes tokens", config.in_channels, "the VAE gives", latent),
            (CLIP, "gives a pooled vector", clip.hidden_size, "the transformer takes", config.pooled_projection_dim),
            (T5, "gives states", t5.d_model, "the transformer takes", config.joint_attention_dim),
        )
        for part, does, own, who, other in facts:
            if own != other:
                raise InputError(
                    f"{where}/{part}", f"{does} of {own} numbers where {who} {other}", expected="matching parts of a text-to-image base",
                    remedy="Fill, Canny, Depth, Redux and Kontext cannot be fine-tuned here",
                )  # fmt: skip

    @property
    def longest(self) -> Mapping[str, int]:
        """Number of T5 tokens that the base was trained with: 512 for dev, 256 for schnell."""
        return {T5: 512 if self.guidance_embedded else 256}

    @property
    def guidance_embedded(self) -> bool:
        """True for dev."""
        return bool(self.denoiser.config.guidance_embeds)

    @property
    def trained_encoders(self) -> tuple[str, ...]:
        """CLIP only: T5 stays frozen."""
        return (CLIP,)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Attention and MLPs of the double blocks, and of the single blocks, which hold half of what a style LoRA learns."""
        double = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        mlps = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp")
        # By full name, since the transformer's last layer is a ``proj_out`` too.
        single = (f"single_transformer_blocks.{index}.proj_out" for index in range(self.denoiser.config.num_single_layers))
        return (*double, *mlps, *single)

    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """T5's states (N, L, D) and CLIP's pooled vector (N, P), fp32."""
        called = {name: (encoders or {}).get(name, encoder) for name, encoder in self.text_encoders.items()}
        pooled = called[CLIP](input_ids=tokens[CLIP]).pooler_output
        return Conditioning(called[T5](input_ids=tokens[T5]).last_hidden_state.float(), pooled.float())

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The velocity ε − x₀, shape (N, C, h, w), fp32."""
        count, _, height, width = latents.shape
        scale = TRAINED_GUIDANCE if guidance is None else guidance
        prediction: torch.Tensor = self.called(denoiser)(
            hidden_states=pack(latents), timestep=times.expand(count) / SCALE, encoder_hidden_states=conditioning.states,
            pooled_projections=conditioning.pooled, txt_ids=latents.new_zeros((conditioning.states.shape[1], 3)),
            img_ids=picture_ids(height, width, latents.device),
            guidance=latents.new_full((count,), scale) if self.guidance_embedded else None, return_dict=False,
        )[0]  # fmt: skip
        return unpack(prediction, height, width).float()
