from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.config import RunConfig, parse_config
from components.core.content import digest_file
from tests.fixtures_models import tiny_sd_folder, tiny_sdxl_folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd_folder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def tiny_v_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd_folder(tmp_path_factory.mktemp("base") / "tiny-v", prediction_type="v_prediction")


@pytest.fixture(scope="session")
def tiny_xl_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl_folder(tmp_path_factory.mktemp("base") / "tiny-xl")


class Folders:
    """The three folders that fine-tuning reads."""

    def __init__(self, root: Path) -> None:
        self.style_set, self.split, self.aux, self.out, self.checkpoints = (
            root / name for name in ("style_set", "split", "aux", "model", "ck")
        )

    @property
    def inputs(self) -> tuple[Path, Path, Path]:
        return self.style_set, self.split, self.aux


def write_folders(root: Path, style: int = 5, aux: int = 4, reference: int = 0) -> Folders:
    folders = Folders(root)
    generator = np.random.default_rng(0)

    def draw(file: Path, size: tuple[int, int]) -> str:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)).save(file)
        return digest_file(file)

    rows: list[dict[str, Any]] = []
    for split, count in (("style_ref", style), ("reference", reference)):
        for index in range(count):
            path = f"{split}/{index}.png"
            digest = draw(folders.style_set / "images" / path, (40, 52))
            rows.append({"path": path, "sha256": digest, "caption": f"a man {index}", "role": "character", "split": split, "problem": None})
    (folders.style_set / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders.split.mkdir()
    chosen = [
        {"path": row["path"], "role": "character", "confidence": 1.0, "source": "metadata"} for row in rows if row["split"] == "style_ref"
    ]
    held_out = [row["path"] for row in rows if row["split"] == "reference"]
    split_file = {
        "method": "metadata",
        "style_ref": chosen,
        "reference": held_out,
        "reference_is_style_ref": not held_out,
        "low_confidence": [],
    }
    (folders.split / "split.json").write_text(json.dumps(split_file))
    listed = []
    for index in range(aux):
        draw(folders.aux / "images" / f"{index}.png", (48, 36))
        listed.append({"file_name": f"images/{index}.png", "text": "a woman", "prompt": None, "source": "curated", "origin": "pool"})
    folders.aux.mkdir(exist_ok=True)
    (folders.aux / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    return folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return write_folders(tmp_path / "run")


@pytest.fixture
def make_config(tiny_base: Path) -> Callable[..., RunConfig]:
    def make(**settings: Any) -> RunConfig:
        data: dict[str, Any] = {
            "seed": 3,
            "style": {"name": "anime", "source": "unused"},
            "base": {"model": str(tiny_base)},
            "training": {"steps": 6, "learning_rate": 1e-3, "batch_size": 2, "checkpoint_every": 2, "validate_every": 3},
            "sampling": {"steps": 3, "repeats": 2, "batch_size": 4},
        }
        for section, values in settings.items():
            data[section] = {**data.get(section, {}), **values} if isinstance(values, dict) else values
        return parse_config(data)

    return make
