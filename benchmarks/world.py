"""The benchmark data: a rendered style set, its Aux set, and pictures to score, made anew for every benchmark run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.config import RunConfig
from components.core.content import derive_seed
from components.core.paths import write_jsonl
from components.pocket.pen import SIDE

STYLE = "anime"


@dataclass(frozen=True)
class Sizes:
    """How much work a round does.

    ``steps`` are optimizer steps; ``drawn`` the pictures drawn; ``scored`` the pictures of the style model, with as many of
    the base and a quarter as many without the style; ``reference`` the held-out pictures; ``side`` the side in pixels of scored
    pictures, ``source`` that of the pictures trained on, as a user would supply them.
    """

    steps: int = 120
    drawn: int = 64
    scored: int = 256
    reference: int = 256
    side: int = 64
    source: int = 64


@dataclass(frozen=True)
class World:
    """The folders of one benchmark run, as the pipeline's steps would make them."""

    folder: Path
    config: RunConfig
    sizes: Sizes

    @property
    def style_set(self) -> Path:
        """The folder of the scanned style set."""
        return self.folder / "style_set"

    @property
    def split(self) -> Path:
        """The folder of the split."""
        return self.folder / "split"

    @property
    def aux(self) -> Path:
        """The folder of the Aux set."""
        return self.folder / "aux"

    def pictures(self, name: str) -> Path:
        """Return a folder of pictures to score: ``style``, ``base`` or ``plain``."""
        return self.folder / "pictures" / name

    @property
    def reference(self) -> list[Path]:
        """The held-out pictures."""
        return sorted((self.style_set / "images" / "reference").rglob("*.png"))


def build_world(config: RunConfig, folder: Path, sizes: Sizes) -> World:
    """Render a style set, scan, split and curate it, and render pictures to score; none of this is timed.

    Args:
        config: the run whose base, method, training, sampling and scoring are measured. Its style is not read: content does
            not affect speed, so the rendered ``anime`` is used.
        folder: an empty folder.
        sizes: how much work to prepare.
    """
    from components.evaluation.extractors.clip import ClipEncoder
    from components.pocket.render import render_dataset
    from components.styledata.auxiliary import curate
    from components.styledata.manifest import scan_style
    from components.styledata.split import split_style_set

    source = render_dataset(STYLE, folder / "source", reference=sizes.reference)
    if sizes.source != SIDE:
        for picture in [*(source / "style_ref").iterdir(), *(source / "aux_pool").iterdir()]:
            _scale(picture, sizes.source)
    style = config.style.model_copy(update={"source": str(source), "reference": None})
    aux = config.aux.model_copy(update={"source": "curated", "pool": None})
    world = World(folder, config.model_copy(update={"style": style, "aux": aux}), sizes)

    def encoder() -> ClipEncoder:
        return ClipEncoder(config.scoring.extractor, config.scoring.extractor_revision)

    scan_style(style, aux, world.style_set)
    split_style_set(world.style_set, world.split, encoder)
    curate(world.style_set, world.aux, count=aux.count, form=aux.form, encoder=encoder)
    for name, count in (("style", sizes.scored), ("base", sizes.scored), ("plain", max(2, sizes.scored // 4))):
        _render_pictures(world.pictures(name), name, count, sizes.side)
    return world


def _scale(file: Path, side: int) -> None:
    from PIL import Image

    with Image.open(file) as picture:
        larger = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    larger.save(file)


def _render_pictures(folder: Path, name: str, count: int, side: int) -> None:
    """Write a folder as the sampler does: four pictures for each prompt, in three categories."""
    from PIL.Image import Resampling

    from components.pocket.captions import describe
    from components.pocket.render import render

    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for index in range(count):
        prompt, repeat = divmod(index, 4)
        sample = render(derive_seed(0, "benchmark", name, index), STYLE if name == "style" else None)
        picture = sample.image if sample.image.width == side else sample.image.resize((side, side), Resampling.BICUBIC)
        file = f"images/prompt-{prompt:05d}-r{repeat}.png"
        picture.save(folder / file)
        text = describe(sample.scene)
        rows.append(
            {
                "file_name": file, "prompt_id": f"prompt-{prompt:05d}", "category": ("people", "backgrounds", "things")[prompt % 3],
                "prompt": text, "full_prompt": text, "seed": index, "repeat": repeat,
            }
        )  # fmt: skip
    write_jsonl(folder / "metadata.jsonl", rows)
