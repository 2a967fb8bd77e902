"""The fine-tuning methods, a row each: what trains, what preserves, and the settings of the reference where they are not the usual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.core.config import GuidanceSection, LossSection, TransformName

DENOISING = LossSection()


@dataclass(frozen=True)
class Row:
    """``text_encoder`` is the way in which the text encoder trains where configured, ``by_default`` whether it is.

    ``rates`` are as a recipe's.
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


_WHOLE: dict[str, Any] = {"trains": frozenset({"denoiser"}), "learning_rate": 5e-6, "text_encoder": "text_encoder", "by_default": True}
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
    "single-styleforge": Row(**_WHOLE, preserves="curated"),
    "multi-styleforge": Row(**_WHOLE, preserves="curated", several=True),
}
