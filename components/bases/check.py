"""The embedded bases' quality bars, on pictures and seeds never used in training; sampled pictures are passed in as plain arrays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.bases.probe import Probe, read
from components.core.content import derive_seed
from components.core.world import Question, World

MANY = 50
"""Number of names in a class from which it also counts whether the right one is among the probe's five likeliest."""


@dataclass(frozen=True)
class Bar:
    """One quality figure: its name, its value, and the bar that it must reach; without a bar it is only informative."""

    name: str
    value: float
    bar: float | None
    unit: str
    n: int

    @property
    def passed(self) -> bool:
        """Whether the value reaches the bar, if there is one."""
        return self.bar is None or self.value >= self.bar


def check_vae(folder: Path, world: World, count: int = 512) -> list[Bar]:
    """Reconstruction of held-out pictures in the base's looks."""
    from diffusers import AutoencoderKL

    from components.bases.train_vae import psnr

    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    return [Bar("VAE: PSNR", psnr(vae, world.render("check-vae", count, 0).pixels), 30, "dB", count)]


def check_evaluator(folder: Path, world: World, count: int = 256) -> list[Bar]:
    """Top-1 retrieval among pictures with distinct captions that name every attribute; the worse direction counts."""
    from transformers import CLIPModel, CLIPTokenizer

    from components.bases.train_evaluator import retrieval

    model = CLIPModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    bars = []
    for name, bar in [("base looks", 60), *((style, 45) for style in world.styles)]:
        pixels, texts = _distinct(world, name, count)
        to_text, to_picture = retrieval(model, tokenizer, pixels, texts)
        bars.append(Bar(f"Evaluator: retrieval, {name}", 100 * min(to_text, to_picture), bar, "%", len(texts)))
    return bars


def _distinct(world: World, name: str, count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """At most ``count`` pictures with distinct captions: with the look's name for the base's looks, without one for a target style."""
    data = world.render(f"check-evaluator-{name}", 2 * count, 0)
    texts = data.descriptions
    if name not in world.styles:
        streams = (random.Random(derive_seed(0, "check-evaluator", index)) for index in range(len(texts)))
        texts = [world.naming(rng, text, look) for rng, text, look in zip(streams, texts, world.looks_of(data), strict=True)]
    first = [index for index, text in enumerate(texts) if text not in texts[:index]][:count]
    return data.pixels[first], [texts[index] for index in first]


def check_pictures(
    probe: Probe, world: World, pixels: NDArray[np.uint8], questions: Sequence[Question], style: str | None = None
) -> dict[str, float]:
    """Percentages of pictures that the probe reads right: by class that the questions ask for and, for a target style, ``style``.

    A class of MANY names also has the percentage of pictures whose name is among the five likeliest: ``<class> in five``.
    """
    reading = dict(zip(world.classes, read(probe, pixels), strict=True))
    truth = {name: np.array([[question.truth[name]] for question in questions]) for name in questions[0].truth}
    if style is not None:
        reading["style"], truth["style"] = reading[world.look], np.full((len(pixels), 1), world.classes[world.look].index(style))
    found = {}
    for name, right in truth.items():
        found[name] = 100 * float((reading[name][:, :1] == right).mean())
        if reading[name].shape[1] >= MANY:
            found[f"{name} in five"] = 100 * float((reading[name][:, :5] == right).any(1).mean())
    return found


def check_probe(probe: Probe, world: World, count: int = 560) -> list[Bar]:
    """How well the probe reads rendered pictures: the ceiling of every figure based on it, and so without a bar."""
    data = world.render("check-probe", count, 0)
    reading = zip(world.classes, read(probe, data.pixels), data.labels.T, strict=True)
    return [Bar(f"Probe on rendered images: {name}", 100 * float((found[:, 0] == right).mean()), None, "%", count)
            for name, found, right in reading]  # fmt: skip
