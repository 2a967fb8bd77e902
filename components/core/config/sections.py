"""The sections of a run: unknown keys are refused, and every field is documented with its unit."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from components.core.config.guidance import GuidanceSection, plain_by_name
from components.core.config.section import PositiveInt, Probability, Section
from components.core.errors import ConfigError


def _without_credentials(value: str | None) -> str | None:
    """Refuse credentials in a URL: the configuration is recorded with every run, so a password in it would be too."""
    if value and "@" in urlsplit(value).netloc:
        raise ValueError("must not contain a user name or password; set them in the environment (such as MLFLOW_TRACKING_USERNAME)")
    return value


Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8", "nf4"]
OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "schedule-free"]
TransformName = Literal[
    "invert", "posterize", "solarize", "sharpen", "autocontrast", "equalize", "horizontal-flip", "vertical-flip",
]  # fmt: skip
Measure = Literal["style_score", "copies", "leakage", "diversity", "cmmd", "truth"]
Place = Annotated[str, AfterValidator(_without_credentials)]
"""A folder or URL."""


class StyleSection(Section):
    """The style to learn, and the location of its images."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the style; part of the registered model's name.")
    source: Place = Field(
        description="Folder or fsspec URL of the images: a flat folder, or `style_ref/`, `aux_pool/`, `reference/` with `metadata.jsonl`."
    )
    reference: Place | None = Field(
        None, description="Folder or URL of held-out images of the style for FID, KID and CLIP-I; default: `reference/` inside the source."
    )
    max_pixels: PositiveInt = Field(
        89_478_485, le=178_956_970, description="Largest accepted image, in pixels (width × height); guards against decompression bombs."
    )


class AuxSection(Section):
    """The auxiliary (prior-preservation) images."""

    source: Literal["curated", "generated", "target", "none"] | None = Field(
        None,
        description="`curated` from the pool, `generated` by the frozen base from the class prompt, `target` (StyleRef itself), or `none`; "
        "default: the method's.",
    )
    pool: Place | None = Field(None, description="Folder or URL to curate from; default: `aux_pool/` inside the style source.")
    count: PositiveInt = Field(20, description="Number of curated images (the papers use 15–20).")
    generated_count: PositiveInt = Field(200, description="Number of class images to generate (DreamBooth's public script: 200).")
    form: str = Field("digital painting", description="Art form that curated images should be close to.")
    prompt: str | None = Field(
        None, description="Class prompt from which Aux images are generated; default: the concept's `aux_prompt` without a caption."
    )


STYLE_WORDS = (
    "3d render", "acrylic", "anime", "art", "artistic", "artwork", "black and white", "brushstroke", "cartoon", "cgi", "charcoal",
    "comic", "cubist", "drawing", "engraving", "etching", "fresco", "gouache", "illustration", "image", "impressionist", "line art",
    "low poly", "manga", "minimalist", "monochrome", "mosaic", "painting", "pencil", "photo", "photograph", "picture", "pixel art",
    "pop art", "render", "sepia", "sketch", "style", "stylized", "surrealist", "vector", "vintage", "watercolor", "watercolour", "woodcut",
)  # fmt: skip
"""Words for medium and style, which the identifier stands for and which captions written by a model therefore leave out."""


class CaptionsSection(Section):
    """Captions for images that have none, written by a vision-language model."""

    model: str | None = Field(
        None, description="Folder or hub id of a vision-language model in transformers layout; null: write no captions."
    )
    revision: str | None = Field(None, description="Pinned commit of a hub model; required for hub ids.")
    prompt: str | None = Field(
        None,
        description="Prompt for the model; `{omit}` is the list of words to leave out. Default: for models with a chat template, a "
        "request for subject, pose and place; others need no prompt and would continue this text.",
    )
    omit: tuple[str, ...] = Field(
        STYLE_WORDS, description="Words for medium and style, which the identifier represents. No written caption contains one."
    )
    max_tokens: PositiveInt = Field(60, description="Maximum length of a caption, in tokens.")
    batch_size: PositiveInt = Field(4, description="Images captioned at once; affects captions by rounding at most.")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="Precision of the weights; default: bf16 on a GPU that supports it, fp16 on other GPUs, fp32 elsewhere."
    )


class PrecisionSection(Section):
    """Precision of the base's frozen weights. For trained weights see `training.weights`."""

    denoiser: Precision = Field(
        "auto",
        description="Precision of the denoiser; `auto`: bf16 on CUDA, fp32 elsewhere. `fp8`, `int8` and `nf4` apply to storage only.",
    )
    text_encoders: Precision = Field("auto", description="Precision of the text encoders; `auto` as for the denoiser.")
    vae: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision of the VAE; `auto` is fp32, because many VAEs overflow in fp16."
    )


def _for_each(value: Any) -> Any:
    """Apply a single name to both the denoiser and the text encoders."""
    return {"denoiser": value, "text_encoders": value} if isinstance(value, str) else value


class BaseSection(Section):
    """The text-to-image model to start from."""

    model: str = Field("pocket", description="`pocket`, `pocket-flow`, `art`, a diffusers folder, a `.safetensors` file, or a hub id.")
    revision: str | None = Field(None, description="Pinned commit of a hub model; required for hub ids.")
    precision: Annotated[PrecisionSection, BeforeValidator(_for_each)] = Field(
        PrecisionSection(),
        description="Precision of frozen weights: one name for the denoiser and the text encoders, or one for each part.",
    )
    offload: Probability = Field(
        0.0, description="Share of the denoiser's blocks whose frozen weights stay in CPU memory until they are used."
    )


class TimesSection(Section):
    """Distribution of the training timesteps: how noisy a step's samples are. Unset fields follow the base's own training."""

    law: Literal["uniform", "logit-normal", "mode", "style-friendly"] | None = Field(
        None, description="Distribution of the noise level: `uniform`, `logit-normal`, `mode` (the last two from Stable Diffusion 3's "
        "paper), or `style-friendly` (log-SNR around -6: high noise, where style is decided); default: the base's own (Stable Diffusion "
        "1.x to XL: uniform).",
    )  # fmt: skip
    mean: float | None = Field(
        None, description="Mean of the noise level's logit, for logit-normal (default 0) and style-friendly (default 3 at 128 × 128 "
        "latents, less for smaller ones). Higher is noisier; diffusers' `logit_mean` has the opposite sign.",
    )  # fmt: skip
    std: float | None = Field(None, gt=0, description="Standard deviation of the noise level's logit (default 1).")
    scale: float | None = Field(None, ge=-1.0, le=1.75, description="How strongly `mode` prefers medium noise levels (default 1.29).")
    shift: Annotated[float, Field(gt=0)] | Literal["none", "dynamic"] | None = Field(
        None, description="Shift towards noise: a factor on the odds of the noise level, `dynamic` (flow bases: from the image size), or "
        "`none`; default: the base's own; none for style-friendly.",
    )  # fmt: skip
    stratified: bool | None = Field(
        None,
        description="Spread the timesteps of a step's StyleRef and Aux images evenly over the distribution; default: yes for flow bases.",
    )
    grid: PositiveInt | None = Field(
        None, description="Train only at the timesteps that a sampler with this many evenly spaced steps visits; default: the method's "
        "(specialist-diffusion: 100; others: all timesteps).",
    )  # fmt: skip


class TrainingSection(Section):
    """The training loop, common to all methods."""

    steps: PositiveInt = Field(800, description="Optimizer steps.")
    learning_rate: float | None = Field(
        None, gt=0,
        description="Learning rate; default: the method's reference rate (5e-6; lora and dreamartist-lora 1e-4, textual-inversion 5e-4, "
        "custom-diffusion and specialist-diffusion 1e-5, styledrop 5e-5, svdiff 1e-3, dreamstyler 2e-3, dreamartist 2.5e-3), a fifth of "
        "it with `lion`, and 1 with `prodigy`, which estimates the rate itself and multiplies it by this value.",
    )  # fmt: skip
    text_encoder_learning_rate: float | None = Field(None, gt=0, description="Learning rate of the text encoder; default: `learning_rate`.")
    token_learning_rate: float | None = Field(
        None,
        gt=0,
        description="Learning rate of learned token rows and of `method.identifier_rows`; default: `learning_rate` "
        "(dreamartist-lora: 2.5e-3).",
    )
    processes: PositiveInt = Field(
        1,
        description="Processes that train together on one machine, each with its own GPU, or without GPUs its share of the CPU. Each takes "
        "`batch_size` and `aux_batch_size` images: up to rounding, n processes do what one does with n times as many images.",
    )
    batch_size: PositiveInt = Field(1, description="StyleRef images per step and process.")
    aux_batch_size: PositiveInt | None = Field(None, description="Aux images per step and process; default: `batch_size`.")
    gradient_accumulation: PositiveInt = Field(1, description="Micro-batches per optimizer step.")
    gradient_checkpointing: bool = Field(False, description="Save memory in the denoiser and text encoder at the price of computation.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="Autocast precision; trainable weights stay fp32.")
    weights: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Precision of trained weights; `bf16` halves the memory, also computes in bf16, and rounds each update stochastically.",
    )
    optimizer: OptimizerName = Field(
        "adamw",
        description="Optimizer; all but `adamw` and `adafactor` need the extra `optimizers`. See docs/how-to/memory.md.",
    )
    adam_betas: tuple[float, float] | None = Field(
        None, description="β1 and β2; default: 0.9 and 0.999 (lion: 0.9 and 0.99). `adafactor` has none."
    )
    adam_epsilon: float = Field(1e-8, gt=0, description="ε of the Adam variants.")
    weight_decay: float = Field(1e-2, ge=0, description="Decoupled weight decay.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradient clipping norm.")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="Learning-rate schedule after the warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up, in optimizer steps.")
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0, description="Decay of the exponential moving average of the weights; 0 turns it off.")
    min_snr_gamma: float | None = Field(None, gt=0, description="γ of min-SNR loss weighting (Hang et al., 2023); null turns it off.")
    loss_weighting: Literal["none", "sigma_sqrt", "cosmap"] = Field(
        "none", description="Weight of a sample's loss by its noise level σ, for flow bases: `sigma_sqrt`: 1/σ² (at most 100); `cosmap`: "
        "2/(π(1 − 2σ + 2σ²)).",
    )  # fmt: skip
    guidance_embedding: float | None = Field(
        None, ge=0.0, description="Guidance scale passed to a guidance-distilled denoiser (FLUX.1-dev) in training; default: that of the "
        "base's family (FLUX.1: 1).",
    )  # fmt: skip
    times: TimesSection = Field(TimesSection(), description="Distribution of timesteps for StyleRef images.")
    aux_times: TimesSection | None = Field(None, description="Distribution of timesteps for Aux images; default: as `times`.")
    noise_offset: float = Field(
        0.0,
        ge=0.0,
        description="Standard deviation of a constant added to each channel's noise; styles that are dark or lit from one side are "
        "learned sooner.",
    )
    resolution: PositiveInt | None = Field(
        None,
        description="Training resolution: the side, in pixels, of a square with the area of the training images; default: the base's own.",
    )
    buckets: bool = Field(
        True,
        description="Aspect-ratio buckets: crop each image to the shape that keeps most of it, of about the area of `resolution`, with "
        "sides up to 1:2 and multiples of the family's step. `false` crops squares.",
    )
    flip: Probability = Field(0.5, description="Probability of a mirrored image.")
    crops: PositiveInt = Field(1, description="Cached crop variants per image (1: centre crop only).")
    transforms: tuple[TransformName, ...] | None = Field(
        None, description="Transforms of StyleRef images. With `transform_probability`, a step applies one and names it in the prompt. "
        "Default: the method's (specialist-diffusion: all; others: none).",
    )  # fmt: skip
    transform_probability: Probability = Field(0.5, description="Probability that a StyleRef image is transformed.")
    caption_dropout: Probability = Field(0.0, description="Probability of an empty prompt, for classifier-free guidance.")
    caption_only_dropout: Probability = Field(
        0.0, description="Probability of a prompt without its caption, so that the style alone is learned and can be used for guidance."
    )
    cache_latents: bool = Field(True, description="Encode each image variant once and keep the VAE's moments.")
    cache_text: bool = Field(True, description="Encode each prompt once; no effect if the text encoder trains.")
    compile: bool = Field(False, description="Compile the denoiser with torch.compile: worth its minute or two in long trainings.")
    checkpoint_every: PositiveInt = Field(200, description="Steps between checkpoints.")
    keep_checkpoints: PositiveInt = Field(2, description="Number of newest checkpoints to keep.")
    validate_every: PositiveInt = Field(100, description="Steps between validation losses, with fixed noise and timesteps.")
    validation_prompts: tuple[str, ...] = Field(
        (), description="Prompts of previews, generated at the end of training and from the exported file; `{token}` is the identifier."
    )
    preview_every: PositiveInt | None = Field(
        None, description="Steps between previews during training, beside the base's images for the same prompts and seeds; null: none."
    )

    def conflict(self) -> str | None:
        """A message about settings that cannot be combined, such as one that the optimizer does not support; else None."""
        if self.preview_every and not self.validation_prompts:
            return "training.preview_every: there is nothing to preview; set training.validation_prompts"
        rates = {rate for rate in (self.text_encoder_learning_rate, self.token_learning_rate) if rate}
        if self.optimizer == "prodigy" and rates - {self.learning_rate}:
            return "training.optimizer: prodigy estimates a single rate; omit text_encoder_learning_rate and token_learning_rate"
        if self.weights == "bf16" and self.optimizer in ("prodigy", "schedule-free"):
            return f"training.weights: {self.optimizer} needs fp32; bf16 works with adamw, adamw8bit, adafactor and lion"
        if self.weights == "bf16" and self.ema_decay:
            return "training.ema_decay: rounding freezes an average of bf16 weights; set 0, or training.weights to fp32"
        if self.weights == "bf16" and self.mixed_precision == "fp16":
            return "training.mixed_precision: fp16 cannot be combined with bf16 weights; set bf16 or no"
        if self.optimizer == "schedule-free" and self.schedule != "constant":
            return f"training.schedule: schedule-free replaces the schedule; set constant instead of {self.schedule}"
        if self.optimizer == "schedule-free" and self.ema_decay:
            return "training.ema_decay: schedule-free averages the weights itself; set 0"
        return None

    def global_batch_config(self) -> dict[str, Any]:
        """The section as plain JSON, as if one process did the work of all: what the weights depend on, up to rounding."""
        whole = {
            "batch_size": self.batch_size * self.processes,
            "aux_batch_size": (self.aux_batch_size or self.batch_size) * self.processes,
        }
        found = {**self.model_dump(mode="json", exclude={"processes"}), **whole}
        # Settings added later are written only where they are used, so that checkpoints of earlier versions stay valid.
        for name in ("transforms", "transform_probability", "caption_only_dropout"):
            if getattr(self, name) == type(self).model_fields[name].default:
                del found[name]
        for times in (found["times"], found["aux_times"]):
            if times and times["grid"] is None:
                del times["grid"]
        return found


SAMPLER = ("scheduler", "steps", "guidance", "negative_prompt", "height", "width")
"""The settings of ``sampling`` that determine how one picture is drawn from its prompt."""
AS_SCORED = ("style_template", "plain_template", "guidance_formula", *SAMPLER)
"""The settings of ``sampling`` that a style model keeps, so that it is used as it was scored."""


class SamplingSection(Section):
    """Sampling the prompt bank."""

    bank: str = Field("builtin", description="`builtin` (1,562 prompts), `pocket`, `art`, or a txt/csv/tsv/jsonl file.")
    limit: PositiveInt | None = Field(None, description="Use only this many prompts, from the start of the bank.")
    repeats: PositiveInt = Field(4, description="Images per prompt (the papers: 4).")
    scheduler: Literal["dpm++", "ddim", "euler", "euler-a", "ddpm", "unipc"] | None = Field(
        None, description="Sampler; flow bases support only `euler`. Default: that of the base's family (Stable Diffusion: `dpm++`)."
    )
    steps: PositiveInt | None = Field(None, description="Denoising steps; default: those of the base's family (Stable Diffusion: 30).")
    guidance: float | None = Field(
        None,
        ge=1.0,
        description="Classifier-free guidance scale; 1 turns it off. Default: that of the base's family (Stable Diffusion: 7.5).",
    )
    guidance_formula: Annotated[GuidanceSection | None, BeforeValidator(plain_by_name)] = Field(
        None,
        description="Formula that guides style images by several prompts at once. Default: the method's, else `plain`: classifier-free "
        "guidance from `negative_prompt` to the prompt. Images without the style always use `plain`.",
    )
    style_guidance: float | None = Field(
        None, ge=1.0, description="Scale of the style, if `guidance_formula` has a separate one; default: the formula's."
    )
    height: PositiveInt | None = Field(None, description="Image height in pixels; default: the base's own side.")
    width: PositiveInt | None = Field(None, description="Image width in pixels; default: the base's own side.")
    batch_size: PositiveInt = Field(8, description="Images generated at once; does not affect the images.")
    style_template: str = Field("a photo of {token} style, {prompt}", description="Prompt of style images.")
    plain_template: str = Field(
        "a photo of {prompt}", description="Prompt without the style: for the base's baseline, and for the fine-tuned model's drift."
    )
    negative_prompt: str = Field("", description="Negative prompt.")

    def without_style(self) -> Self:
        """The settings for pictures without the style, which are guided by their prompt alone."""
        return self.model_copy(update={"guidance_formula": None})

    def guided_by(self, guidance: float | None, style_guidance: float | None) -> Self:
        """A copy with the scales that are not None; ConfigError for a style scale if the formula has none."""
        changes: dict[str, Any] = {} if guidance is None else {"guidance": guidance}
        if style_guidance is not None:
            formula = self.guidance_formula
            if formula is None or not formula.splits:
                raise ConfigError(
                    f"sampling.style_guidance={style_guidance:g}", "the guidance of this method has no separate style scale",
                    expected="only sampling.guidance, or a formula with scale: style_guidance (such as split-styleforge)",
                )  # fmt: skip
            changes["guidance_formula"] = formula.model_copy(update={"style_guidance": style_guidance})
        return self.model_copy(update=changes)

    def settled(self) -> Self:
        """A copy with `style_guidance` moved into the formula, where drawing looks for it."""
        return self.guided_by(None, self.style_guidance).model_copy(update={"style_guidance": None})


class ScoringSection(Section):
    """FID, KID, CLIP-T, CLIP-I and drift."""

    extractor: str = Field("pocket", description="CLIP for CLIP-T and CLIP-I: `pocket`, `art`, a folder, or a hub id.")
    extractor_revision: str | None = Field(None, description="Pinned commit of a hub extractor.")
    inception_weights: str | None = Field(
        None,
        description="Local file of torch-fidelity's Inception weights for FID and KID; default: FID and KID use the CLIP's image features.",
    )
    measures: tuple[Measure, ...] = Field(
        ("style_score", "copies", "leakage", "diversity"),
        description="Measures besides FID, KID, CLIP-T and CLIP-I: `style_score` (against StyleRef and the held-out reference), `copies`, "
        "`leakage` of StyleRef's content, `diversity`, `cmmd`, `truth` (against the artist's drawing of the prompt's concept); `[]`: none.",
    )
    style_extractor: str = Field("look", description="Extractor of the style score, by a name that `styleforge measures` accepts.")
    copy_extractor: str = Field("thumbnail", description="Extractor that finds copies, such as `sscd:FILE`.")
    kd_extractor: str | None = Field(
        None,
        description="Extractor of KD, which is KID in other features, such as DINOv2's (`facebook/dinov2-base@COMMIT`); default: no KD.",
    )
    kid_subset_size: PositiveInt = Field(100, description="KID subset size; capped at n.")
    kid_subsets: PositiveInt = Field(50, description="Number of KID subsets.")
    bootstrap: PositiveInt = Field(200, description="Bootstrap resamples for the intervals.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Level of the intervals.")
    batch_size: PositiveInt = Field(64, description="Images that an extractor processes at once.")


class AttentionSection(Section):
    """The report's heat maps: where images attend to the words of their prompts."""

    prompts: int = Field(
        4, ge=0, le=64, description="Number of the bank's prompts that get heat maps, spread evenly over the categories; 0: none. "
        "Families without cross-attention (Stable Diffusion 3, FLUX) have no heat maps.",
    )  # fmt: skip
    words: tuple[str, ...] = Field(
        (),
        description="Words to map besides the identifiers and `style`, if a prompt contains them; default: the first three words of each "
        "prompt that name something.",
    )


class RegistrySection(Section):
    """The model's registration in MLflow."""

    model: str | None = Field(None, description="Registered model's name; default: `styleforge-<style.name>`.")
    tracking_uri: Place | None = Field(
        None, description="MLflow tracking URI; default: `$MLFLOW_TRACKING_URI`, else SQLite under STYLEFORGE_HOME."
    )
    experiment: str = Field("styleforge", description="MLflow experiment.")
    alias: str = Field("challenger", description="Alias of the new version.")
