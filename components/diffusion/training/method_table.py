"""The fine-tuning methods, one row each: what trains, what preserves the prior, and reference settings that differ from the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from components.core.config import BranchSection, GuidanceSection, LossSection, TermSection, TransformName
from components.core.config.guidance import NEGATIVE, PROMPT

DENOISING = LossSection()
INSTANCE, CLASS = "{instance_prompt}", "{aux_prompt}"
"""Placeholders in the branches of a row's guidance for `method.instance_prompt` and `method.aux_prompt`, without a caption."""


@dataclass(frozen=True)
class Row:
    """A fine-tuning method's defaults, which a configuration may change.

    ``text_encoder`` is the way in which the text encoder trains if it does, ``by_default`` whether it does without being configured.
    ``rates`` are those of a recipe; ``token_rate`` is the learning rate of token rows if it differs from the method's; ``rank`` is the
    adapters' if the configuration names none. A row that trains nothing draws its pictures aligned with one of the style's.
    """

    trains: frozenset[str]
    preserves: str
    learning_rate: float
    text_encoder: str | None = None
    by_default: bool = False
    save: str = "full"
    several: bool = False
    initial_word: str | None = None
    rates: tuple[tuple[str, float], ...] = ()
    loss: LossSection = DENOISING
    prior: str = "aux"
    stages: int = 1
    vectors: int = 1
    negative_vectors: int = 0
    guidance: GuidanceSection | None = None
    prompts: tuple[str, ...] = ()
    transforms: tuple[TransformName, ...] = ()
    grid: int | None = None
    token_rate: float | None = None
    rank: int = 4


# log p(x | style, content) is log p(x) plus what the style adds, plus what the content adds to that. Here each summand has its own scale,
# whereas a single guidance scale amplifies both, and the more so the darker the style is. The two scales are those of Brooks et al. (2023,
# InstructPix2Pix, equation 3), there for a picture and an instruction. Guidance at low noise only adds contrast (Kynkäänniemi et al.,
# 2024), so it ends at a log SNR of 1. For the derivation see docs/science.md.
_NOISY = (None, 1.0)
SPLIT = GuidanceSection(
    start=PROMPT,
    branches={"style": BranchSection(prompt=INSTANCE), "class": BranchSection(prompt=CLASS)},
    terms=(
        TermSection(scale="guidance - 1", away_from="style", toward=PROMPT, log_snr=_NOISY),
        TermSection(scale="style_guidance - 1", away_from="class", toward="style", log_snr=_NOISY),
    ),
    style_guidance=1.75,
)
_WHOLE: dict[str, Any] = {"trains": frozenset({"denoiser"}), "learning_rate": 5e-6, "text_encoder": "text_encoder", "by_default": True}
# Leads away from what the negative token stands for (DreamArtist).
_FROM_NEGATIVE = GuidanceSection(
    branches={"against": BranchSection(prompt="{full_negative}")},
    start="against",
    terms=(TermSection(scale="guidance", away_from="against", toward=PROMPT),),
)
# DreamStyler's formula, with the public code's scales: 3 for the content, 0.5 for the style; the third, 5 there, is the run's guidance.
_CONTENT_AND_STYLE = GuidanceSection(
    branches={"content": BranchSection(prompt="a photo of {prompt}"), "style": BranchSection(prompt=INSTANCE)},
    start=NEGATIVE,
    terms=tuple(
        TermSection(scale=scale, away_from=away, toward=toward)
        for scale, away, toward in (
            (1.5, NEGATIVE, "content"), (0.25, "content", PROMPT), (0.25, NEGATIVE, "style"), (1.5, "style", PROMPT),
            ("guidance", NEGATIVE, PROMPT),
        )
    ),
)  # fmt: skip
# StyleDrop's two scales (Sohn et al., 2023, section 3.2), in the form that Direct Consistency Optimization (Lee et al., 2024, section 4.3)
# has for diffusion models: one toward the prompt as the base knows it, and one from there toward the style.
_TOWARD_STYLE = GuidanceSection(
    branches={
        "nothing": BranchSection(prompt="", weights="base"),
        "base": BranchSection(prompt="{full_prompt}", weights="base"),
    },
    start="nothing",
    terms=(TermSection(scale="guidance", away_from="nothing", toward="base"), TermSection(scale=3.0, away_from="base", toward=PROMPT)),
)
# DreamArtist (Dong et al., 2022) with 3 rows for its token and 6 for the negative one. In the public code its LoRA form has separate
# adapters for the negative branch; here one set serves both branches.
_ARTIST: dict[str, Any] = {
    "preserves": "none", "save": "delta", "initial_word": "painting", "vectors": 3, "negative_vectors": 6, "guidance": _FROM_NEGATIVE,
}  # fmt: skip
# DreamBooth (Ruiz et al., 2023), Single- and Multi-StyleForge (Park et al., 2024), Textual Inversion (Gal et al., 2022), LoRA
# (Hu et al., 2021), Custom Diffusion (Kumari et al., 2023) and SVDiff (Han et al., 2023), with the learning rates of the public scripts.
METHODS = {
    "dreambooth": Row(**_WHOLE, preserves="generated"),
    "textual-inversion": Row(frozenset({"tokens"}), "none", 5e-4, save="delta", initial_word="painting"),
    "lora": Row(frozenset({"denoiser.low-rank"}), "none", 1e-4, text_encoder="text_encoder.low-rank", save="delta"),
    "custom-diffusion": Row(frozenset({"denoiser.cross-attention", "tokens"}), "generated", 1e-5, save="delta"),
    "svdiff": Row(
        frozenset({"denoiser.spectral"}),
        "generated",
        1e-3,
        text_encoder="text_encoder.spectral",
        by_default=True,
        save="delta",
        rates=(("denoiser.spectral.norms", 1e-3), ("text_encoder.spectral.norms", 1e-3)),
    ),
    "dreamartist": Row(frozenset({"tokens"}), learning_rate=2.5e-3, loss=LossSection(name="guided", scale=5.0), **_ARTIST),
    "dreamartist-lora": Row(
        frozenset({"denoiser.low-rank", "tokens"}),
        learning_rate=1e-4,
        text_encoder="text_encoder.low-rank",
        loss=LossSection(name="guided", scale=3.0),
        token_rate=2.5e-3,
        **_ARTIST,
    ),
    # Ahn et al., 2024.
    "dreamstyler": Row(
        frozenset({"tokens"}),
        "none",
        2e-3,
        save="delta",
        initial_word="painting",
        stages=6,
        prompts=("a photo of {token} style, {caption}",),
        guidance=_CONTENT_AND_STYLE,
    ),
    # StyleDrop was made for a masked transformer; on diffusion models a low-rank update stands in for it, with a description of the style
    # in place of a rare token (public comparisons: rank 64, 1,000 steps on one picture).
    "styledrop": Row(
        frozenset({"denoiser.low-rank"}),
        "none",
        5e-5,
        text_encoder="text_encoder.low-rank",
        save="delta",
        guidance=_TOWARD_STYLE,
        rank=64,
    ),
    # Lu et al., 2023, without the content loss, which in the public code passes through 8-bit pictures and so has no gradient.
    "specialist-diffusion": Row(
        frozenset({"denoiser"}),
        "none",
        1e-5,
        prompts=(
            "a photo of {token} style, {caption}",
            "a picture in {token} style, {caption}",
            "{caption}, in {token} style",
            "{caption}, painted in {token} style",
            "{token} style, {caption}",
        ),
        transforms=get_args(TransformName),
        grid=100,
    ),
    # Hertz et al., 2024.
    "stylealigned": Row(frozenset(), "none", 0.0, save="delta"),
    "single-styleforge": Row(**_WHOLE, preserves="curated"),
    "multi-styleforge": Row(**_WHOLE, preserves="curated", several=True),
    "split-styleforge": Row(**_WHOLE, preserves="curated", prior="distilled", guidance=SPLIT),
}
