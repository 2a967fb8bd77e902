"""The interface of a family of base models to training, sampling and export, and the code that all families share.

A new architecture is one more class in a file next to this one; no code outside asks which family it has.
"""

from __future__ import annotations

import abc
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch

from components.core.config import SamplingSection
from components.core.errors import InputError
from components.core.paths import atomic_file, read_json, write_json
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.layouts import Drawing, Layout, downsampling
from components.diffusion.models.precision import Precisions, lower, part_bytes, place
from components.diffusion.models.tokens import at_stage, expand, stages_of
from components.diffusion.objectives.base import Objective

_logger = logging.getLogger(__name__)
SLICED_FROM = 512
"""Side in pixels from which a VAE processes one picture at a time: in fp32, a batch of eight at 1,024 would need 20 GB."""
ROOM = 0.5
"""Share of a GPU's memory that all parts together may take. The parts of a larger model take turns on the GPU."""
Denoiser = Callable[..., Any]
"""A denoiser as it is called: the module itself, or the wrapper that an accelerator or a compiler put around it."""


class Family(abc.ABC):
    """One architecture of base model, holding its parts; raises InputError if they do not fit each other.

    ``parts`` are the networks by the names of their folders, ``text_encoders`` those that encode prompts, in the order in which
    their states are joined, ``tokenizers`` their tokenizers by the text encoder's name. Parts that the layout calls optional may be
    missing. ``scheduler_config`` is the noise schedule that the base was trained with, read from its folder; ``objective`` is what
    the denoiser learns with it. Error messages name ``where``.

    Other modules only ever see latents as (N, C, h, w): packing, position ids and sign conventions stay inside the family.
    """

    layout: ClassVar[Layout]
    """The layout of its folders."""
    index: Mapping[str, Any] = MappingProxyType({})
    """The content of ``model_index.json``, for families that keep settings in it."""
    objective: Objective
    text_encoder_targets: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """Name endings of the text encoders' layers that get an adapter by default."""

    def __init__(self, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], where: str) -> None:
        present = [name for name in self.layout.networks if name not in self.layout.optional or parts.get(name) is not None]
        self.parts: dict[str, Any] = {name: parts[name] for name in present}
        self.text_encoders: dict[str, Any] = {name: part for name, part in self.parts.items() if name.startswith("text_encoder")}
        self.tokenizers: dict[str, Any] = {name: parts[name.replace("text_encoder", "tokenizer")] for name in self.text_encoders}
        self.vae: Any = parts["vae"]
        self.scheduler_config = dict(scheduler_config)
        self.device = torch.device("cpu")
        """The device that it computes on; parts that take turns wait on the CPU."""
        self.take_turns = False
        self.precisions, self.offload = Precisions(), 0.0
        if self.resolution >= SLICED_FROM and hasattr(self.vae, "enable_slicing"):
            self.vae.enable_slicing()

    @property
    def denoiser(self) -> Any:
        """The network that denoises."""
        return self.parts[self.layout.denoiser]

    def called(self, denoiser: Denoiser | None) -> Denoiser:
        """The wrapped ``denoiser`` if one is given, else the family's own. Compared with None: a compiled module has no truth value."""
        return self.denoiser if denoiser is None else denoiser

    @classmethod
    def open(cls, parts: Mapping[str, Any], scheduler_config: Mapping[str, Any], folder: Path, where: str) -> Self:
        """The family of loaded parts; ``folder`` holds the ``model_index.json``."""
        family = cls(parts, scheduler_config, where)
        family.index = read_json(folder / "model_index.json")
        return family

    @property
    def longest(self) -> Mapping[str, int]:
        """Maximum number of tokens by text encoder, where the base was trained with fewer than the encoder accepts."""
        return {}

    @property
    def guidance_embedded(self) -> bool:
        """Whether the denoiser takes the guidance scale as an input: distilled to guide in one pass instead of two."""
        return False

    @property
    def trained_encoders(self) -> tuple[str, ...]:
        """The text encoders that are trained by a method that trains the text encoder."""
        return tuple(self.text_encoders)

    @property
    @abc.abstractmethod
    def adapter_targets(self) -> tuple[str, ...]:
        """Name endings of the denoiser's layers that get an adapter by default."""

    @property
    def idle_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that no prediction depends on, so that they never get a gradient."""
        return []

    def drawing(self, settings: SamplingSection) -> Drawing:
        """How pictures are drawn: the settings, with the family's defaults for what they leave open."""
        return self.layout.settled(settings, self.denoiser.config, self.index, self.scheduler_config)

    @property
    def resolution(self) -> int:
        """Side of the pictures that the base was made for, in pixels."""
        return self.layout.side(self.denoiser.config, self.vae.config)

    def picture_size(self, settings: SamplingSection) -> tuple[int, int]:
        """(height, width) in pixels of the pictures that the settings ask for."""
        return settings.height or self.resolution, settings.width or self.resolution

    @property
    def size_step(self) -> int:
        """Number of pixels that a picture's height and width must be multiples of."""
        return self.layout.step(self.denoiser.config, self.vae.config)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture of this size in pixels, by default the base's own square.

        Raises InputError for a size that the family does not accept.
        """
        height, width = height or self.resolution, width or self.resolution
        if expected := self._fitting((height, width)):
            raise InputError(f"{width} × {height} pixels", f"{self.layout.title} does not take this size", expected=expected)
        factor = downsampling(self.vae.config)
        return int(self.vae.config.latent_channels), height // factor, width // factor

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether pictures of this size, (height, width) in pixels, can be drawn and trained on."""
        return self._fitting(size) is None

    def _fitting(self, size: tuple[int, int]) -> str | None:
        return self.layout.fitting(size, self.denoiser.config, self.vae.config)

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """VAE moments (mean and log variance), shape (N, 2C, h, w), of pictures in [-1, 1], shape (N, 3, H, W).

        Computed in the VAE's own precision, even under a caller's autocast: many VAEs overflow in fp16.
        """
        with torch.autocast(pixels.device.type, enabled=False):
            moments: torch.Tensor = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.parameters
        return moments.float()

    def sample_latents(self, moments: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Latents (z − shift) · scale, shape (N, C, h, w), with shift and scale always read from the VAE's own configuration.

        With Gaussian ``noise`` of the same shape, z is sampled from the moments; without, it is their mean.
        """
        latents, log_variance = moments.chunk(2, dim=1)
        if noise is not None:
            latents = latents + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise
        return (latents - self._shift) * self._scale

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode such latents to pictures in about [-1, 1], shape (N, 3, H, W), in the VAE's own precision."""
        with torch.autocast(latents.device.type, enabled=False):
            pixels: torch.Tensor = self.vae.decode((latents.float() / self._scale + self._shift).to(self.vae.dtype)).sample
        return pixels.float()

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    @property
    def limits(self) -> dict[str, int]:
        """Maximum number of tokens in a prompt by text encoder, start and end tokens included."""
        found = {}
        for name, encoder in self.text_encoders.items():
            positions = getattr(encoder.config, "max_position_embeddings", None)
            bounds = [self.tokenizers[name].model_max_length, positions, self.longest.get(name)]
            found[name] = int(min(bound for bound in bounds if bound))
        return found

    @property
    def limit(self) -> int:
        """Maximum number of tokens in a prompt for the text encoder that reads most."""
        return max(self.limits.values())

    def tokenize(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Token ids by text encoder, padded and truncated to its limit L, each of shape (N, L). Warns about prompts that do not fit."""
        for prompt, length in zip(prompts, self.prompt_lengths(prompts), strict=True):
            if length > self.limit:
                _logger.warning("prompt %r has %d tokens, %d fit: its end is cut off", prompt, length, self.limit)
        options: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return {
            name: tokenizer(self.written(prompts, tokenizer), max_length=self.limits[name], **options).input_ids
            for name, tokenizer in self.tokenizers.items()
        }

    def written(self, prompts: Sequence[str], tokenizer: Any) -> list[str]:
        """The prompts as a tokenizer receives them: new tokens with several rows are written out."""
        return expand(prompts, tokenizer)

    @property
    def stages(self) -> dict[str, int]:
        """Number of stages of each learnt token that has rows for every stage of noise (DreamStyler, Ahn et al., 2024)."""
        return {token: count for tokenizer in self.tokenizers.values() for token, count in stages_of(tokenizer).items()}

    def at_times(self, prompts: Sequence[str], times: torch.Tensor) -> list[str]:
        """The prompts with each staged token written as the name for its time's stage; ``times`` has shape (N,), or is one for all."""
        found = list(prompts)
        for token, count in self.stages.items():
            stages = self.objective.stages(times.reshape(-1), count).expand(len(found)).tolist()
            found = [at_stage(prompt, token, count, stage) for prompt, stage in zip(found, stages, strict=True)]
        return found

    def at_all_stages(self, prompts: Sequence[str]) -> list[str]:
        """The prompts at every stage of noise, without duplicates."""
        found = list(prompts)
        for token, count in self.stages.items():
            found = [at_stage(prompt, token, count, stage) for prompt in found for stage in range(count)]
        return list(dict.fromkeys(found))

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Number of tokens of each prompt before truncation, start and end included, for the text encoder that reads most."""
        limits = self.limits
        reader = self.tokenizers[max(limits, key=lambda name: limits[name])]
        return [len(ids) for ids in reader(self.written(prompts, reader), truncation=False, verbose=False).input_ids]

    @abc.abstractmethod
    def encode_tokens(self, tokens: Mapping[str, torch.Tensor], encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        """The conditioning of N prompts, fp32, from :meth:`tokenize`'s ids; computed by ``encoders`` (wrapped ones, by name) if given."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of N prompts."""
        return self.encode_tokens({name: ids.to(self.device) for name, ids in self.tokenize(prompts).items()})

    @abc.abstractmethod
    def predict(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None,
        time_ids: torch.Tensor | None = None, guidance: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The denoiser's prediction, shape (N, C, h, w), fp32, for noisy latents of that shape; by a wrapped ``denoiser`` if given.

        ``times`` are the objective's or a sampler's, shape (N,), or one for all. ``time_ids``, shape (N, 6), say how each picture was
        cropped (see ``pictures.time_ids``), in families that use them; the default is a whole picture of the latents' size.
        ``guidance`` is the scale given to a denoiser with :attr:`guidance_embedded`; the default is the one that it trains with.
        """

    def lower(self, precisions: Precisions, device: torch.device, offload: float = 0.0, but: Collection[str] = ()) -> Self:
        """Convert frozen weights to ``precisions`` for work on ``device``, except in the parts ``but``, which train as a whole.

        ``offload`` is the share of the denoiser's blocks that stay on the CPU.
        """
        self.precisions, self.offload = precisions, offload
        for name, part in self.parts.items():
            if name not in but:
                lower(part, precisions.of(name), device, offload if name == self.layout.denoiser else 0.0)
        return self

    def to(self, device: torch.device) -> Self:
        """Set the working device: move all parts to ``device``, or leave that to :meth:`turn` if they need too much memory."""
        self.device = device
        if device.type == "cuda":
            room = ROOM * torch.cuda.get_device_properties(device).total_memory
            self.take_turns = sum(part_bytes(part) for part in self.parts.values()) > room
        for part in self.parts.values():
            place(part, torch.device("cpu") if self.take_turns else device)
        return self

    def turn(self, *names: str) -> None:
        """Call before using parts: if parts take turns, this moves the named ones to the device and the others off it."""
        if self.take_turns:
            for name in sorted(self.parts, key=lambda each: each in names):
                place(self.parts[name], self.device if name in names else torch.device("cpu"))

    def save(self, folder: Path, *, weights: bool = True) -> None:
        """Write the diffusers layout: safetensors and JSON, nothing that depends on the machine or the day.

        Without ``weights``, only the configuration and the tokenizers.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in self.parts.items():
            if weights:
                # Sampling leaves the weights in another memory format, which safetensors does not accept.
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

        held = {*self.parts, *(name.replace("text_encoder", "tokenizer") for name in self.text_encoders), "scheduler"}
        parts: dict[str, Any] = {part: list(cls) if part in held else [None, None] for part, cls in self.layout.parts.items()}
        index = {
            **parts,
            **self._pipeline_settings(),
            "_class_name": self.layout.pipeline,
            "_diffusers_version": __version__,
            "scheduler": ["diffusers", self.scheduler_config["_class_name"]],
        }
        return dict(sorted(index.items()))

    def _pipeline_settings(self) -> dict[str, Any]:
        """Index entries that diffusers' pipeline expects besides the parts."""
        return {"feature_extractor": [None, None], "image_encoder": [None, None]}


def _published_names(part: Any) -> dict[str, Any]:
    """Options of ``save_pretrained`` that give a CLIP text encoder's tensors the names that published bases use.

    Since 5.6 transformers drops their prefix and reads both forms. Older versions, and programs that do not use it, find no
    weights without the prefix and fall back to random ones.
    """
    if type(part).__name__ != "CLIPTextModel":
        return {}
    return {"state_dict": {f"text_model.{name.removeprefix('text_model.')}": value for name, value in part.state_dict().items()}}


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        # A tokenizer remembers the padding and truncation of its last call, which are not part of the model.
        backend.no_padding()
        backend.no_truncation()
    tokenizer.save_pretrained(folder)
    _forget_origin(folder / "tokenizer_config.json")


def _forget_origin(file: Path) -> None:
    """Drop the record of where a part was loaded from: a path on this machine, which would change the folder's digest."""
    kept = {
        key: value for key, value in read_json(file).items() if key not in ("_name_or_path", "name_or_path", "is_local", "local_files_only")
    }
    write_json(file, kept)
