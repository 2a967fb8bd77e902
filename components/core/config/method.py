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
    """One component of a style and the identifier token that is bound to it (Multi-StyleForge)."""

    identifier: str = Field(min_length=1, description="Rare identifier token that is bound to the component.")
    roles: tuple[Literal["character", "background", "thing"], ...] = Field(
        min_length=1, description="Roles of the StyleRef pictures that show the component."
    )
    categories: tuple[str, ...] | None = Field(
        None, description="Categories of the prompt bank that ask for this token; default: those that show the roles."
    )
    instance_prompt: str | None = Field(None, description="Prompt of its StyleRef pictures; default: `method.instance_prompt`.")
    aux_prompt: str | None = Field(None, description="Prompt of its Aux pictures; default: `method.aux_prompt`.")
    aux_count: PositiveInt | None = Field(None, description="Number of its Aux pictures; default: an equal share of the `aux` section's.")
    aux_form: str | None = Field(None, description="Form of art of its curated Aux pictures; default: `aux.form`.")


class LoraSection(Section):
    """Low-rank adapters."""

    kind: Literal["lora", "lokr", "loha", "oft"] = Field(
        "lora",
        description="`lora`; `lokr` and `loha` (Kronecker and elementwise products: more rank for the same size); `oft` (rotations).",
    )
    rank: PositiveInt | None = Field(
        None, description="Rank of the update of each matrix; oft: the size of the blocks that are rotated. Default: 4, styledrop 64."
    )
    alpha: PositiveInt | None = Field(None, description="The update is scaled by alpha / rank; default: the rank, so by 1.")
    init: Literal["gaussian", "pissa"] = Field(
        "gaussian",
        description="How lora begins: `gaussian`, or with the matrices' own first singular vectors (`pissa`), which learns faster.",
    )
    blocks: tuple[str, ...] | None = Field(
        None, min_length=1, description="Blocks of the denoiser that alone get adapters, by the beginning of their path, where `*` and `?` "
        "stand for any letters: `up_blocks.0.attentions.1`, `single_transformer_blocks.*`; default: all.",
    )  # fmt: skip
    targets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Layers of the denoiser that get an adapter, by the end of their names; default: the base's "
        "family's (Stable Diffusion: `to_q`, `to_k`, `to_v`, `to_out.0`).",
    )  # fmt: skip
    text_encoder_targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="The same in the text encoders, where they train; default: `q_proj`, `k_proj`, `v_proj`, `out_proj`.",
    )
    dora: bool = Field(False, description="Weight-decomposed updates (DoRA): direction and magnitude apart.")


class LossSection(Section):
    """The loss on StyleRef images."""

    name: Literal["denoising", "guided", "calibrated", "dco"] = Field(
        "denoising",
        description="`denoising` (mean squared error of the prediction); `guided` (of a guided prediction, DreamArtist), `calibrated` (for "
        "the guidance that images are drawn with), `dco` (only what is better than the base counts).",
    )
    scale: float | None = Field(
        None, gt=0, description="Guidance scale: of `guided` in training (default 5), of `calibrated` in drawing (default 1.5)."
    )
    beta: float = Field(1000.0, gt=0, description="β of `dco`: how soon being better than the base is enough.")

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
        description="Rare identifier token that is bound to the style. Methods that learn a token of its own write it `<sks>`.",
    )  # fmt: skip
    descriptor: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = Field(
        None, description="Words for the style in the place of the identifier, such as `watercolor painting`; default: the identifier, "
        "for styledrop the style's name.",
    )  # fmt: skip
    instance_prompt: str = Field(
        "a photo of {token} style",
        description="Prompt of StyleRef pictures; `{token}` is the identifier, `{caption}` (optional) the picture's own caption.",
    )
    instance_prompts: tuple[str, ...] | None = Field(
        None, min_length=1, description="Several such prompts in the place of `instance_prompt`, of which each step draws one; default: "
        "the method's (specialist-diffusion: five; the others: none).",
    )  # fmt: skip
    aux_prompt: str = Field(
        "a photo of style", description="Prompt of Aux pictures; may hold `{caption}`. Also the class prompt of generated Aux."
    )
    prior_weight: float = Field(1.0, ge=0.0, description="λ, the weight of the prior: of the Aux loss, or of the distillation.")
    prior: Literal["aux", "distilled"] | None = Field(
        None, description="What preserves the base: the loss on Aux images (`aux`), or the difference from the base's own prediction for "
        "StyleRef and Aux images under prompts without the style (`distilled`), which needs no Aux set; default: as the method does.",
    )  # fmt: skip
    loss: Annotated[LossSection | None, BeforeValidator(_by_name)] = Field(
        None, description="Loss of StyleRef images, or its name alone; default: as the method does."
    )
    train_text_encoder: bool | None = Field(
        None, description="Train the text encoder (with adapters where the denoiser has some; svdiff: its singular values) with a learning "
        "rate of its own, or leave it frozen; default: as the method does: yes for dreambooth, svdiff and the StyleForges. Methods of "
        "tokens alone and custom-diffusion never do.",
    )  # fmt: skip
    identifier_rows: bool = Field(
        False, description="Where the whole text encoder trains: let the identifiers' own embedding rows move apart from it, with "
        "`training.token_learning_rate`, so that binding the style needs no rate that unsettles the words for what pictures show.",
    )  # fmt: skip
    concepts: tuple[ConceptSection, ...] = Field(
        (), description="Components with a token each (multi-styleforge); default: `sks` for characters, `ukj` for backgrounds and things."
    )
    style_ref: Literal["both", "people", "backgrounds"] = Field("both", description="StyleRef pictures that are used, by their role.")
    style_ref_count: PositiveInt | None = Field(
        None, description="Number of StyleRef pictures that are used, drawn from the seed and evenly from the roles; default: all."
    )
    vectors: PositiveInt | None = Field(None, description="Embedding rows of a learnt token; default: 3 for dreamartist, 1 for the others.")
    stages: PositiveInt | None = Field(
        None, description="Stages of noise, each with embedding rows of its own for the token (DreamStyler: 6). With more than 1 any "
        "method learns a token; default: 1.",
    )  # fmt: skip
    negative_vectors: PositiveInt | None = Field(
        None,
        description="Embedding rows of a second token, written `<sks-neg>`, that guidance leads away from; default: 6 for "
        "dreamartist, none for the others.",
    )
    initial_word: str | None = Field(
        None, description="Word whose embedding a learnt token begins with; default: `painting` (textual-inversion), the identifier itself "
        "(custom-diffusion).",
    )  # fmt: skip
    lora: LoraSection = Field(LoraSection(), description="Low-rank adapters (lora).")
    rate_factors: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Factors of the learning rate by the name of what trains, such as `denoiser.spectral.norms`; default: svdiff "
        "0.001 for the norms of both networks, 1 for all else.", json_schema_extra={"words": "numbers by name, above 0"},
    )  # fmt: skip
    strength: float = Field(
        1.0, ge=0.0, le=2.0, allow_inf_nan=False, description="α of the model's weights θ₀ + α (θ − θ₀), for the base's θ₀ and the trained "
        "θ: below 1 nearer to the base, above 1 beyond what was trained.",
    )  # fmt: skip
    _flat = field_validator("rate_factors", mode="before")(lambda value: dict(leaves(value)) if isinstance(value, dict) else value)
    save: Literal["full", "delta"] | None = Field(
        None,
        description="Write a `full` model, or only what differs from the base (`delta`), to be loaded onto it; default: delta for lora, "
        "svdiff and the methods that learn a token, full for the others.",
    )
