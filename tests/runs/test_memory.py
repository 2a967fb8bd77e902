"""The planner as a command: what it says, what it refuses, and that it fetches no weights."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.config import load_config
from components.core.errors import InputError
from components.core.gpus import gpu_memory
from components.core.paths import REPOSITORY
from components.diffusion.planning.records import MemoryPlan, StepMemory
from orchestration.client import LOCAL
from orchestration.environment import set_source_root
from runs.memory import check_fits
from runs.run import run_personalize
from runs.validation import validate_style
from tests.components.diffusion.conftest import edit
from tests.components.diffusion.planning.published import write_base
from tests.fixtures_captioners import tiny_llava_folder
from tests.fixtures_models import tiny_clip_folder

STYLE = ["--set", "style.name=glow", "--set", "style.source=s3://somewhere"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STYLEFORGE_GPU", raising=False)
    yield


def plan(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    result = CliRunner().invoke(app, ["plan", *arguments, "--json"])
    return result.exit_code, result.output, json.loads(result.stdout.splitlines()[-1])


def test_a_run_that_fits_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "memory.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if line.startswith("styleforge plan pocket "))
    code, _, answer = plan(*shlex.split(command)[2:])
    assert (code, answer["status"], answer["fits"], answer["change"]) == (0, "completed", True, None)
    assert answer["parts"]["unet"]["trained"] == 7_141_048
    code, said, answer = plan("pocket", "--gpu", "780MB")
    assert (code, answer["status"], answer["fits"]) == (2, "refused", False)
    assert "does not fit" in said and answer["change"]["bytes"] <= answer["gpu"]["usable"] < answer["peak"]["bytes"]
    assert all(f"--set {name}=" in said for name in answer["change"]["settings"])
    # What it advises fits.
    options = [
        part for name, value in answer["change"]["settings"].items() for part in ("--set", f"{name}={json.dumps(value).strip(chr(34))}")
    ]
    assert plan("pocket", "--gpu", "780MB", *options)[0] == 0
    monkeypatch.setenv("STYLEFORGE_GPU", "780MB")
    assert plan("pocket")[0] == 2


def test_a_gpu_of_no_known_name_and_a_missing_base() -> None:
    for arguments, wanted in ((["--gpu", "potato"], "potato"), (["--set", "base.model=nowhere/at/all"], "base.model=nowhere/at/all")):
        code, said, answer = plan("pocket", *arguments)
        assert (code, answer["status"]) == (2, "failed") and wanted in said


CAPTIONED = ["--set", "method.instance_prompt=a photo of {token} style, {caption}"]


def test_the_model_that_writes_captions_is_a_step(tmp_path: Path) -> None:
    folder = tiny_llava_folder(tmp_path / "llava")
    (folder / "model.safetensors").unlink()
    command = ["pocket", *CAPTIONED, "--set", f"captions.model={folder}"]
    code, said, answer = plan(*command)
    assert code == 0 and "caption: activations are a plain estimate" in said, said
    steps = {step["name"]: step for step in answer["steps"]}
    assert next(iter(steps)) == "caption" and [name for name, step in steps.items() if step["estimated"]] == ["caption"]
    # One that is too large for the GPU is refused, and its own settings are what would help.
    edit(folder / "config.json", text_config={**json.loads((folder / "config.json").read_text())["text_config"], "num_hidden_layers": 4000})
    code, said, answer = plan(*command, "--gpu", "2GB")
    assert (code, answer["peak"]["step"]) == (2, "caption") and answer["change"]["settings"] == {"captions.batch_size": 2}
    for text in ("{", '{"model_type": "llava", "text_config": {"model_type": "llama", "hidden_size": "wide"}}'):
        (folder / "config.json").write_text(text)
        code, said, answer = plan(*command)
        assert (code, answer["status"]) == (2, "failed") and f"captions.model={folder}: " in said and "configuration" in said


@pytest.mark.slow
def test_a_published_base_is_planned_by_its_configuration_alone(tmp_path: Path) -> None:
    base, clip = write_base("sd15", tmp_path / "base"), tiny_clip_folder(tmp_path / "clip")
    (clip / "model.safetensors").unlink()
    local = ["--set", f"base.model={base}", "--set", "base.revision=null", "--set", f"scoring.extractor={clip}"]
    code, said, answer = plan("sd15", *STYLE, *local, "--set", "scoring.extractor_revision=null", "--gpu", "24GB")
    assert code == 0, said
    assert 16 * 0.98e9 < answer["peak"]["bytes"] < 24 * 2**30


def test_what_does_not_fit_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = MemoryPlan("toy", 64, {}, (StepMemory("train", 2**27),))
    monkeypatch.setattr("runs.memory.KeptPlans", lambda *folders: lambda settings: plan)
    config = load_config("pocket", ["style.source=s3://somewhere"])
    assert check_fits(config, None) is None
    verdict = check_fits(config, gpu_memory("8GB"))
    assert verdict is not None and verdict.fits and "fits 8GB" in verdict.sentence()
    monkeypatch.setenv("STYLEFORGE_GPU", "700MB")
    monkeypatch.setattr("runs.run.connect", set_source_root)
    monkeypatch.setattr("runs.run.stack_flavors", lambda: {LOCAL})
    monkeypatch.setattr("runs.run.plan_run", lambda config: {})
    with pytest.raises(InputError, match="does not fit") as caught:
        run_personalize(config)
    assert caught.value.exit_code == 2
    (tmp_path / "set").mkdir()
    Image.effect_noise((64, 64), 20).convert("RGB").save(tmp_path / "set" / "0.png")
    with pytest.raises(InputError, match="does not fit"):
        validate_style(Path("pocket"), ["style.source=" + str(tmp_path / "set"), "aux.source=none"])


def test_a_fault_of_the_plans_keeps_no_run_from_its_work(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(settings: Any) -> None:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr("runs.memory.KeptPlans", lambda *folders: fail)
    assert check_fits(load_config("pocket", ["style.source=s3://somewhere"]), gpu_memory("1MB")) is None
    assert "could not be planned" in caplog.text
