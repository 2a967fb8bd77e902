"""Pictures of the pocket world with captions and labels: one picture per seed, and a folder as a user could have made it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.paths import atomic_folder, write_jsonl
from components.core.world import RenderedSet
from components.pocket import backgrounds
from components.pocket.captions import caption, describe
from components.pocket.media import MEDIA, MIXED, STYLES, apply_look, random_medium
from components.pocket.pen import SIDE, Pen
from components.pocket.people import draw_person
from components.pocket.qualities import draw_name, look_named
from components.pocket.scenes import BACKGROUNDS, COLOURS, SUBJECTS, Scene, random_scene
from components.pocket.things import draw_thing

LOOKS = (*MEDIA, MIXED, *STYLES)
"""Every medium and target style, in the order of the probe's style classes."""
QUALIFIED = "qualified"
"""Requests a look in words, a different one for each picture: see :mod:`components.pocket.qualities`."""


@dataclass(frozen=True)
class Sample:
    """A rendered picture (RGB, 64 × 64), its scene, its medium or style, and a training caption."""

    image: Image.Image
    scene: Scene
    medium: str
    caption: str

    @property
    def labels(self) -> tuple[int, int, int]:
        """Indices of background, subject and look in BACKGROUNDS, SUBJECTS and LOOKS; -1 for a look that is none of these."""
        look = LOOKS.index(self.medium) if self.medium in LOOKS else -1
        return BACKGROUNDS.index(self.scene.background), SUBJECTS.index(self.scene.subject), look


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw a scene flat; ``rng`` decides positions and small colour changes. Returns RGB, CANVAS × CANVAS."""
    pen = Pen(rng)
    backgrounds.DRAW[scene.background](pen, rng.uniform(0.5, 0.64))
    if scene.who:
        draw_person(pen, scene)
    elif scene.thing:
        draw_thing(pen, scene.thing, COLOURS[scene.colour or "red"])
    return pen.image


def render(seed: int, medium: str | None = None, role: str | None = None, scene: Scene | None = None) -> Sample:
    """Render one picture from its seed; ``medium`` may be a medium, ``mixed media``, a target style or ``qualified``."""
    rng = random.Random(seed)
    drawn = random_scene(rng, role)
    scene = scene or drawn
    chosen = draw_name(rng) if medium == QUALIFIED else medium or random_medium(rng)
    image = apply_look(draw_scene(scene, rng), look_named(chosen, rng), rng)
    return Sample(image, scene, chosen, caption(scene, chosen, rng))


def _pixels(job: tuple[int, str | None]) -> tuple[NDArray[np.uint8], str, str, tuple[int, int, int], str]:
    sample = render(*job)
    return np.asarray(sample.image), sample.caption, describe(sample.scene), sample.labels, sample.medium


def render_set(purpose: str, count: int, media: Sequence[str] | None = None, workers: int = 0) -> RenderedSet:
    """Render pictures with seeds derived from ``purpose``, using ``media`` in turn; by default, :func:`random_medium` draws the media."""
    jobs = [(derive_seed(0, "pocket", purpose, i), media[i % len(media)] if media else None) for i in range(count)]
    rows: Iterable[Any]
    if workers > 1:
        with get_context("spawn").Pool(workers) as pool:
            rows = pool.map(_pixels, jobs, chunksize=64)
    else:
        rows = map(_pixels, jobs)
    pixels, captions, descriptions, labels, _ = zip(*rows, strict=True)
    return RenderedSet(np.stack(pixels), list(captions), list(descriptions), np.array(labels, dtype=np.int64))


AUX_MEDIA = ("digital painting", "illustration", "photo", "oil painting")
AUX_ROLES = ["character"] * 16 + ["background"] * 8 + ["thing"] * 16
"""Roles of each medium's pictures. Things are among them: no StyleRef picture shows one, so only Aux pictures keep them from being
forgotten."""


def render_dataset(style: str, out: Path, *, seed: int = 0, reference: int = 400) -> Path:
    """Write a style set as a user could have made it: ``style_ref/`` (20), ``aux_pool/`` (160), ``reference/``, ``metadata.jsonl``."""
    if style not in STYLES:
        raise InputError(f"--style {style}", "no such target style", expected=f"one of {', '.join(STYLES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(str(out), "exists and is not empty", expected="a new or empty folder", remedy="choose another --out, or remove it")
    plan = [("style_ref", "character", style)] * 10 + [("style_ref", "background", style)] * 10
    plan += [("aux_pool", role, medium) for medium in AUX_MEDIA for role in AUX_ROLES]
    plan += [("reference", "", style)] * reference
    rows: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    with atomic_folder(out) as temporary:
        for split, role, medium in plan:
            index = counts.get(split, 0)
            counts[split] = index + 1
            sample = plain_sample(derive_seed(seed, "style-set", style, split, index), medium, role or None)
            name = f"{split}/{index:03d}.png"
            (temporary / split).mkdir(exist_ok=True)
            sample.image.save(temporary / name)
            text = describe(sample.scene)
            rows.append({"file_name": name, "text": f"{_of(medium)}{text}" if split == "aux_pool" else text, "role": sample.scene.role})
        write_jsonl(temporary / "metadata.jsonl", rows)
    return out


def _of(medium: str) -> str:
    return f"{'an' if medium[0] in 'aeio' else 'a'} {medium} of "


def plain_sample(seed: int, medium: str, role: str | None) -> Sample:
    """A picture without patterned clothes, which are what "style" alone means and which no user would pick by chance."""
    rng = random.Random(seed)
    while (scene := random_scene(rng, role)).patterned:
        pass
    return render(rng.getrandbits(48), medium, scene=scene)


def contact_sheet(pixels: NDArray[np.uint8], columns: int, scale: int = 2) -> Image.Image:
    """Tile pictures (N, 64, 64, 3) into one, enlarged ``scale`` times without smoothing."""
    rows = -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for index, picture in enumerate(pixels):
        sheet.paste(Image.fromarray(picture), (index % columns * SIDE, index // columns * SIDE))
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)
