"""The section on the fine-tuning method: what is bound to the identifier, what is trained, and what preserves the base."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from components.core.config.section import PositiveInt, Section
from components.core.nested import leaves

MethodName = Literal[
    "dreambooth", "textual-inversion", "lora", "custom-diffusion", "svdiff", "dreamartist", "dreamartist-lora", "dreamstyler", "styledrop",
    "specialist-diffusion", "stylealigned", "single-styleforge", "multi-styleforge", "split-styleforge",
]  # fmt: skip


class ConceptSection(Section):
    """A component of a style, and the identifier token bound to it (Multi-StyleForge)."""

    identifier: str = Field(min_length=1, description="Rare identifier token bound to the component.")
    roles: tuple[Literal["character", "background", "thing"], ...] = Field(
        min_length=1, description="Roles of the StyleRef images that show the component."
    )
    categories: tuple[str, ...] | None = Field(
        None, description="Categories of the prompt bank that use this token; default: those that show the roles."
    )
    instance_prompt: str | None = Field(None, description="Prompt of its StyleRef images; default: `method.instance_prompt`.")
    aux_prompt: str | None = Field(None, description="Prompt of its Aux images; default: `method.aux_prompt`.")
    aux_count: PositiveInt | None = Field(
        None, description="Number of its Aux images; default: an equal share of the number in the `aux` section."
    )
    aux_form: str | None = Field(None, description="Art form of its curated Aux images; default: `aux.form`.")


class LoraSection(Section):
    """Low-rank adapters."""

    kind: Literal["lora", "lokr", "loha", "oft"] = Field(
        "lora",
        description="`lora`; `lokr` and `loha` (Kronecker and Hadamard products: higher rank at the same size); `oft` (rotations).",
    )
    rank: PositiveInt | None = Field(
        None, description="Rank of each matrix's update; oft: size of the rotated blocks. Default: 4 (styledrop: 64)."
    )
    alpha: PositiveInt | None = Field(None, description="Updates are scaled by alpha / rank; default: the rank, for a factor of 1.")
    init: Literal["gaussian", "pissa"] = Field(
        "gaussian",
        description="Initialization of lora: `gaussian`, or the matrices' own leading singular vectors (`pissa`), which learns faster.",
    )
    blocks: tuple[str, ...] | None = Field(
        None, min_length=1, description="Put adapters only into these blocks of the denoiser. A block is named by the start of its path; "
        "`*` and `?` are wildcards: `up_blocks.0.attentions.1`, `single_transformer_blocks.*`. Default: all.",
    )  # fmt: skip
    targets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Layers of the denoiser that get an adapter, by the end of their names; default: those of the "
        "base's family (Stable Diffusion: `to_q`, `to_k`, `to_v`, `to_out.0`).",
    )  # fmt: skip
    text_encoder_targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Layers of the text encoders that get an adapter, if these train; default: `q_proj`, `k_proj`, `v_proj`, `out_proj`.",
    )
    dora: bool = Field(False, description="Weight-decomposed updates (DoRA), with separate direction and magnitude.")


class LossSection(Section):
    """The loss on StyleRef images."""

    name: Literal["denoising", "guided", "calibrated", "dco"] = Field(
        "denoising",
        description="`denoising` (mean squared error of the prediction), `guided` (that of a guided prediction, DreamArtist), "
        "`calibrated` (for the guidance used in sampling), `dco` (rewards only improvement over the base).",
    )
    scale: float | None = Field(
        None, gt=0, description="Guidance scale: for `guided` in training (default 5), for `calibrated` in sampling (default 1.5)."
    )
    beta: float = Field(1000.0, gt=0, description="β of `dco`: the higher, the less improvement over the base suffices.")

    @property
    def guidance(self) -> float:
        """The guidance scale, or the loss's default."""
        return self.scale or {"guided": 5.0, "calibrated": 1.5}.get(self.name, 1.0)


def _by_name(value: Any) -> Any:
    """Accept a loss given by its name alone."""
    return {"name": value} if isinstance(value, str) else value


class MethodSection(Section):
    """The fine-tuning method: what is bound to the identifier, what is trained, and what preserves the base."""

    name: MethodName = Field("single-styleforge", description="Fine-tuning method.")
    identifier: str = Field(
        "sks", min_length=1,
        description="Rare identifier token bound to the style. Methods that learn a new token write it `<sks>`.",
    )  # fmt: skip
    descriptor: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = Field(
        None, description="Words for the style instead of the identifier, such as `watercolor painting`; default: the identifier "
        "(styledrop: the style's name).",
    )  # fmt: skip
    instance_prompt: str = Field(
        "a photo of {token} style",
        description="Prompt of StyleRef images; `{token}` is the identifier, `{caption}` (optional) the image's own caption.",
    )
    instance_prompts: tuple[str, ...] | None = Field(
        None, min_length=1, description="Several prompts that replace `instance_prompt`; each step picks one at random. Default: the "
        "method's (specialist-diffusion: five; dreamstyler: one; others: none).",
    )  # fmt: skip
    aux_prompt: str = Field(
        "a photo of style", description="Prompt of Aux images; may contain `{caption}`. Also the class prompt of generated Aux."
    )
    prior_weight: float = Field(1.0, ge=0.0, description="λ, the weight of the prior: the Aux loss or the distillation.")
    prior: Literal["aux", "distilled"] | None = Field(
        None, description="What preserves the base: the loss on Aux images (`aux`), or the difference from the base's own prediction for "
        "StyleRef and Aux images under prompts without the style (`distilled`, needs no Aux set); default: the method's.",
    )  # fmt: skip
    loss: Annotated[LossSection | None, BeforeValidator(_by_name)] = Field(
        None, description="Loss of StyleRef images, or its name alone; default: the method's."
    )
    train_text_encoder: bool | None = Field(
        None, description="Train the text encoder (as adapters if the denoiser has adapters; svdiff: its singular values), or leave it "
        "frozen. Default: true for dreambooth, svdiff and the StyleForge methods, else false. Token-only methods, custom-diffusion, "
        "specialist-diffusion and stylealigned never train it.",
    )  # fmt: skip
    identifier_rows: bool = Field(
        False, description="If the whole text encoder trains: train the identifiers' embedding rows separately, with "
        "`training.token_learning_rate`. Binding the style then needs no rate that disturbs the words for content.",
    )  # fmt: skip
    concepts: tuple[ConceptSection, ...] = Field(
        (), description="Components, each with a token (multi-styleforge); default: `sks` for characters, `ukj` for backgrounds and things."
    )
    style_ref: Literal["both", "people", "backgrounds"] = Field("both", description="StyleRef images to use, by role.")
    style_ref_count: PositiveInt | None = Field(
        None, description="Number of StyleRef images to use, picked by the seed and evenly over the roles; default: all."
    )
    vectors: PositiveInt | None = Field(
        None, description="Embedding rows of a learned token; default: 3 for dreamartist and dreamartist-lora, 1 for others."
    )
    stages: PositiveInt | None = Field(
        None, description="Noise stages, each with its own embedding rows for the token. With more than 1, any method that trains also "
        "learns a token. Default: 6 for dreamstyler, 1 for others.",
    )  # fmt: skip
    negative_vectors: PositiveInt | None = Field(
        None,
        description="Embedding rows of a second token, written `<sks-neg>`, from which guidance leads away; default: 6 for dreamartist and "
        "dreamartist-lora, none for others.",
    )
    initial_word: str | None = Field(
        None, description="Word whose embedding initializes a learned token; default: `painting` for token-only methods and "
        "dreamartist-lora, the identifier itself for others.",
    )  # fmt: skip
    lora: LoraSection = Field(LoraSection(), description="Low-rank adapters (lora).")
    rate_factors: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Factors on the learning rate, by name of the trained part, such as `denoiser.spectral.norms`; default: 1, "
        "but 0.001 for the norms of both networks with svdiff.", json_schema_extra={"words": "numbers by name, above 0"},
    )  # fmt: skip
    strength: float = Field(
        1.0, ge=0.0, le=2.0, allow_inf_nan=False, description="α in the model's weights θ₀ + α (θ − θ₀), with θ₀ the base and θ the "
        "trained model: below 1 closer to the base, above 1 beyond the trained model.",
    )  # fmt: skip
    _flat = field_validator("rate_factors", mode="before")(lambda value: dict(leaves(value)) if isinstance(value, dict) else value)
    save: Literal["full", "delta"] | None = Field(
        None,
        description="Write a `full` model, or only the difference from the base (`delta`), which is loaded onto it. Default: full for "
        "dreambooth, specialist-diffusion and the StyleForge methods, delta for others.",
    )
