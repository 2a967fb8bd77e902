"""Bad input at the command: one message that names the file or field, says what was expected and what to do; the exit code;
nothing trained and nothing half-written left behind.

What a whole run makes of bad pictures is in ``test_end_to_end.py``, a disk that is full while a checkpoint is written in
``test_run.py`` and ``tests/components/diffusion/training/test_checkpoints.py``.
"""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.paths import pocket_weights

SIDE = 64


def drawn(seed: int, side: int = SIDE) -> Image.Image:
    """A picture like no other."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST)


def header_bomb(path: Path, side: int = 20_000) -> None:
    """A PNG of a few bytes whose header promises 20,000 × 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""))


def truncated(path: Path) -> None:
    drawn(50, 128).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def same_as_the_first(path: Path) -> None:
    path.write_bytes(min(path.parent.glob("0*.png")).read_bytes())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good pictures, a base and an extractor that are only looked at, and a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pictures = tmp_path / "style" / "style_ref"
    pictures.mkdir(parents=True)
    for index in range(4):
        drawn(index).save(pictures / f"{index}.png")
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16, 32]}}.items():
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text(json.dumps(config))
    (tmp_path / "clip").mkdir()
    (tmp_path / "bank.tsv").write_text("id\tprompt\na\ta man\nb\ta house\n", encoding="utf-8")
    config = {
        "style": {"name": "test", "source": "style"}, "aux": {"source": "none"}, "base": {"model": "base"},
        "sampling": {"bank": "bank.tsv"}, "scoring": {"extractor": "clip"},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return tmp_path


def call(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, stderr, and the JSON of the last line."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, result.stderr, json.loads(result.stdout.splitlines()[-1])


def state(folder: Path) -> dict[str, int]:
    """All files outside the home, with their sizes."""
    files = [path for path in folder.rglob("*") if path.is_file() and "home" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def leftovers(folder: Path) -> list[Path]:
    """What unfinished work would leave in the home."""
    home = folder / "home"
    places = [item for part in ("work", "checkpoints", "pictures", "runs", "zenml") for item in (home / part).rglob("*")]
    return [item for item in places if item.is_file()] + list(home.rglob(".*.tmp*"))


# Refused before anything runs


def without_vae(folder: Path) -> None:
    (folder / "base" / "vae" / "config.json").unlink()
    (folder / "base" / "vae").rmdir()


def with_double_ids(folder: Path) -> None:
    (folder / "bank.tsv").write_text("id\tprompt\na\ta man\na\ta house\n", encoding="utf-8")


def without_pictures(folder: Path) -> None:
    for path in (folder / "style" / "style_ref").iterdir():
        path.unlink()


def nothing(folder: Path) -> None:
    """The folder is good; the setting is at fault."""


CASES: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "missing folder": (nothing, "style.source=nowhere", ["style.source=nowhere", "no such folder", "expected a folder of pictures", "Fix"]),
    "unknown key": (nothing, "training.stepz=3", ["config.yaml", "unknown key training.stepz", "did you mean training.steps?", "See docs"]),
    "wrong type": (nothing, "training.steps=many", ["config.yaml", "training.steps='many'", "valid integer", "See docs"]),
    "unknown method": (nothing, "method.name=dreamboth", ["config.yaml", "method.name='dreamboth'", "'dreambooth'", "See docs"]),
    "duplicate ids": (with_double_ids, "", ["bank.tsv", "'a'", "expected", "."]),
    "base without a VAE": (without_vae, "", ["base.model=base", "vae", "expected a Stable Diffusion", "."]),
    "empty folder": (without_pictures, "", ["style: the folder is empty; expected a folder of PNG, JPEG", "Put pictures there"]),
}


# A run finds the empty folder in a step.
@pytest.mark.parametrize(("command", "case"), [*(("validate", case) for case in CASES), *(("run", case) for case in list(CASES)[:-1])])
def test_one_message_before_anything_runs(folder: Path, command: str, case: str) -> None:
    spoil, override, parts = CASES[case]
    spoil(folder)
    before = state(folder)
    code, stderr, answer = call(command, "config.yaml", *(["--set", override] if override else []))
    assert code == 2 and answer["status"] == "failed"
    assert stderr.count("error:") == 1 and "Traceback" not in stderr
    message = answer["error"]["message"]
    assert message in stderr and all(part in message for part in parts), message
    assert answer["error"]["expected"] or "expected" in message or "should be" in message or "did you mean" in message
    assert answer["error"]["remedy"], message
    assert state(folder) == before and leftovers(folder) == []


def test_an_unwritable_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("STYLEFORGE_HOME", str(folder / "file" / "home"))
    before = state(folder)
    code, stderr, answer = call("run", "config.yaml")
    assert code == 2 and stderr.count("error:") == 1
    message = answer["error"]["message"]
    assert f"STYLEFORGE_HOME={folder / 'file' / 'home'}: the folder cannot be written" in message
    assert "expected a folder that this user may write to. Set STYLEFORGE_HOME to one" in message
    assert state(folder) == before


def test_an_unreachable_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:pa55word@127.0.0.1:9")
    code, stderr, answer = call("run", "config.yaml")
    assert code == 4 and answer["status"] == "failed" and stderr.count("error:") == 1
    error = answer["error"]
    assert "127.0.0.1:9" in error["message"] and error["expected"] and error["remedy"]
    assert "pa55word" not in stderr and "pa55word" not in json.dumps(answer)
    assert leftovers(folder) == []


# Pictures


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "words.png": (lambda path: path.write_text("no picture") and None, "not a picture"),
    "half.jpg": (truncated, "truncated"),
    "dot.png": (lambda path: Image.new("RGB", (1, 1)).save(path), "1"),
    "bomb.png": (header_bomb, "178,956,970 pixels"),
    "twin.png": (same_as_the_first, "0.png"),
}


def test_pictures_that_cannot_be_used_are_named_with_their_reasons(folder: Path) -> None:
    for name, (make, _) in BAD.items():
        make(folder / "style" / "style_ref" / name)
    before = state(folder)
    code, _, answer = call("validate", "config.yaml")
    assert code == 3 and answer["status"] == "refused"
    failed: dict[str, str] = {}
    for rule in answer["rules"]:
        for failure in rule["failures"] if rule["severity"] == "hard" and not rule["passed"] else []:
            failed[Path(failure["path"]).name] = failed.get(Path(failure["path"]).name, "") + failure["reason"]
    assert set(BAD) <= set(failed) <= {*BAD, "0.png"}
    assert all(reason in failed[name] for name, (_, reason) in BAD.items()), failed
    assert Path(answer["page"]).is_file() and state(folder) == before and leftovers(folder) == []


def sixteen_bits(path: Path) -> None:
    values = np.random.default_rng(9).integers(0, 65535, (8, 8), dtype=np.uint16).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values).save(path)


def animated(path: Path) -> None:
    drawn(10).save(path, save_all=True, append_images=[drawn(11), drawn(12)])


def test_pictures_of_unusual_kinds_are_taken(folder: Path) -> None:
    pictures = folder / "style" / "style_ref"
    sixteen_bits(pictures / "deep.png")
    drawn(13).convert("CMYK").save(pictures / "print.jpg")
    animated(pictures / "moving.gif")
    code, _, answer = call("validate", "config.yaml")
    assert code == 0 and answer["status"] == "completed" and answer["counts"]["style_ref"] == 7
    (animation,) = (rule for rule in answer["rules"] if rule["name"] == "single_frame")
    assert not animation["passed"] and [Path(item["path"]).name for item in animation["failures"]] == ["moving.gif"]


# Drawing


@pytest.mark.parametrize("command", ["sample", "explain"])
def test_a_model_folder_without_a_vae(folder: Path, command: str) -> None:
    without_vae(folder)
    assert "model_index.json" in call(command, "base", "a man", "--out", "out")[1]
    (folder / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    code, stderr, answer = call(command, "base", "a man", "--out", "out")
    assert code == 2 and stderr.count("error:") == 1
    assert "has no VAE (folder vae/ is missing)" in stderr and answer["error"]["expected"] and answer["error"]["remedy"]
    assert not (folder / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["sample", "explain"])
def test_a_device_that_torch_cannot_use(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_DEVICE", "cuda")
    code, stderr, answer = call(command, str(pocket_weights("base")), "a man", "--out", "out")
    assert code == 2 and stderr.count("error:") == 1
    assert "STYLEFORGE_DEVICE=cuda: torch" in stderr and answer["error"]["remedy"]
    assert not (folder / "out").exists()
