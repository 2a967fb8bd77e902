"""FLUX.2 klein (Black Forest Labs, 2026): a transformer over patches of normalised VAE latents, and Qwen3's inner layers."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser
from components.diffusion.models.language import LanguageModelFamily
from components.diffusion.models.layouts import FLUX_2_KLEIN
from components.diffusion.objectives.flow import SCALE, FlowObjective, even_levels

PATCH = 2
"""Latents of the VAE along a side of the square that makes one latent here, and one token."""
# The authors' fit (BFL's flux2, sampling.py): μ as a line (slope, start) over tokens for 10 and for 200 steps; in steps it is linear too.
_FEW, _FEW_STEPS = (8.73809524e-05, 1.89833333), 10
_MANY, _MANY_STEPS = (0.00016927, 0.45666666), 200
_MOST_TOKENS = 4300


def shift_exponent(tokens: int, steps: int | None) -> float:
    """μ of the dynamic shift e^μ for a picture of ``tokens`` tokens drawn in ``steps`` steps.

    In training (``steps`` None) and above 4,300 tokens it is that of 200 steps, FLUX.1's line: 0.5 at 256 tokens, 1.15 at 4,096.
    """
    few, many = (slope * tokens + start for slope, start in (_FEW, _MANY))
    if steps is None or tokens > _MOST_TOKENS:
        return many
    return many + (steps - _MANY_STEPS) * (many - few) / (_MANY_STEPS - _FEW_STEPS)


def token_ids(rows: int, columns: int, length: int, device: torch.device) -> torch.Tensor:
    """Position ids (picture, row, column, place in the text) of tokens, shape (rows · columns · length, 4)."""
    ranges = (torch.arange(count, device=device) for count in (1, rows, columns, length))
    return torch.cartesian_prod(*ranges)


class Flux2Klein(LanguageModelFamily):
    """FLUX.2 klein: latents are the VAE's in squares of 2 × 2, normalised by the statistics that it stores: (N, 4C, h/2, w/2)."""

    layout = FLUX_2_KLEIN
    layers = (9, 18, 27)
    states = "joint_attention_dim"
    masked = False
    chat = False

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = FlowObjective(scheduler_config, patch=1, mu=shift_exponent, sigmas=even_levels)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Attention of the double blocks; in the single blocks, the layers that serve attention and MLP at once."""
        # By full name, since ``to_out`` of the double blocks is a list.
        single = (f"single_transformer_blocks.{index}.attn.to_out" for index in range(self.denoiser.config.num_single_layers))
        return ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj", *single)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(4C, h/2, w/2)."""
        channels, rows, columns = super().latent_shape(height, width)
        return channels * PATCH**2, rows // PATCH, columns // PATCH

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """The VAE's moments in squares of 2 × 2, shape (N, 8C, h/2, w/2)."""
        return F.pixel_unshuffle(super().encode_images(pixels), PATCH)

    def sample_latents(self, moments: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The moments' mean, normalised, shape (N, 4C, h/2, w/2); noise is ignored, as in the base's own training."""
        mean, _ = moments.chunk(2, dim=1)
        center, spread = self._statistics()
        return (mean - center) / spread

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents to pictures in about [-1, 1], shape (N, 3, H, W), in the VAE's own precision."""
        center, spread = self._statistics()
        with torch.autocast(latents.device.type, enabled=False):
            pixels: torch.Tensor = self.vae.decode(F.pixel_shuffle(latents.float() * spread + center, PATCH).to(self.vae.dtype)).sample
        return pixels.float()

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel of the squares, each of shape (1, 4C, 1, 1)."""
        kept = self.vae.bn
        spread = torch.sqrt(kept.running_var + self.vae.config.batch_norm_eps)
        return kept.running_mean.view(1, -1, 1, 1), spread.view(1, -1, 1, 1)

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The velocity ε − x₀, shape (N, C, h, w), fp32."""
        count, _, rows, columns = latents.shape
        text = conditioning.states.shape[1]
        prediction: torch.Tensor = self.called(denoiser)(
            hidden_states=latents.flatten(2).transpose(1, 2), timestep=times.expand(count) / SCALE,
            encoder_hidden_states=conditioning.states, txt_ids=token_ids(1, 1, text, latents.device).expand(count, -1, -1),
            img_ids=token_ids(rows, columns, 1, latents.device).expand(count, -1, -1), guidance=None, return_dict=False,
        )[0]  # fmt: skip
        return prediction.transpose(1, 2).unflatten(2, (rows, columns)).float()

    def _pipeline_settings(self) -> dict[str, Any]:
        return {"is_distilled": bool(self.index.get("is_distilled"))}
