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
        raise ValueError("must hold no user name or password; give them in the environment (such as MLFLOW_TRACKING_USERNAME)")
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
    """The style to learn and where its pictures are."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the style; becomes part of the registered model's name."
    )
    source: Place = Field(
        description="Folder or fsspec URL of the pictures: a flat folder, or `style_ref/`, `aux_pool/`, `reference/` with `metadata.jsonl`."
    )
    reference: Place | None = Field(
        None, description="Folder or URL of held-out pictures of the style for FID/KID/CLIP-I; default: `reference/` inside the source."
    )
    max_pixels: PositiveInt = Field(
        89_478_485, le=178_956_970, description="Largest picture accepted, in pixels (width × height); guards against decompression bombs."
    )


class AuxSection(Section):
    """The auxiliary (prior-preservation) pictures."""

    source: Literal["curated", "generated", "target", "none"] | None = Field(
        None,
        description="`curated` from the pool, `generated` by the frozen base from the class prompt, `target` (StyleRef itself), or `none`; "
        "default: what the method preserves with.",
    )
    pool: Place | None = Field(None, description="Folder or URL to curate from; default: `aux_pool/` inside the style source.")
    count: PositiveInt = Field(20, description="Number of curated pictures (the papers use 15–20).")
    generated_count: PositiveInt = Field(200, description="Number of class pictures to generate (DreamBooth's public script: 200).")
    form: str = Field("digital painting", description="Form of art that curated pictures should be close to.")
    prompt: str | None = Field(
        None, description="Class prompt that generated pictures are drawn from; default: the concept's `aux_prompt` without a caption."
    )


STYLE_WORDS = (
    "3d render", "acrylic", "anime", "art", "artistic", "artwork", "black and white", "brushstroke", "cartoon", "cgi", "charcoal",
    "comic", "cubist", "drawing", "engraving", "etching", "fresco", "gouache", "illustration", "image", "impressionist", "line art",
    "low poly", "manga", "minimalist", "monochrome", "mosaic", "painting", "pencil", "photo", "photograph", "picture", "pixel art",
    "pop art", "render", "sepia", "sketch", "style", "stylized", "surrealist", "vector", "vintage", "watercolor", "watercolour", "woodcut",
)  # fmt: skip
"""Words for medium and style, which the identifier stands for and which captions written by a model therefore leave out."""


class CaptionsSection(Section):
    """Captions for pictures that have none, written by a vision-language model."""

    model: str | None = Field(
        None, description="A folder or hub id of a vision-language model in transformers layout; null: no captions are written."
    )
    revision: str | None = Field(None, description="Pinned commit of a hub model; required for hub ids.")
    prompt: str | None = Field(
        None,
        description="What the model is asked; `{omit}` is the list of words to leave out. Default: for models with a chat template a "
        "request for subject, pose and place, for others nothing: they caption unasked, or continue this text.",
    )
    omit: tuple[str, ...] = Field(
        STYLE_WORDS, description="Words and phrases that the identifier is to stand for: medium and style. No written caption holds one."
    )
    max_tokens: PositiveInt = Field(60, description="Longest answer, in tokens.")
    batch_size: PositiveInt = Field(4, description="Pictures described at once; changes captions by rounding at most.")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="Type of the weights; default: bf16 on a GPU that has it, fp16 on one that does not, fp32 elsewhere."
    )


class PrecisionSection(Section):
    """Data types of the base's frozen weights. For trained weights see `training.weights`."""

    denoiser: Precision = Field(
        "auto", description="Of the network that denoises; `auto`: bf16 on CUDA, fp32 elsewhere. `fp8`, `int8` and `nf4` are for storage."
    )
    text_encoders: Precision = Field("auto", description="Of the text encoders; `auto` as above.")
    vae: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="Of the VAE; `auto` is fp32: in fp16 many overflow.")


def _for_each(value: Any) -> Any:
    """Apply a single name to both the denoiser and the text encoders."""
    return {"denoiser": value, "text_encoders": value} if isinstance(value, str) else value


class BaseSection(Section):
    """The text-to-image model to start from."""

    model: str = Field("pocket", description="`pocket`, `pocket-flow`, a diffusers folder, a `.safetensors` file, or a hub id.")
    revision: str | None = Field(None, description="Pinned commit of a hub model; required for hub ids.")
    precision: Annotated[PrecisionSection, BeforeValidator(_for_each)] = Field(
        PrecisionSection(),
        description="Of frozen weights: one name for the denoiser and the text encoders, or one for each part.",
    )
    offload: Probability = Field(
        0.0, description="Share of the denoiser's blocks whose frozen weights stay in the CPU's memory until they are called."
    )


class TimesSection(Section):
    """How noisy the samples of a training step are: the law that their times follow. Unset fields are as the base was trained."""

    law: Literal["uniform", "logit-normal", "mode", "style-friendly"] | None = Field(
        None, description="Law of the noise level: `uniform`, `logit-normal`, `mode` (both of Stable Diffusion 3's paper), or "
        "`style-friendly` (log-SNR about -6: much noise, where styles are decided); default: the base's own (Stable Diffusion 1.x to XL: "
        "uniform).",
    )  # fmt: skip
    mean: float | None = Field(
        None, description="Mean of the noise level's logit, for logit-normal (default 0) and style-friendly (default 3 at 128 × 128 "
        "latents, less for smaller ones). More is noisier: diffusers' `logit_mean` has the other sign.",
    )  # fmt: skip
    std: float | None = Field(None, gt=0, description="Spread of the noise level's logit (default 1).")
    scale: float | None = Field(None, ge=-1.0, le=1.75, description="How much `mode` prefers middle noise levels (default 1.29).")
    shift: Annotated[float, Field(gt=0)] | Literal["none", "dynamic"] | None = Field(
        None, description="Shift towards noise: a factor of the odds of noise, `dynamic` (flow bases: by the picture's size), or `none`; "
        "default: the base's own, and none for style-friendly.",
    )  # fmt: skip
    stratified: bool | None = Field(
        None, description="Spread the times of a step's StyleRef and Aux pictures evenly over the law; default: yes for flow bases."
    )
    grid: PositiveInt | None = Field(
        None, description="Train only at times that a sampler of so many evenly spaced steps visits; default: the method's "
        "(specialist-diffusion: 100; the others: all times).",
    )  # fmt: skip


class TrainingSection(Section):
    """The training loop, the same for all methods."""

    steps: PositiveInt = Field(800, description="Optimizer steps.")
    learning_rate: float | None = Field(
        None, gt=0,
        description="Learning rate; default: the method's reference (5e-6; lora and dreamartist-lora 1e-4, textual-inversion 5e-4, "
        "custom-diffusion 1e-5, svdiff 1e-3, dreamstyler 2e-3, dreamartist 2.5e-3), a fifth of it with `lion`, and 1 with `prodigy`, which "
        "finds the rate itself and multiplies it with this.",
    )  # fmt: skip
    text_encoder_learning_rate: float | None = Field(None, gt=0, description="Learning rate of the text encoder; default: `learning_rate`.")
    token_learning_rate: float | None = Field(
        None, gt=0, description="Learning rate of learnt token rows and of `method.identifier_rows`; default: `learning_rate`."
    )
    processes: PositiveInt = Field(
        1,
        description="Processes that train together on one machine, each with a GPU of its own or, where there is none, its share of the "
        "CPU. Each takes `batch_size` and `aux_batch_size` pictures: n of them do, up to rounding, what one does with n times as many.",
    )
    batch_size: PositiveInt = Field(1, description="StyleRef pictures a step of each process.")
    aux_batch_size: PositiveInt | None = Field(None, description="Aux pictures a step of each process; default: `batch_size`.")
    gradient_accumulation: PositiveInt = Field(1, description="Micro-batches an optimizer step.")
    gradient_checkpointing: bool = Field(False, description="Trade compute for memory in the denoiser and text encoder.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="Autocast type; trainable weights stay fp32.")
    weights: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="What trained weights are held in; `bf16` takes half the memory, computes so too, and rounds each step stochastically.",
    )
    optimizer: OptimizerName = Field(
        "adamw",
        description="Optimizer by name; all but `adamw` and `adafactor` come with the extra `optimizers`. See docs/how-to/memory.md.",
    )
    adam_betas: tuple[float, float] | None = Field(
        None, description="β1, β2; default: 0.9 and 0.999 (lion: 0.9 and 0.99). `adafactor` has none."
    )
    adam_epsilon: float = Field(1e-8, gt=0, description="ε of the optimizers that are kinds of Adam.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay, apart from the gradient.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradient clipping norm.")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="Learning-rate schedule after the warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up, in optimizer steps.")
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0, description="Decay of the exponential moving average of the weights; 0 turns it off.")
    min_snr_gamma: float | None = Field(None, gt=0, description="γ of min-SNR loss weighting (Hang et al., 2023); null turns it off.")
    loss_weighting: Literal["none", "sigma_sqrt", "cosmap"] = Field(
        "none", description="Weight of a sample's loss by its noise level σ, for flow bases: `sigma_sqrt` 1/σ² (at most 100), `cosmap` "
        "2/(π(1 − 2σ + 2σ²)).",
    )  # fmt: skip
    guidance_embedding: float | None = Field(
        None, ge=0.0, description="Guidance scale that a guidance-distilled denoiser (FLUX.1-dev) is told while it trains; default: the "
        "base's family's (FLUX.1: 1).",
    )  # fmt: skip
    times: TimesSection = Field(TimesSection(), description="How noisy the StyleRef pictures of a step are.")
    aux_times: TimesSection | None = Field(None, description="The same for the Aux pictures; default: as `times`.")
    noise_offset: float = Field(
        0.0,
        ge=0.0,
        description="Spread of a constant added to each channel's noise: a style that is dark or lit from one side takes sooner.",
    )
    resolution: PositiveInt | None = Field(
        None, description="Side in pixels of a square of the area that pictures train at; default: the base's own."
    )
    buckets: bool = Field(
        True,
        description="Cut each picture to the size of that area, up to 1:2, that keeps most of it, a multiple of the family's step; "
        "`false` cuts squares.",
    )
    flip: Probability = Field(0.5, description="Probability of a mirrored variant.")
    crops: PositiveInt = Field(1, description="Cached crop variants a picture (1 = centre crop only).")
    transforms: tuple[TransformName, ...] | None = Field(
        None, description="Changes of StyleRef images, of which a step makes one at `transform_probability`, and names it in the prompt; "
        "default: the method's (specialist-diffusion: all of them; the others: none).",
    )  # fmt: skip
    transform_probability: Probability = Field(0.5, description="Probability that a StyleRef image is transformed.")
    caption_dropout: Probability = Field(0.0, description="Probability of an empty prompt, for classifier-free guidance.")
    caption_only_dropout: Probability = Field(
        0.0, description="Probability of a prompt without its caption, so that the style alone is learned too, and can guide."
    )
    cache_latents: bool = Field(True, description="Encode each picture variant once and keep the VAE's moments.")
    cache_text: bool = Field(True, description="Encode each prompt once; has no effect while the text encoder trains.")
    compile: bool = Field(False, description="torch.compile the denoiser.")
    checkpoint_every: PositiveInt = Field(200, description="Steps between checkpoints.")
    keep_checkpoints: PositiveInt = Field(2, description="Number of newest checkpoints kept.")
    validate_every: PositiveInt = Field(100, description="Steps between validation losses (fixed noise and timesteps).")
    validation_prompts: tuple[str, ...] = Field(
        (), description="Prompts of previews, drawn at the end of training and from the exported file; `{token}` is the identifier."
    )
    preview_every: PositiveInt | None = Field(
        None, description="Steps between previews on the way, with the base's pictures of the same prompts and seeds beside; null: none."
    )

    def conflict(self) -> str | None:
        """A message about settings that cannot be combined, such as one that the optimizer does not support; else None."""
        if self.preview_every and not self.validation_prompts:
            return "training.preview_every: there is nothing to draw; set training.validation_prompts"
        rates = {rate for rate in (self.text_encoder_learning_rate, self.token_learning_rate) if rate}
        if self.optimizer == "prodigy" and rates - {self.learning_rate}:
            return "training.optimizer: prodigy finds one rate for all; leave text_encoder_learning_rate and token_learning_rate out"
        if self.weights == "bf16" and self.optimizer in ("prodigy", "schedule-free"):
            return f"training.weights: {self.optimizer} needs fp32; bf16 goes with adamw, adamw8bit, adafactor and lion"
        if self.weights == "bf16" and self.ema_decay:
            return "training.ema_decay: an average of bf16 weights does not move; set 0, or training.weights to fp32"
        if self.weights == "bf16" and self.mixed_precision == "fp16":
            return "training.mixed_precision: fp16 does not go with weights in bf16; set bf16 or no"
        if self.optimizer == "schedule-free" and self.schedule != "constant":
            return f"training.schedule: schedule-free takes the place of a schedule; set constant instead of {self.schedule}"
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
    """How pictures of the prompt bank are drawn."""

    bank: str = Field("builtin", description="`builtin` (1,562 prompts), `pocket`, or a txt/csv/tsv/jsonl file.")
    limit: PositiveInt | None = Field(None, description="Use only the first so many prompts of the bank.")
    repeats: PositiveInt = Field(4, description="Pictures a prompt (the papers: 4).")
    scheduler: Literal["dpm++", "ddim", "euler", "euler-a", "ddpm", "unipc"] | None = Field(
        None, description="Sampler by name; flow bases have `euler` alone. Default: the base's family's (Stable Diffusion: `dpm++`)."
    )
    steps: PositiveInt | None = Field(None, description="Denoising steps; default: the base's family's (Stable Diffusion: 30).")
    guidance: float | None = Field(
        None, ge=1.0, description="Classifier-free guidance scale; 1 turns it off. Default: the base's family's (Stable Diffusion: 7.5)."
    )
    guidance_formula: Annotated[GuidanceSection | None, BeforeValidator(plain_by_name)] = Field(
        None,
        description="How style pictures are guided, by several prompts at once; default: the method's, or `plain`: classifier-free "
        "guidance, from `negative_prompt` to the prompt. Pictures without the style are always guided so.",
    )
    style_guidance: float | None = Field(
        None, ge=1.0, description="Scale of the style where `guidance_formula` has one of its own; default: the formula's."
    )
    height: PositiveInt | None = Field(None, description="Height of the pictures in pixels; default: the base's own side.")
    width: PositiveInt | None = Field(None, description="Width of the pictures in pixels; default: the base's own side.")
    batch_size: PositiveInt = Field(8, description="Pictures drawn at once; changes no picture.")
    style_template: str = Field("a photo of {token} style, {prompt}", description="Prompt of style pictures.")
    plain_template: str = Field(
        "a photo of {prompt}", description="Style-free prompt: for the baseline of the base, and for the drift of the fine-tuned model."
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
                    f"sampling.style_guidance={style_guidance:g}", "the guidance of this method has no scale of its own for the style",
                    expected="sampling.guidance alone, or a formula with scale: style_guidance (that of split-styleforge)",
                )  # fmt: skip
            changes["guidance_formula"] = formula.model_copy(update={"style_guidance": style_guidance})
        return self.model_copy(update=changes)

    def settled(self) -> Self:
        """A copy with `style_guidance` moved into the formula, where drawing looks for it."""
        return self.guided_by(None, self.style_guidance).model_copy(update={"style_guidance": None})


class ScoringSection(Section):
    """FID, KID, CLIP-T, CLIP-I and drift."""

    extractor: str = Field("pocket", description="CLIP for CLIP-T/CLIP-I: `pocket`, a folder, or a hub id.")
    extractor_revision: str | None = Field(None, description="Pinned commit of a hub extractor.")
    inception_weights: str | None = Field(
        None, description="Local torch-fidelity Inception weights for FID/KID; default: FID/KID in the CLIP's image features."
    )
    measures: tuple[Measure, ...] = Field(
        ("style_score", "copies", "leakage", "diversity"),
        description="Measured besides FID, KID, CLIP-T and CLIP-I: `style_score` (to StyleRef and to the held-out reference), `copies`, "
        "`leakage` of what StyleRef shows, `diversity`, `cmmd`, `truth` (to what the artist drew of the prompt's concept); `[]` for none.",
    )
    style_extractor: str = Field("look", description="Extractor of the style score, by a name that `styleforge measures` takes.")
    copy_extractor: str = Field("thumbnail", description="Extractor that finds copies, such as `sscd:FILE`.")
    kd_extractor: str | None = Field(
        None, description="Extractor of KD, KID in features such as DINOv2's (`facebook/dinov2-base@COMMIT`); default: no KD."
    )
    kid_subset_size: PositiveInt = Field(100, description="KID subset size; capped at n.")
    kid_subsets: PositiveInt = Field(50, description="Number of KID subsets.")
    bootstrap: PositiveInt = Field(200, description="Bootstrap resamples for the intervals.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Level of the intervals.")
    batch_size: PositiveInt = Field(64, description="Pictures an extractor sees at once.")


class AttentionSection(Section):
    """The attention heat maps in the report: where each picture attends to the words of its prompt."""

    prompts: int = Field(
        4, ge=0, le=64, description="Prompts of the bank that get heat maps, evenly from all categories; 0 for none. Families without "
        "cross-attention (Stable Diffusion 3, FLUX) have none.",
    )  # fmt: skip
    words: tuple[str, ...] = Field(
        (),
        description="Words to map besides the identifiers and `style`, where a prompt holds them; default: the first three words of each "
        "prompt that name something.",
    )


class RegistrySection(Section):
    """Where the model is registered."""

    model: str | None = Field(None, description="Registered model's name; default `styleforge-<style.name>`.")
    tracking_uri: Place | None = Field(
        None, description="MLflow tracking URI; default `$MLFLOW_TRACKING_URI`, else SQLite under STYLEFORGE_HOME."
    )
    experiment: str = Field("styleforge", description="MLflow experiment.")
    alias: str = Field("challenger", description="Alias that the new version gets.")
