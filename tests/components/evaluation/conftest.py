"""A tiny finished run on disk: pictures of a style model and its base, a style set, a split, Aux, a validation and a model folder."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.config import Limit
from components.core.paths import write_json, write_jsonl
from components.evaluation.selection import Option, Point, Rule
from components.evaluation.selection_record import Drawn, search, write_selection
from components.evaluation.significance import Resampled
from tests.fixtures_models import tiny_clip_folder

CATEGORIES = ("people", "things")
CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass(frozen=True)
class FinishedRun:
    root: Path
    reference: list[Path]

    def folders(self) -> dict[str, Path]:
        names = ("style_set", "split", "aux", "validation", "model")
        return {name: self.root / name for name in names} | {"style_pictures": self.root / "style", "base_pictures": self.root / "base"}


def picture(seed: int, tint: tuple[int, int, int], side: int = 64) -> Image.Image:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 120, (8, 8, 3)) + np.array(tint)
    return Image.fromarray(blocks.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)


def write_pictures(folder: Path, tint: tuple[int, int, int], *, seed: int, prompts: int = 8, repeats: int = 2, side: int = 64) -> Path:
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for index in range(prompts):
        for repeat in range(repeats):
            name = f"p{index}-r{repeat}.png"
            picture(seed + 10 * index + repeat, tint, side).save(folder / "images" / name)
            text = f"a photo of {index} <b>hats</b> & a man"
            rows.append({"file_name": f"images/{name}", "prompt_id": f"p{index}", "category": CATEGORIES[index % 2], "prompt": text,
                         "full_prompt": f"sks style, {text}", "seed": 1, "repeat": repeat})  # fmt: skip
    write_jsonl(folder / "metadata.jsonl", rows)
    return folder


def option(kid: float, clip_t: float = 60.0, own: float = 0.0, step: int = 0, guidance: float = 1.0) -> Option:
    """``own`` is the spread that is not common to all options."""
    common = np.random.default_rng(0).normal(0, 0.01, 400)
    spread = kid + common + own * np.random.default_rng(int(1e4 * kid)).normal(size=len(common))
    scores = {
        name: {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 8} for name, value in (("kid", kid), ("clip_t", clip_t))
    }
    return Option(Point(step, guidance), scores, Resampled(kid, spread))


def write_selection_of(root: Path) -> None:
    """Five checkpoints and three guidance scales that were compared, and what was drawn from the exported file."""

    def drawn(at: Point) -> Drawn:
        step, guidance = at.step, at.guidance
        folder = write_pictures(root / "selection" / f"{step}-{guidance}", (step, 20, 20), seed=step, prompts=4, repeats=1)
        return Drawn(folder, option(0.1 + abs(60 - step) / 400 + abs(guidance - 2) / 9, step=step, guidance=guidance))

    rule = Rule("kid", [Limit(metric="clip_t", at_least=54.0)], 0.68)
    record = {"bank": "pocket-selection", "prompts": 4, "reference_n": 5, "base": {}}
    training = root / "model" / "training"
    steps = [(step, None) for step in (20, 40, 60, 80, 100)]
    write_selection(training / "selection", search(Point(100, 2.5), steps, [2.0, 1.5], [], rule, drawn), rule, record)
    for index, name in enumerate(("validation_00.png", "exported_00.png", "previews/step-00000000.png", "previews/step-00000050.png")):
        (training / name).parent.mkdir(exist_ok=True)
        picture(index, (60, 60, 60)).save(training / name)
    rows = [{"prompt": "a dog", "model": "validation_00.png", "exported": "exported_00.png", "mean": 0.01, "largest": 1.0}]
    write_json(training / "exported.json", {"file": "one-file checkpoint", "pictures": rows})


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root = tmp_path_factory.mktemp("run")
    write_pictures(root / "style", (120, 20, 20), seed=0)
    write_pictures(root / "base", (20, 20, 120), seed=500)
    write_pictures(root / "plain", (20, 30, 110), seed=900)
    images = root / "style_set" / "images"
    for split, count in (("style_ref", 5), ("reference", 12)):
        (images / split).mkdir(parents=True)
        for index in range(count):
            picture(2000 + 50 * count + index, (125, 20, 25)).save(images / split / f"{index}.png")
    write_json(root / "split" / "split.json", {
        "method": "folder", "reference": [f"reference/{index}.png" for index in range(12)], "reference_is_style_ref": False,
        "style_ref": [{"path": f"style_ref/{i}.png", "role": "character", "confidence": 1.0, "source": "folder"} for i in range(5)],
        "low_confidence": [],
    })  # fmt: skip
    (root / "aux" / "images").mkdir(parents=True)
    picture(7, (60, 90, 60), 300).save(root / "aux" / "images" / "a.png")
    write_jsonl(root / "aux" / "metadata.jsonl", [{"file_name": "images/a.png", "text": "a painting", "prompt": "a photo of style"}])
    write_json(root / "validation" / "validation.json", {"passed": True, "counts": {"style_ref": 5}, "rules": [
        {"name": "decodable", "severity": "hard", "passed": True, "message": "all decode", "failures": []},
        {"name": "near_duplicates", "severity": "soft", "passed": False, "message": "two look alike",
         "failures": [{"path": f"style_ref/{i}.png", "reason": "alike"} for i in range(30)]},
    ]})  # fmt: skip
    write_jsonl(root / "model" / "training" / "log.jsonl", [
        {"step": step, "loss": 1 / step, "instance_loss": 0.7 / step, "aux_loss": 0.3 / step, "lr": 1e-4,
         **({"validation_loss": 0.5} if step % 20 == 0 else {})} for step in range(1, 101)
    ])  # fmt: skip
    write_selection_of(root)
    write_json(root / "model" / "styleforge.json", {
        "method": "single-styleforge", "base": {"model": "pocket", "revision": None, "digest": "ab" * 32}, "manifest_digest": "cd" * 32,
        "versions": {"diffusers": "0.42.1"},
    })  # fmt: skip
    return FinishedRun(root, sorted((images / "reference").glob("*.png")))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With this seed its pictures and prompts are on one side of each other, so that CLIP-T is not zero throughout.
    return tiny_clip_folder(tmp_path_factory.mktemp("clip"), seed=1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; without one the tests that ask for it are skipped."""
    executable = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS, timeout=120_000)
        yield opened
        opened.close()
