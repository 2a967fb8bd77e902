"""Comparisons made of numbers instead of trainings: records as cells leave them behind, with known scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from components.core.comparison import CompareConfig, Comparison
from components.evaluation import metrics
from components.evaluation.comparison import Outcome
from components.evaluation.record import read_record
from tests.components.evaluation.conftest import picture

PROMPTS, REPEATS, REFERENCE, DIMENSION = 16, 2, 40, 8
METHODS = ("dreambooth", "textual-inversion", "lora", "custom-diffusion", "single-styleforge", "multi-styleforge")
LABELS = {
    "dreambooth": "DreamBooth", "textual-inversion": "Textual Inversion", "lora": "LoRA", "custom-diffusion": "Custom Diffusion",
    "single-styleforge": "Single-StyleForge", "multi-styleforge": "Multi-StyleForge",
}  # fmt: skip
RUN = {"style": {"name": "x", "source": "x"}, "base": {"model": "pocket"}, "sampling": {"bank": "pocket"}}


def config(**changes: Any) -> CompareConfig:
    data: dict[str, Any] = {
        "run": "run.yaml", "name": "made", "styles": [{"name": "anime"}], "seeds": [0], "resamples": 300,
        "methods": [
            # Equal settings would be one cell.
            {"name": name, "label": LABELS[name], "set": {"method.name": "single-styleforge", "method.prior_weight": 1 + place}}
            for place, name in enumerate(METHODS)
        ],
    }  # fmt: skip
    return CompareConfig.model_validate(data | changes)


def make_record(
    folder: Path, *, shift: float, clip_t: float, noise: int, style: int = 0, cost: dict[str, Any] | None = None,
    style_score: float | None = None,
) -> Path:  # fmt: skip
    rng, fixed = np.random.default_rng([noise, 7]), np.random.default_rng([style, 99])
    count = PROMPTS * REPEATS
    # What belongs to a prompt is the same in every cell, which is what pairing is about.
    prompt_part = 0.3 * np.repeat(fixed.standard_normal((PROMPTS, DIMENSION)), REPEATS, axis=0)
    features = prompt_part + 0.1 * rng.standard_normal((count, DIMENSION)) + shift / 3
    reference = 0.3 * fixed.standard_normal((REFERENCE, DIMENSION))
    texts = clip_t + np.repeat(fixed.standard_normal(PROMPTS), REPEATS) + 0.2 * rng.standard_normal(count)
    arrays = {"features": features, "reference": reference, "clip_t": texts, "clip_i": texts + 30}
    if style_score is not None:
        arrays["style_score"] = style_score + 0.1 * np.repeat(fixed.standard_normal(PROMPTS), REPEATS) + 0.02 * rng.standard_normal(count)
    folder.mkdir(parents=True)
    save_file({name: value.astype(np.float32) for name, value in arrays.items()}, folder / "values.safetensors")
    base = prompt_part + 1 + 0.02 * rng.standard_normal((count, DIMENSION))
    wall = []
    (folder / "wall").mkdir()
    for index in range(4):
        for kind, tint in (("style", (100, int(60 * shift) % 100, 20)), ("base", (20, 20, 110))):
            picture(1000 * noise + index, tint).save(folder / "wall" / f"{index}-{kind}.png")
        wall.append({
            "prompt": f"a man number {index} <b>with</b> a hat, upper body", "category": "people", "style": f"wall/{index}-style.png",
            "base": f"wall/{index}-base.png",
        })  # fmt: skip
    (folder / "cell.json").write_text(json.dumps({
        "schema": 1, "saved_bytes": int(1e6 * (1 + noise % 3)), "wall": wall,
        "prompts": [f"p{index}" for index in range(PROMPTS) for _ in range(REPEATS)],
        "scores": {
            "style": _scores(features, reference, texts) | _style_score(arrays, 0.0),
            "base": _scores(base, reference, texts - 1) | _style_score(arrays, -0.5), "drift": None,
            "context": {
                "extractor": "pocket", "fid_kid_features": "pocket CLIP image embedding", "dimension": DIMENSION, "fid_kid_resize": "none",
                "pictures": {"style": count}, "reference_n": REFERENCE, "reference": "held-out", "versions": {"torch": "2"},
            },
        },
    }))  # fmt: skip
    (folder / "timing.json").write_text(json.dumps(
        {"seconds": 60.0 + noise, "resumed": False, "peak_memory_bytes": 2e9, "device": "cpu", "steps": 400} | (cost or {})
    ))  # fmt: skip
    return folder


def _scores(features: Any, reference: Any, texts: Any) -> dict[str, Any]:
    kid = metrics.kid(features, reference, subset_size=20, subsets=20, seed=0)
    values = {"kid": kid, "fid": metrics.fid(features, reference), "clip_t": float(texts.mean()), "clip_i": float(texts.mean()) + 30}
    return {name: {"value": value, "low": value - 0.1, "high": value + 0.1, "n": len(features)} for name, value in values.items()}


def _style_score(arrays: dict[str, Any], further: float) -> dict[str, Any]:
    if "style_score" not in arrays:
        return {}
    value = float(arrays["style_score"].mean()) + further
    return {"style_score": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": PROMPTS * REPEATS}}


def outcomes(
    folder: Path,
    made: CompareConfig,
    shifts: dict[str, float],
    clip: dict[str, float],
    fails: Callable[[str, str, int], bool] | None = None,
    styles: dict[str, float] | None = None,
) -> list[Outcome]:
    """Outcomes of every cell of a comparison; ``fails`` tells which have no record, ``styles`` which methods have a style score."""
    found = []
    for number, cell in enumerate(Comparison(made, RUN, "made").cells()):
        name = cell.variants[0]
        if fails and fails(name, cell.style, cell.seed):
            found.append(Outcome(cell.id, cell.variants, cell.style, cell.seed, 400, error="the loss is <nan> | step 3"))
            continue
        place = [style.name for style in made.styles].index(cell.style)
        own = (styles or {}).get(name)
        record = make_record(folder / str(number), shift=shifts[name], clip_t=clip[name], noise=number, style=place, style_score=own)
        found.append(Outcome(cell.id, cell.variants, cell.style, cell.seed, 400, read_record(record)))
    return found


SHIFTS = dict(zip(METHODS, (1.2, 1.9, 1.35, 1.6, 0.7, 0.8), strict=True))
CLIP = dict(zip(METHODS, (27.1, 25.4, 28.6, 27.3, 27.5, 29.8), strict=True))
CLAIMS = [
    {"name": "Single-StyleForge has the best KID", "better": "single-styleforge", "than": METHODS[:4]},
    {"name": "Multi-StyleForge's KID is close behind", "better": "multi-styleforge", "than": ["single-styleforge"], "margin": 0.5},
    {"name": "DreamBooth follows prompts better than Single-StyleForge", "metric": "clip_t", "better": "dreambooth",
     "than": ["single-styleforge"]},
    {"name": "LoRA beats DreamBooth", "better": "lora", "than": ["dreambooth"]},
]  # fmt: skip
