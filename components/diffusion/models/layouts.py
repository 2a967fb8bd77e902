"""What models of each family look like on disk: parts, their classes, and the marks of the original one-file layout. Data only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from components.core.config import PLAIN, GuidanceSection, SamplingSection
from components.core.errors import ConfigError
from components.diffusion.objectives.schedulers import DISCRETE, FLOW, Samplers

Config = Mapping[str, Any]
"""A part's ``config.json``."""
_EMPTY: Config = MappingProxyType({})
ALIGNED = "denoiser.self-attention"
"""Nothing is trained: pictures attend to a picture of the style, see :mod:`components.diffusion.sampling.aligned`."""
WAYS = frozenset(
    (
        "denoiser", "denoiser.cross-attention", "denoiser.low-rank", "denoiser.spectral", "text_encoder", "text_encoder.low-rank",
        "text_encoder.spectral", "tokens", "identifiers", ALIGNED,
    )
)  # fmt: skip
"""All ways of training parameters, see :class:`components.diffusion.training.recipe.Recipe`; and :data:`ALIGNED`."""
JOINT_WAYS = WAYS - {"denoiser.cross-attention", ALIGNED}
"""The ways of transformers in which picture and prompt attend to each other, so that no layer belongs to one of them alone."""
TEXT_WAYS = frozenset(("text_encoder", "text_encoder.low-rank", "text_encoder.spectral", "identifiers"))
"""The ways missing from families whose prompts a language model reads: it is as large as the denoiser and stays frozen."""


@dataclass(frozen=True)
class Drawing:
    """How a picture is drawn, fully specified: the sampler's name, the number of steps, and the guidance scale."""

    scheduler: str
    steps: int
    guidance: float


def latent_size(denoiser: Config) -> tuple[int, int]:
    """(h, w) of the latents, from a denoiser's configuration, which gives one side or both."""
    side = denoiser.get("sample_size") or _USUAL_LATENTS
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return int(height), int(width)


def downsampling(vae: Config) -> int:
    """Pixels per latent along one side, from a VAE's configuration."""
    return int(2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1))


def _side_of_latents(denoiser: Config, vae: Config) -> int:
    return latent_size(denoiser)[1] * downsampling(vae)


def _side_of_vae(denoiser: Config, vae: Config) -> int:
    """For transformers that accept any size: the VAE's configuration says what size they were made for."""
    return int(vae.get("sample_size") or 1024)


def _step_of_pairs(denoiser: Config, vae: Config) -> int:
    """Two latents along a side make one token."""
    return downsampling(vae) * 2


def _step_of_unet(denoiser: Config, vae: Config) -> int:
    """The UNet halves the latents at each level but the last."""
    return downsampling(vae) * 2 ** (len(denoiser.get("block_out_channels", [0] * 4)) - 1)


def _largest_by_table(denoiser: Config, vae: Config) -> tuple[int, int]:
    """One table of positions serves both sides."""
    side = int(denoiser.get("pos_embed_max_size") or 96) * downsampling(vae) * int(denoiser.get("patch_size", 2))
    return side, side


def _largest_by_axes(denoiser: Config, vae: Config) -> tuple[int, int] | None:
    """Prompt, rows and columns each have a table of positions; if no lengths are given, there is no limit."""
    _, *lengths = denoiser.get("axes_lens") or [0]
    return (int(lengths[0]) * _step_of_pairs(denoiser, vae), int(lengths[1]) * _step_of_pairs(denoiser, vae)) if lengths else None


@dataclass(frozen=True)
class Layout:
    """A family's folder in diffusers layout, and what is known of its models without opening their weights.

    ``pipeline`` is the class that ``model_index.json`` names, ``title`` what people call the family, ``tag`` what the hub calls it.
    ``parts`` gives each sub-folder's library and class, in the order in which digests count them; a model may lack those in
    ``optional``, and the scheduler may be of any class. ``denoiser`` is the part that denoises. From the configurations of denoiser
    and VAE, ``side`` returns the side of the family's pictures in pixels, ``step`` what height and width must be multiples of, and
    ``largest`` their upper bounds (None: no bounds). ``drawing`` is how pictures are drawn by default. ``distilled`` tells, from the
    configurations of denoiser and scheduler and from the index (``model_index.json``), whether a base was distilled to draw in a few
    steps; ``quick`` is how such a base draws, and ``undistilled`` the hub id of the base to train on instead. ``schedulers`` are the
    samplers that fit, ``ways`` the ways in which parameters can be trained.
    """

    pipeline: str
    title: str
    parts: Mapping[str, tuple[str, str]]
    tag: str = "stable-diffusion"
    denoiser: str = "unet"
    optional: frozenset[str] = frozenset()
    schedulers: Samplers = field(default_factory=lambda: DISCRETE)
    ways: frozenset[str] = WAYS
    side: Callable[[Config, Config], int] = _side_of_latents
    step: Callable[[Config, Config], int] = _step_of_unet
    largest: Callable[[Config, Config], tuple[int, int] | None] = lambda denoiser, vae: None
    drawing: Drawing = Drawing("dpm++", 30, 7.5)
    quick: Drawing | None = None
    distilled: Callable[[Config, Config, Config], bool] = lambda denoiser, index, scheduler: False
    undistilled: str = ""

    def settled(self, settings: SamplingSection, denoiser: Config, index: Config = _EMPTY, scheduler: Config = _EMPTY) -> Drawing:
        """How pictures are drawn: the settings, with the family's defaults for this base's configuration."""
        own = self.quick if self.quick and self.distilled(denoiser, index, scheduler) else self.drawing
        return Drawing(settings.scheduler or own.scheduler, settings.steps or own.steps, settings.guidance or own.guidance)

    def check_formula(self, formula: GuidanceSection | None, denoiser: Config) -> None:
        """Refuse (ConfigError) any guidance formula but plain for a denoiser that was distilled to take the guidance scale as an input."""
        if denoiser.get("guidance_embeds") and formula not in (None, PLAIN):
            raise ConfigError(
                "sampling.guidance_formula", f"this {self.title} was distilled to take guidance as an input, and cannot predict without it",
                expected="plain", remedy="set plain, or use a base without distilled guidance",
            )  # fmt: skip

    def lacks(self, trains: frozenset[str]) -> frozenset[str]:
        """The ways of training of a method that the family lacks; a method that trains nothing needs :data:`ALIGNED`.

        Ways of training text encoders do not count if a language model reads the prompts: it simply stays frozen.
        """
        ways = trains or frozenset({ALIGNED})
        return ways - self.ways - (frozenset() if self.ways & TEXT_WAYS else TEXT_WAYS)

    def fitting(self, size: tuple[int, int], denoiser: Config, vae: Config) -> str | None:
        """What a (height, width) in pixels should have been if the family does not accept it; None if it does."""
        if any(side % self.step(denoiser, vae) for side in size):
            return f"a multiple of {self.step(denoiser, vae)} pixels on each side"
        largest = self.largest(denoiser, vae)
        if largest and (size[0] > largest[0] or size[1] > largest[1]):
            return f"at most {largest[0]} pixels in height and {largest[1]} in width"
        return None

    def is_distilled(self, model: str, denoiser: Config, index: Config, scheduler: Config) -> bool:
        """Whether a base was distilled to draw in a few steps, according to its configuration or its name."""
        named = re.search(r"(?<![a-z])(turbo|lightning|schnell|lcm|hyper)(?![a-z])", model.lower())
        return self.distilled(denoiser, index, scheduler) or bool(named)

    @property
    def networks(self) -> tuple[str, ...]:
        """The parts that have weights."""
        return tuple(part for part in self.parts if part in (self.denoiser, "vae") or part.startswith("text_encoder"))


# A configuration that gives no size is that of Stable Diffusion 1.x, with 512 pixels.
_USUAL_LATENTS = 64
_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", ""),
}
STABLE_DIFFUSION_XL = Layout(
    "StableDiffusionXLPipeline",
    "Stable Diffusion XL",
    _CLASSES,
    "stable-diffusion-xl",
    undistilled="stabilityai/stable-diffusion-xl-base-1.0",
)
STABLE_DIFFUSION = Layout(
    "StableDiffusionPipeline", "Stable Diffusion 1.x/2.x", {part: cls for part, cls in _CLASSES.items() if not part.endswith("_2")}
)
_T5 = {"text_encoder_3": ("transformers", "T5EncoderModel"), "tokenizer_3": ("transformers", "T5TokenizerFast")}
STABLE_DIFFUSION_3 = Layout(
    "StableDiffusion3Pipeline",
    "Stable Diffusion 3/3.5",
    {
        "transformer": ("diffusers", "SD3Transformer2DModel"),
        **{part: cls for part, cls in _CLASSES.items() if part != "unet"},
        "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
        **_T5,
    },
    tag="stable-diffusion-3",
    denoiser="transformer",
    optional=frozenset(_T5),
    schedulers=FLOW,
    ways=JOINT_WAYS,
    step=lambda denoiser, vae: downsampling(vae) * int(denoiser.get("patch_size", 2)),
    largest=_largest_by_table,
    drawing=Drawing("euler", 28, 4.5),
    undistilled="stabilityai/stable-diffusion-3.5-large",
)
FLUX = Layout(
    "FluxPipeline",
    "FLUX.1",
    {
        "transformer": ("diffusers", "FluxTransformer2DModel"),
        **{part: cls for part, cls in _CLASSES.items() if part != "unet"},
        "text_encoder_2": ("transformers", "T5EncoderModel"),
        "tokenizer_2": ("transformers", "T5TokenizerFast"),
    },
    tag="flux",
    denoiser="transformer",
    schedulers=FLOW,
    ways=JOINT_WAYS,
    side=_side_of_vae,
    step=_step_of_pairs,
    drawing=Drawing("euler", 28, 3.5),
    quick=Drawing("euler", 4, 1.0),
    distilled=lambda denoiser, index, scheduler: not denoiser.get("guidance_embeds"),
    undistilled="black-forest-labs/FLUX.1-dev",
)
# Without the head that would generate text: only states of inner layers are read.
_READ_BY_QWEN = {
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "Qwen3Model"),
    "tokenizer": ("transformers", "Qwen2TokenizerFast"),
    "scheduler": ("diffusers", ""),
}
Z_IMAGE = Layout(
    "ZImagePipeline",
    "Z-Image",
    {"transformer": ("diffusers", "ZImageTransformer2DModel"), **_READ_BY_QWEN},
    tag="z-image",
    denoiser="transformer",
    schedulers=FLOW,
    ways=JOINT_WAYS - TEXT_WAYS,
    side=_side_of_vae,
    step=_step_of_pairs,
    largest=_largest_by_axes,
    drawing=Drawing("euler", 50, 5.0),
    quick=Drawing("euler", 8, 1.0),
    # Turbo differs from the one to train on in nothing else that its files say: that one's shift is 6.
    distilled=lambda denoiser, index, scheduler: scheduler.get("shift") == 3.0,
    undistilled="Tongyi-MAI/Z-Image",
)
FLUX_2_KLEIN = Layout(
    "Flux2KleinPipeline",
    "FLUX.2 klein",
    {"transformer": ("diffusers", "Flux2Transformer2DModel"), **_READ_BY_QWEN, "vae": ("diffusers", "AutoencoderKLFlux2")},
    tag="flux2",
    denoiser="transformer",
    schedulers=FLOW,
    ways=JOINT_WAYS - TEXT_WAYS,
    side=_side_of_vae,
    step=_step_of_pairs,
    drawing=Drawing("euler", 50, 4.0),
    quick=Drawing("euler", 4, 1.0),
    distilled=lambda denoiser, index, scheduler: bool(index.get("is_distilled")),
    undistilled="black-forest-labs/FLUX.2-klein-base-4B",
)
LUMINA_2 = Layout(
    "Lumina2Pipeline",
    "Lumina-Image 2.0",
    {
        "transformer": ("diffusers", "Lumina2Transformer2DModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        "text_encoder": ("transformers", "Gemma2Model"),
        "tokenizer": ("transformers", "GemmaTokenizerFast"),
        "scheduler": ("diffusers", ""),
    },
    tag="lumina2",
    denoiser="transformer",
    schedulers=FLOW,
    ways=JOINT_WAYS - TEXT_WAYS,
    step=_step_of_pairs,
    largest=_largest_by_axes,
    drawing=Drawing("euler", 30, 4.0),
)
_FAMILIES = (STABLE_DIFFUSION, STABLE_DIFFUSION_XL, STABLE_DIFFUSION_3, FLUX, Z_IMAGE, FLUX_2_KLEIN, LUMINA_2)
LAYOUTS = {layout.pipeline: layout for layout in _FAMILIES}
TITLES = " or ".join(layout.title for layout in LAYOUTS.values())


@dataclass(frozen=True)
class FileKind:
    """A kind of one-file checkpoint in the original layout.

    With the denoiser's prefix removed, a file is of this kind if each of ``marks`` begins some tensor's name and none of ``others``
    does. ``prefixes`` gives the prefix of the tensors' names for each network that a file may hold; networks that it lacks come from
    the folder beside it. ``configuration`` is the hub id and pinned commit of a folder with the kind's configuration and tokenizers, or
    None if files of the kind differ in ways that only a configuration tells. The denoiser of a ``bare`` kind is also shared alone,
    mostly without its prefix.
    """

    title: str
    layout: Layout
    prefixes: Mapping[str, str]
    configuration: tuple[str, str] | None
    marks: tuple[str, ...]
    others: tuple[str, ...] = ()
    bare: bool = False


DENOISER_PREFIX = "model.diffusion_model."
_UNET_AND_VAE = {"unet": DENOISER_PREFIX, "vae": "first_stage_model."}
_XL_CLIPS, _OPEN_CLIP = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."), "cond_stage_model.model."
WHOLE_KINDS = (
    FileKind(
        "Stable Diffusion XL",
        STABLE_DIFFUSION_XL,
        {**_UNET_AND_VAE, "text_encoder": _XL_CLIPS[0], "text_encoder_2": _XL_CLIPS[1]},
        ("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"),
        _XL_CLIPS,
    ),
    FileKind(
        "Stable Diffusion 1.x",
        STABLE_DIFFUSION,
        {**_UNET_AND_VAE, "text_encoder": "cond_stage_model.transformer."},
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
        ("cond_stage_model.transformer.",),
    ),
    # 2.0 and 2.1 come with ε- and with v-prediction, at 512 and 768 pixels, and the weights do not tell which.
    FileKind("Stable Diffusion 2.x", STABLE_DIFFUSION, {**_UNET_AND_VAE, "text_encoder": _OPEN_CLIP}, None, (_OPEN_CLIP,)),
)
"""The kinds that hold all networks; export writes these kinds too."""


def _bare(layout: Layout, marks: tuple[str, ...], others: tuple[str, ...] = (), **prefixes: str) -> FileKind:
    return FileKind(layout.title, layout, {layout.denoiser: DENOISER_PREFIX, **prefixes}, None, marks, others, bare=True)


_SHARED_CLIP, _SHARED_T5 = "text_encoders.clip_l.transformer.", "text_encoders.t5xxl.transformer."
FILE_KINDS = (
    *WHOLE_KINDS,
    _bare(
        STABLE_DIFFUSION_3, ("joint_blocks.", "context_embedder."), vae="first_stage_model.", text_encoder=_SHARED_CLIP,
        text_encoder_2="text_encoders.clip_g.transformer.", text_encoder_3=_SHARED_T5,
    ),
    _bare(FLUX, ("double_blocks.0.img_mod.", "single_blocks."), vae="vae.", text_encoder=_SHARED_CLIP, text_encoder_2=_SHARED_T5),
    _bare(Z_IMAGE, ("layers.0.adaLN_modulation.0.", "cap_embedder."), vae="vae."),
    _bare(FLUX_2_KLEIN, ("double_blocks.", "single_stream_modulation."), ("guidance_in.",)),
    _bare(LUMINA_2, ("layers.0.adaLN_modulation.1.", "cap_embedder."), vae="vae."),
)  # fmt: skip
"""All kinds that are read. A file is of the first kind that matches."""
FILE_TITLES = " or ".join(dict.fromkeys(kind.layout.title for kind in FILE_KINDS))
# What is often mistaken for a base, by the beginning of a tensor's name after the denoiser's prefix.
NO_BASES = {
    "lora_unet_": "a LoRA",
    "lora_te": "a LoRA",
    "lora_transformer_": "a LoRA",
    "transformer.": "a LoRA",
    "diffusion_model.": "a LoRA",
    "conditioner.embedders.0.model.": "the Stable Diffusion XL refiner",
    "control_model.": "a ControlNet",
    "emb_params": "a textual-inversion embedding",
    "clip_l": "a textual-inversion embedding",
    "distilled_guidance_layer.": "Chroma",
    "single_stream_modulation.": "FLUX.2 dev",
    "double_blocks.": "a transformer of the Flux kind",
    "transformer_blocks.": "a transformer of a diffusers folder",
    "down_blocks.": "a network of a diffusers folder",
}
# A tensor's name with one of these endings means that the file holds integers or 8-bit floats, which are useless without their scales.
SCALED = (".scale_weight", ".weight_scale", "scaled_fp8", ".comfy_quant", ".absmax", ".quant_map", ".qweight", ".SCB")
