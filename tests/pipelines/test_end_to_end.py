import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Machine:
    def __init__(self, folder: Path) -> None:
        from components.pocket.render import render_dataset

        self.folder = folder
        render_dataset("anime", folder / "anime", reference=8)
        tiny_sd_folder(folder / "base")
        tiny_clip_folder(folder / "clip")
        (folder / "bank.txt").write_text("a man wearing a hat\na house\na dog in a city\n", encoding="utf-8")
        config = {
            "style": {"name": "anime", "source": "anime"},
            "aux": {"count": 4},
            "base": {"model": "base"},
            "training": {"steps": 3, "batch_size": 2, "checkpoint_every": 2, "validate_every": 2},
            "sampling": {"bank": "bank.txt", "repeats": 2, "steps": 2, "batch_size": 4},
            "scoring": {"extractor": "clip", "bootstrap": 5, "kid_subsets": 3, "kid_subset_size": 4},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def call(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
        environment = kept | {
            "HOME": str(user),
            "STYLEFORGE_HOME": str(self.folder / "home"),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            # As a CI service sets what it has no value for.
            "ZENML_STORE_URL": "", "ZENML_STORE_API_KEY": "", "MLFLOW_TRACKING_URI": "",
        }  # fmt: skip
        command = [sys.executable, "-m", "cli.app", *arguments, "--json"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def first(machine: Machine) -> dict[str, Any]:
    return machine.call("run", "config.yaml")


def test_shards_change_no_picture_and_no_score(machine: Machine, first: dict[str, Any]) -> None:
    # Nothing to find in the cache of features: each share sees its own pictures, and the score sees none.
    features = machine.folder / "home" / "cache" / "features"
    features.rename(features.with_name("features.before"))
    result = machine.call("run", "config.yaml", "--shards", "3")
    assert result["status"] == "completed" and result["scores"] == first["scores"] and result["base_scores"] == first["base_scores"]
    # What comes after them knows pictures and scores by their content: it has seen these.
    assert {"explain", "report", "register"} <= set(result["cached"])
    anew = set(result["seconds"]) - set(result["cached"])
    assert {name.rstrip("_0123456789") for name in anew} == {"sample_shard", "join_pictures", "extract_shard", "score_joined"}
    assert len(anew) == 3 + 1 + 3 + 1
    again = machine.call("run", "config.yaml", "--shards", "3")
    assert set(again["seconds"]) == set(again["cached"])


def test_a_style_becomes_a_scored_and_registered_model(machine: Machine, first: dict[str, Any]) -> None:
    assert (first["status"], first["cached"], first["model"]["name"]) == ("completed", [], "styleforge-anime")
    assert first["scores"]["kid"]["n"] == 6 and set(first["base_scores"]) >= {"kid", "fid", "clip_t", "clip_i"}
    page = Path(first["report"]).read_text(encoding="utf-8")
    assert all(piece in page for piece in ("anime", "<img", '<section id="attention">', "attention to sks"))
    again = machine.call("run", "config.yaml")
    assert set(again["cached"]) == set(first["seconds"]) and again["scores"] == first["scores"]
    assert [path for path in (machine.folder / "user").rglob("*") if path.is_file()] == []


def test_the_model_is_listed_and_draws(machine: Machine, first: dict[str, Any]) -> None:
    (row,) = machine.call("models")["models"]
    assert (row["name"], row["aliases"], row["tags"]["method"]) == ("styleforge-anime", ["challenger"], "single-styleforge")
    drawn = machine.call("sample", "styleforge-anime@challenger", "a man", "sks style dog", "--out", "drawn")["pictures"]
    assert [picture["full_prompt"] for picture in drawn] == ["a photo of sks style, a man", "sks style dog"]
    assert all(Path(machine.folder, picture["path"]).is_file() for picture in drawn)


def test_bad_pictures_are_refused_by_name_before_anything_trains(machine: Machine, first: dict[str, Any]) -> None:
    bad = machine.folder / "anime" / "style_ref" / "words.png"
    bad.write_text("no picture")
    refused = machine.call("run", "config.yaml", code=3)
    bad.unlink()
    message = refused["error"]["message"]
    assert refused["status"] == "refused" and set(refused["seconds"]) == {"scan", "validate"}
    page = re.search(r"words\.png.*Fix or remove these files.*shown in (\S+validation\.html)", message, re.S)
    assert page and "words.png" in Path(page[1]).read_text(encoding="utf-8")
    assert not [path for part in ("work", "checkpoints", "pictures") for path in (machine.folder / "home" / part).iterdir()]


def test_a_registry_that_was_removed_is_filled_again(machine: Machine, first: dict[str, Any]) -> None:
    shutil.rmtree(machine.folder / "home" / "mlflow")
    again = machine.call("run", "config.yaml")
    assert set(first["seconds"]) - set(again["cached"]) == {"register"}
    (row,) = machine.call("models")["models"]
    assert row["version"] == again["model"]["version"]


def test_a_checkpoint_and_a_guidance_are_chosen(machine: Machine, first: dict[str, Any]) -> None:
    (machine.folder / "choice.txt").write_text("a woman\na boat\na cat on a wall\n", encoding="utf-8")
    arguments = ("run", "config.yaml", "--set", "selection.candidates=2", "--set", "selection.guidances=[2.0]", "--set",
                 "selection.clip_t_margin=1", "--set", "selection.bank=choice.txt")  # fmt: skip
    result = machine.call(*arguments)
    assert result["status"] == "completed" and "select" in result["seconds"]
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert '<section id="selection">' in page and '<section id="selection">' not in Path(first["report"]).read_text(encoding="utf-8")
    # What is registered is drawn with as it was scored: with the guidance of its pictures.
    (card,) = [
        json.loads(file.read_text())
        for file in (machine.folder / "home" / "mlflow").rglob("model/styleforge.json")
        if "selection" in file.read_text()
    ]
    assert card["sampling"]["guidance"] == card["selection"]["guidance"] and card["selection"]["step"] in (2, 3)
    assert set(machine.call(*arguments)["cached"]) == set(result["seconds"])
    # Another rule draws and trains nothing that is there.
    again = machine.call(*arguments, "--set", "selection.confidence=0.5")
    assert "fine_tune" in again["cached"] and "select" not in again["cached"]
