"""Stable Diffusion 3 and 3.5 (Esser et al., 2024): two CLIP text encoders, a T5 that may be missing, and a joint transformer."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from components.core.errors import InputError
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Denoiser, Family
from components.diffusion.models.layouts import STABLE_DIFFUSION_3
from components.diffusion.objectives.flow import FlowObjective

T5, T5_TOKENS = "text_encoder_3", 256


class StableDiffusion3(Family):
    """A joint transformer over the picture's patches and the prompt's tokens."""

    layout = STABLE_DIFFUSION_3

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        super().__init__(parts, scheduler_config, where)
        self.objective = FlowObjective(scheduler_config, patch=self.denoiser.config.patch_size)
        config, clips = self.denoiser.config, [self.text_encoders[name].config for name in self.trained_encoders]
        self._clip_width = sum(clip.hidden_size for clip in clips)
        self._check(where, config, sum(clip.projection_dim for clip in clips))

    def _check(self, where: str, config: Any, pooled: int) -> None:
        latent = self.vae.config.latent_channels
        if config.in_channels != latent:
            raise InputError(
                f"{where}/transformer", f"takes {config.in_channels} channels where the VAE gives {latent}", expected="matching parts"
            )
        if config.pooled_projection_dim != pooled:
            raise InputError(
                f"{where}/text_encoder_2",
                f"the pooled vectors have {pooled} numbers where the transformer takes {config.pooled_projection_dim}",
                expected="matching parts",
            )
        wide, t5 = config.joint_attention_dim, self.text_encoders.get(T5)
        if self._clip_width > wide or (t5 is not None and t5.config.d_model != wide):
            raise InputError(
                f"{where}/{T5 if t5 is not None else 'text_encoder'}", f"gives states that are not of the transformer's size {wide}",
                expected="matching parts",
            )  # fmt: skip

    @property
    def longest(self) -> Mapping[str, int]:
        """T5 gets 256 tokens, as in the pipeline."""
        return {T5: T5_TOKENS}

    @property
    def trained_encoders(self) -> tuple[str, ...]:
        """The CLIPs: T5 is as large as the transformer and stays frozen."""
        return tuple(name for name in self.text_encoders if name != T5)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Attention of picture and prompt; ``to_q`` and the like also match the second attention in 3.5-medium's first blocks."""
        return ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """States (N, L, D), fp32: the CLIPs' before their last layer, joined and zero-padded to D, then T5's; and pooled (N, P).

        If T5 is missing, zeros replace its 256 tokens, as in the pipeline; a transformer no wider than the CLIPs has never seen a T5,
        and gets no such tokens.
        """
        called = {name: (encoders or {}).get(name, encoder) for name, encoder in self.text_encoders.items()}
        outputs = [called[name](input_ids=tokens[name], output_hidden_states=True) for name in self.trained_encoders]
        states = torch.cat([output.hidden_states[-2].float() for output in outputs], dim=-1)
        pooled = torch.cat([output.text_embeds.float() for output in outputs], dim=-1)
        wide = int(self.denoiser.config.joint_attention_dim)
        states = F.pad(states, (0, wide - states.shape[-1]))
        if T5 in called:
            more = called[T5](input_ids=tokens[T5]).last_hidden_state.float()
        else:
            more = states.new_zeros((len(states), 0 if wide == self._clip_width else T5_TOKENS, wide))
        return Conditioning(torch.cat([states, more], dim=1), pooled)

    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The velocity ε − x₀, shape (N, C, h, w), fp32."""
        prediction: torch.Tensor = self.called(denoiser)(
            hidden_states=latents, timestep=times.expand(len(latents)), encoder_hidden_states=conditioning.states,
            pooled_projections=conditioning.pooled, return_dict=False,
        )[0]  # fmt: skip
        return prediction.float()
