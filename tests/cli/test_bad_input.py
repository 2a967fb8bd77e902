"""What every command does with bad input: one message that names the file or field, says what was expected and what to do, the exit
code, nothing trained and nothing half-written left behind. Each refusal has its test beside what refuses.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cli.app import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good pictures, a base and an extractor that are only looked at, and a configuration."""
    monkeypatch.chdir(tmp_path)
    pictures = tmp_path / "style" / "style_ref"
    pictures.mkdir(parents=True)
    for index in range(4):
        blocks = np.random.default_rng(index).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST).save(pictures / f"{index}.png")
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16, 32]}}.items():
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text(json.dumps(config))
    for part in ("text_encoder", "tokenizer", "scheduler"):
        (tmp_path / "base" / part).mkdir()
    (tmp_path / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "clip").mkdir()
    (tmp_path / "bank.tsv").write_text("id\tprompt\na\ta man\nb\ta house\n", encoding="utf-8")
    config = {
        "style": {"name": "test", "source": "style"}, "aux": {"source": "none"}, "base": {"model": "base"},
        "sampling": {"bank": "bank.tsv"}, "scoring": {"extractor": "clip"},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return tmp_path


def call(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, result.stderr, json.loads(result.stdout.splitlines()[-1])


def state(folder: Path) -> dict[str, int]:
    """All files outside the home, with their sizes."""
    files = [path for path in folder.rglob("*") if path.is_file() and "home" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def leftovers(folder: Path) -> list[Path]:
    home = folder / "home"
    places = [item for part in ("work", "checkpoints", "pictures", "runs", "zenml") for item in (home / part).rglob("*")]
    return [item for item in places if item.is_file()] + list(home.rglob(".*.tmp*"))


def without_vae(folder: Path) -> None:
    (folder / "base" / "vae" / "config.json").unlink()
    (folder / "base" / "vae").rmdir()


CASES = {
    "style.source=nowhere": ["style.source=nowhere", "no such folder", "expected a folder of images", "Fix"],
    "training.stepz=3": ["config.yaml", "unknown key training.stepz", "did you mean training.steps?", "See docs"],
    "sampling.guidance_formula={terms: [{scale: 2, away_from: class, toward: prompt}]}": [
        "config.yaml", "sampling.guidance_formula.terms.0.away_from", "there is no branch 'class'", "See docs",
    ],
    "training.steps=many": ["config.yaml", "training.steps='many'", "valid integer", "See docs"],
}  # fmt: skip


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("override", CASES)
def test_one_message_before_anything_runs(folder: Path, command: str, override: str) -> None:
    before = state(folder)
    code, stderr, answer = call(command, "config.yaml", "--set", override)
    assert code == 2 and answer["status"] == "failed"
    assert stderr.count("error:") == 1 and "Traceback" not in stderr
    message = answer["error"]["message"]
    assert message in stderr and all(part in message for part in CASES[override]), message
    assert answer["error"]["remedy"] and state(folder) == before and leftovers(folder) == []


def test_a_picture_that_cannot_be_used(folder: Path) -> None:
    (folder / "style" / "style_ref" / "words.png").write_text("no image")
    before = state(folder)
    code, _, answer = call("validate", "config.yaml")
    assert code == 3 and answer["status"] == "refused"
    (failed,) = (rule["failures"] for rule in answer["rules"] if rule["severity"] == "hard" and not rule["passed"])
    assert [Path(failure["path"]).name for failure in failed] == ["words.png"] and "not an image" in failed[0]["reason"]
    assert Path(answer["page"]).is_file() and state(folder) == before and leftovers(folder) == []


def test_an_unreachable_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:pa55word@127.0.0.1:9")
    code, stderr, answer = call("run", "config.yaml")
    assert code == 4 and answer["status"] == "failed" and stderr.count("error:") == 1
    error = answer["error"]
    assert "127.0.0.1:9" in error["message"] and error["expected"] and error["remedy"]
    assert "pa55word" not in stderr and "pa55word" not in json.dumps(answer)
    assert leftovers(folder) == []


@pytest.mark.parametrize("command", ["sample", "explain"])
def test_a_model_folder_without_a_vae(folder: Path, command: str) -> None:
    index = folder / "base" / "model_index.json"
    known = index.read_text()
    index.unlink()
    assert "no model_index.json" in call(command, "base", "a man", "--out", "out")[1]
    index.write_text(known)
    without_vae(folder)
    code, stderr, answer = call(command, "base", "a man", "--out", "out")
    assert code == 2 and stderr.count("error:") == 1
    assert "has no VAE (folder vae/ is missing)" in stderr and answer["error"]["expected"] and answer["error"]["remedy"]
    assert not (folder / "out").exists()
