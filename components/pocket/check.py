"""The pocket bases' quality bars, on pictures and seeds never used in training; sampled pictures are passed in as plain arrays."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.core.content import derive_seed
from components.pocket.captions import describe, in_grammar
from components.pocket.media import MEDIA, STYLES
from components.pocket.probe import Probe, read
from components.pocket.render import LOOKS, render, render_set
from components.pocket.scenes import BACKGROUNDS, SUBJECTS, Scene, random_scene


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


@dataclass(frozen=True)
class Question:
    """A prompt and what a picture of it should show."""

    prompt: str
    scene: Scene


def check_vae(folder: Path, count: int = 512) -> list[Bar]:
    """Reconstruction of held-out pictures in the base's media."""
    from diffusers import AutoencoderKL

    from components.pocket.train_vae import psnr

    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    return [Bar("VAE: PSNR", psnr(vae, render_set("check-vae", count).pixels), 30, "dB", count)]


def check_evaluator(folder: Path, count: int = 256) -> list[Bar]:
    """Top-1 retrieval among pictures with distinct captions that name every attribute; the worse direction counts."""
    from transformers import CLIPModel, CLIPTokenizer

    from components.pocket.train_evaluator import retrieval

    model = CLIPModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    bars = []
    for name, bar in [("base media", 60), *((style, 45) for style in STYLES)]:
        pixels, texts = _distinct(name, count)
        to_text, to_picture = retrieval(model, tokenizer, pixels, texts)
        bars.append(Bar(f"Evaluator: retrieval, {name}", 100 * min(to_text, to_picture), bar, "%", count))
    return bars


def _distinct(name: str, count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Pictures with distinct full captions: with the medium's name for the base's media, with none for a target style."""
    found: dict[str, NDArray[np.uint8]] = {}
    index = 0
    while len(found) < count:
        sample = render(derive_seed(0, "pocket", f"check-evaluator-{name}", index), None if name not in STYLES else name)
        text = describe(sample.scene)
        if name not in STYLES:
            text = in_grammar(index % 3, text, sample.medium)
        found.setdefault(text, np.asarray(sample.image))
        index += 1
    return np.stack(list(found.values())), list(found)


def base_questions(count: int = 512) -> list[Question]:
    """Captions in every grammar, in the base's media."""
    streams = [random.Random(derive_seed(0, "pocket", "check-unet", index)) for index in range(count)]
    scenes = [(random_scene(rng), rng.choice(list(MEDIA))) for rng in streams]
    return [Question(in_grammar(index % 4, describe(scene), medium), scene) for index, (scene, medium) in enumerate(scenes)]


def style_questions(template: str, count: int = 96) -> list[Question]:
    """Scenes for personalized models; ``template`` holds ``{prompt}``."""
    scenes = [random_scene(random.Random(derive_seed(0, "pocket", "check-style", index))) for index in range(count)]
    return [Question(template.replace("{prompt}", describe(scene)), scene) for scene in scenes]


def check_pictures(probe: Probe, pixels: NDArray[np.uint8], questions: list[Question], style: str | None = None) -> dict[str, float]:
    """Percentages of pictures that the probe reads correctly: ``background``, ``subject`` and, for a target style, ``style``."""
    reading = read(probe, pixels)
    right = {
        "background": reading.background == [BACKGROUNDS.index(question.scene.background) for question in questions],
        "subject": reading.subject == [SUBJECTS.index(question.scene.subject) for question in questions],
        **({"style": reading.look == LOOKS.index(style)} if style else {}),
    }
    return {name: 100 * float(values.mean()) for name, values in right.items()}


def check_probe(probe: Probe, count: int = 560) -> list[Bar]:
    """How well the probe reads rendered pictures: the ceiling of every figure based on it, and so without a bar."""
    data = render_set("check-probe", count, LOOKS)
    reading = read(probe, data.pixels)
    return [
        Bar(f"Probe on rendered pictures: {name}", 100 * float((getattr(reading, name) == data.labels[:, k]).mean()), None, "%", count)
        for k, name in enumerate(("background", "subject", "look"))
    ]
