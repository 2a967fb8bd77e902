"""Families of base models behind one small interface: encode pictures, encode prompts, predict, target, save.

The training loop and the sampler see only :class:`Family`; a new architecture is one more class here or in a file beside.
"""

from __future__ import annotations

import abc
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from components.core.errors import InputError
from components.core.paths import atomic_file, read_json, write_json
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.layouts import STABLE_DIFFUSION, Layout, downsampling, latent_size
from components.diffusion.models.tokens import expand
from components.diffusion.training import objective

_logger = logging.getLogger(__name__)
Network = Callable[..., Any]
"""A UNet as it is called: the module itself, or what an accelerator or a compiler made of it."""


class Family(abc.ABC):
    """One architecture of base model, holding its parts."""

    layout: Layout
    """What its folders look like."""

    @property
    @abc.abstractmethod
    def parts(self) -> dict[str, torch.nn.Module]:
        """The networks by name: ``unet``, ``vae``, and the text encoders."""

    @property
    @abc.abstractmethod
    def text_encoders(self) -> dict[str, Any]:
        """The K text encoders by name, in the order in which their states are joined: ``text_encoder``, ``text_encoder_2``."""

    @property
    @abc.abstractmethod
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizer of each text encoder, by the text encoder's name."""

    @property
    def idle_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that no prediction depends on: they get no gradient, whatever trains."""
        return []

    @property
    @abc.abstractmethod
    def resolution(self) -> int:
        """Side of the pictures, in pixels."""

    @property
    @abc.abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one picture's latents."""

    @abc.abstractmethod
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """VAE moments (mean and log variance), shape (N, 2C, h, w), of pictures in [-1, 1], shape (N, 3, H, W)."""

    @abc.abstractmethod
    def sample_latents(self, moments: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Scaled latents, shape (N, C, h, w): drawn from the moments with Gaussian noise of that shape, or their mean without any."""

    @abc.abstractmethod
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures in about [-1, 1], shape (N, 3, H, W), of scaled latents."""

    @abc.abstractmethod
    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token ids for each of the K text encoders, padded and cut to their limit L, shape (N, K, L)."""

    @abc.abstractmethod
    def encode_tokens(self, tokens: torch.Tensor, encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """The conditioning of N prompts; through ``encoders`` (wrapped text encoders by name) where given."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of N prompts, from their text."""
        return self.encode_tokens(self.tokenize(prompts).to(next(self.parts["unet"].parameters()).device))

    @abc.abstractmethod
    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        network: Network | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The network's prediction, shape (N, C, h, w).

        Args:
            latents: noisy latents, shape (N, C, h, w).
            timesteps: integers of shape (N,), or one for all.
            conditioning: of N prompts.
            network: a wrapped UNet to go through.
            time_ids: how each picture was cut, shape (N, 6), see ``pictures.time_ids``; for families that ask. Default:
                whole pictures of the base's own size.
        """

    @abc.abstractmethod
    def target(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network should predict, shape (N, C, h, w)."""

    @abc.abstractmethod
    def save(self, folder: Path, *, weights: bool = True) -> None:
        """Write the diffusers layout into ``folder``; without ``weights`` only what describes the model, and the tokenizers."""


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x: one CLIP text encoder, AutoencoderKL, UNet2DConditionModel, ε- or v-prediction."""

    layout = STABLE_DIFFUSION

    def __init__(self, *, unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler_config: dict[str, Any], where: str) -> None:
        from diffusers import DDPMScheduler

        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        # The noise schedule that the base was trained with; samplers by name are made from the same configuration.
        schedule = {key: value for key, value in scheduler_config.items() if not key.startswith("_")}
        self.schedule = DDPMScheduler.from_config({**schedule, "clip_sample": False})
        self.alphas_cumprod: torch.Tensor = self.schedule.alphas_cumprod
        self.scheduler_config = scheduler_config
        self.prediction_type: str = self.schedule.config["prediction_type"]
        self._check(where)

    def _check(self, where: str) -> None:
        if self.prediction_type not in objective.PREDICTION_TYPES:
            raise InputError(
                f"{where}/scheduler",
                f"prediction_type is {self.prediction_type!r}",
                expected=f"one of {', '.join(objective.PREDICTION_TYPES)}",
            )
        channels, latent = self.unet.config.in_channels, self.vae.config.latent_channels
        if channels != latent:
            raise InputError(
                f"{where}/unet",
                f"takes {channels} channels where the VAE gives {latent}",
                expected="a plain text-to-image base",
                remedy="inpainting, depth and upscaling variants cannot be fine-tuned here",
            )
        width, states = self.unet.config.cross_attention_dim, sum(part.config.hidden_size for part in self.text_encoders.values())
        if width != states:
            raise InputError(
                f"{where}/text_encoder", f"gives states of size {states} where the UNet attends to {width}", expected="matching parts"
            )

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """The networks by name."""
        return {"unet": self.unet, "vae": self.vae, **self.text_encoders}

    @property
    def text_encoders(self) -> dict[str, Any]:
        """The one text encoder."""
        return {"text_encoder": self.text_encoder}

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The one text encoder's tokenizer."""
        return {"text_encoder": self.tokenizer}

    @property
    def resolution(self) -> int:
        """Side of the pictures, in pixels."""
        return self.latent_shape[-1] * downsampling(self.vae.config)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one picture's latents."""
        return int(self.unet.config.in_channels), *latent_size(self.unet.config)

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """VAE moments, shape (N, 2C, h, w), always in fp32: many VAEs overflow in fp16."""
        with torch.autocast(pixels.device.type, enabled=False):
            moments: torch.Tensor = self.vae.encode(pixels.float()).latent_dist.parameters
        return moments

    def sample_latents(self, moments: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """(z − shift) · scale with both from the VAE's own configuration, never by hand."""
        mean, log_variance = moments.chunk(2, dim=1)
        latents = mean
        if noise is not None:
            latents = mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise
        return (latents - self._shift) * self._scale

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures in about [-1, 1], shape (N, 3, H, W), decoded in fp32."""
        with torch.autocast(latents.device.type, enabled=False):
            pixels: torch.Tensor = self.vae.decode(latents.float() / self._scale + self._shift).sample
        return pixels

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    @property
    def limit(self) -> int:
        """Greatest number of tokens of a prompt, start and end included."""
        lengths = [tokenizer.model_max_length for tokenizer in self.tokenizers.values()]
        return int(min(*lengths, *(encoder.config.max_position_embeddings for encoder in self.text_encoders.values())))

    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token ids, shape (N, K, L); a warning names every prompt that does not fit whole."""
        for prompt, length in zip(prompts, self.prompt_lengths(prompts), strict=True):
            if length > self.limit:
                _logger.warning("prompt %r has %d tokens, %d fit: its end is cut off", prompt, length, self.limit)
        options: dict[str, Any] = {"padding": "max_length", "max_length": self.limit, "truncation": True, "return_tensors": "pt"}
        ids = [tokenizer(expand(prompts, tokenizer), **options).input_ids for tokenizer in self.tokenizers.values()]
        return torch.stack(ids, dim=1)

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Number of tokens of each prompt, start and end included, uncut."""
        return [len(ids) for ids in self.tokenizer(expand(prompts, self.tokenizer), truncation=False, verbose=False).input_ids]

    def encode_tokens(self, tokens: torch.Tensor, encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """Token states, shape (N, L, D), fp32."""
        ids = tokens[:, 0]
        # Stable Diffusion was trained without a mask over the padding; some bases say otherwise in their configuration.
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            end = (ids == self.tokenizer.eos_token_id).int().argmax(dim=1, keepdim=True)
            mask = (torch.arange(ids.shape[1], device=ids.device) <= end).long()
        encoder = (encoders or {}).get("text_encoder", self.text_encoder)
        states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return Conditioning(states.float())

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        network: Network | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The UNet's prediction, shape (N, C, h, w), fp32. It knows no ``time_ids``."""
        unet = network or self.unet
        prediction: torch.Tensor = unet(latents, timesteps, encoder_hidden_states=conditioning.states, return_dict=False)[0]
        return prediction.float()

    def target(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """ε or v, as the base's scheduler says."""
        return objective.target(clean, noise, self.alphas_cumprod, timesteps, self.prediction_type)

    def to(self, device: torch.device) -> StableDiffusion:
        """Move the networks and the noise schedule."""
        for part in self.parts.values():
            part.to(device)
        self.alphas_cumprod = self.alphas_cumprod.to(device)
        return self

    def save(self, folder: Path, *, weights: bool = True) -> None:
        """Write the diffusers layout: safetensors and JSON, nothing that depends on the machine or the day."""
        folder.mkdir(parents=True, exist_ok=True)
        networks: dict[str, Any] = self.parts
        for name, part in networks.items():
            if weights:
                # Sampling leaves another memory format behind, which safetensors does not take.
                part.to(memory_format=torch.contiguous_format).save_pretrained(folder / name, **_published_names(part))
            elif hasattr(part, "save_config"):
                part.save_config(folder / name)
            else:
                part.config.save_pretrained(folder / name)
            _forget_origin(folder / name / "config.json")
        for name, tokenizer in self.tokenizers.items():
            _save_tokenizer(tokenizer, folder / name.replace("text_encoder", "tokenizer"))
        with atomic_file(folder / "scheduler" / "scheduler_config.json") as temporary:
            # Not write_json: schedulers such as DPM-Solver have -Infinity among their settings, and diffusers writes and reads it.
            temporary.write_text(json.dumps(dict(self.scheduler_config), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_json(folder / "model_index.json", self._index())

    def _index(self) -> dict[str, Any]:
        from diffusers import __version__

        parts: dict[str, Any] = {part: list(cls) for part, cls in self.layout.parts.items()}
        index = {
            **parts,
            **self._pipeline_settings(),
            "_class_name": self.layout.pipeline,
            "_diffusers_version": __version__,
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "scheduler": ["diffusers", self.scheduler_config["_class_name"]],
        }
        return dict(sorted(index.items()))

    def _pipeline_settings(self) -> dict[str, Any]:
        """What diffusers' pipeline asks for beside the parts."""
        return {"requires_safety_checker": False, "safety_checker": [None, None]}


def _published_names(part: Any) -> dict[str, Any]:
    """The names under which published bases hold a text encoder's tensors.

    transformers drops their prefix since 5.6 and reads both; older ones, and programs that do not use it, find no weight
    without the prefix, and take random ones.
    """
    if type(part).__name__ != "CLIPTextModel":
        return {}
    return {"state_dict": {f"text_model.{name.removeprefix('text_model.')}": value for name, value in part.state_dict().items()}}


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        # A tokenizer keeps how it was last called, which is no part of the model.
        backend.no_padding()
        backend.no_truncation()
    tokenizer.save_pretrained(folder)
    _forget_origin(folder / "tokenizer_config.json")


def _forget_origin(file: Path) -> None:
    """Drop the note of where a part was loaded from: a path of this machine, which would change the folder's digest."""
    kept = {
        key: value for key, value in read_json(file).items() if key not in ("_name_or_path", "name_or_path", "is_local", "local_files_only")
    }
    write_json(file, kept)
