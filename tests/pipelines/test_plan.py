"""Which setting matters to which step, without running anything."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from components.config import RunConfig, parse_config
from components.errors import InputError, ServiceUnreachable
from pipelines.plan import base_resolution, plan_run

END = {"score", "report", "register"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16, 32]}}.items():
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text(json.dumps(config))
    for name in ("pictures", "extractor", "pool", "reference"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(name.encode())
    (tmp_path / "bank.txt").write_text("a man\na house\n", encoding="utf-8")
    return {
        "style": {"name": "test", "source": str(tmp_path / "pictures")},
        "base": {"model": str(tmp_path / "base")},
        "sampling": {"bank": str(tmp_path / "bank.txt")},
        "scoring": {"extractor": str(tmp_path / "extractor")},
    }


def _config(settings: dict[str, Any], *overrides: str) -> RunConfig:
    return parse_config(settings, overrides=overrides)


def _changed(settings: dict[str, Any], *overrides: str) -> set[str]:
    before, after = plan_run(_config(settings)), plan_run(_config(settings, *overrides))
    return {step for step in before if before[step] != after[step]}


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("scoring.bootstrap=9", END),
        ("registry.alias=other", {"register"}),
        ("registry.model=other", {"register"}),
        ("style.name=other", {"report", "register"}),
        ("sampling.guidance=2.0", {"sample_bank", "sample_base", "report", "register"}),
        ("sampling.style_template='{token} {prompt}'", {"sample_bank", "report", "register"}),
        ("training.learning_rate=0.1", {"fine_tune", "report", "register"}),
        ("method.prior_weight=2.0", {"fine_tune", "report", "register"}),
        ("aux.count=3", {"build_aux", "report", "register"}),
        ("aux.generated_count=3", {"report", "register"}),
        ("style.max_pixels=99", {"scan", "report", "register"}),
        ("seed=1", {"fine_tune", "sample_bank", "sample_base", *END}),
    ],
)
def test_a_setting_reaches_only_the_steps_that_depend_on_it(settings: dict[str, Any], override: str, steps: set[str]) -> None:
    assert _changed(settings, override) == steps


def test_aux_that_is_not_generated_does_not_depend_on_the_base(settings: dict[str, Any]) -> None:
    assert "base" not in plan_run(_config(settings))["build_aux"]
    assert "base" in plan_run(_config(settings, "aux.source=generated"))["build_aux"]


def test_changed_files_change_the_steps_that_read_them(settings: dict[str, Any], tmp_path: Path) -> None:
    before = plan_run(_config(settings))
    (tmp_path / "pictures" / "a.png").write_bytes(b"other")
    assert plan_run(_config(settings))["scan"] != before["scan"]
    (tmp_path / "base" / "unet" / "weights.safetensors").write_bytes(b"new")
    after = plan_run(_config(settings))
    assert after["fine_tune"] != before["fine_tune"]
    assert after["sample_base"] != before["sample_base"]
    assert after["score"] == before["score"]


def test_a_url_is_scanned_anew_each_time(settings: dict[str, Any]) -> None:
    settings["style"]["source"] = "memory://pictures"
    assert plan_run(_config(settings))["scan"] != plan_run(_config(settings))["scan"]


def test_resolution_is_read_from_the_files(settings: dict[str, Any]) -> None:
    assert base_resolution(settings["base"]["model"], None) == 64


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("style.source=nowhere", "style.source=nowhere: no such folder"),
        ("style.reference=nowhere", "style.reference=nowhere: no such folder"),
        ("aux.pool=nowhere", "aux.pool=nowhere: no such folder"),
        ("base.model=./nowhere", "base.model=./nowhere: no such file or folder"),
        ("base.model=some/model", "base.model=some/model: a hub model without a revision"),
        ("scoring.extractor=./nowhere", "scoring.extractor=./nowhere"),
        ("scoring.inception_weights=nowhere.pth", "scoring.inception_weights=nowhere.pth: no such file"),
        ("sampling.bank=nowhere.txt", "nowhere.txt: no such prompt bank"),
    ],
)
def test_what_is_not_there_is_named(settings: dict[str, Any], override: str, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_run(_config(settings, override))
    assert wanted in str(caught.value)


def test_a_file_as_style_source(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a file"):
        plan_run(_config(settings, f"style.source={tmp_path / 'bank.txt'}"))


def test_a_base_without_a_vae(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "base" / "vae" / "config.json").unlink()
    with pytest.raises(InputError, match="has no vae"):
        plan_run(_config(settings))


def test_a_bank_with_duplicate_ids(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bank.tsv").write_text("id\tprompt\na\ta man\na\ta house\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"bank\.tsv"):
        plan_run(_config(settings, f"sampling.bank={tmp_path / 'bank.tsv'}"))


def test_unreachable_mlflow_is_known_before_anything_runs(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:pa55word@127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ServiceUnreachable) as caught:
        plan_run(_config(settings))
    assert time.monotonic() - started < 10
    assert "pa55word" not in str(caught.value)


def test_no_secret_becomes_a_parameter(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.plan.check_reachable", lambda uri: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:pa55word@tracking:5000")
    plan = plan_run(_config(settings))
    assert "pa55word" not in json.dumps(plan)
    assert plan["register"]["tracking"] == "http://tracking:5000"
