import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.content import digest_file
from components.core.paths import write_json
from tests.fixtures_models import tiny_sd_folder


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    tiny_sd_folder(folder / "model")
    templates = {"style_template": "a photo of {token} style, {prompt}", "plain_template": "a photo of {prompt}"}
    card: dict[str, Any] = {
        "identifier": "sks",
        "sampling": {**templates, "steps": 2, "guidance": 3.0, "negative_prompt": "a photo of style"},
    }
    write_json(folder / "model" / "styleforge.json", card)
    return folder


@pytest.fixture(autouse=True)
def _inside(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine)
    monkeypatch.setenv("STYLEFORGE_HOME", str(machine / "home"))


def call(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def test_the_picture_is_that_of_sample_and_the_words_are_mapped(machine: Path) -> None:
    (drawn,) = call("sample", "model", "a man", "--out", "drawn", "--seed", "3")[0]["pictures"]
    answer, _ = call("explain", "model", "a man", "--out", "heat", "--seed", "3", "--token", "sks", "--token", "style")
    assert answer["full_prompt"] == drawn["full_prompt"] and answer["seed"] == drawn["seed"]
    assert digest_file(machine / answer["picture"]) == digest_file(machine / drawn["path"])
    assert [word["word"] for word in answer["words"]] == ["sks", "style"]
    assert all((machine / word["path"]).is_file() for word in answer["words"])
    with Image.open(machine / answer["sheet"]) as sheet:
        assert sheet.width > 3 * 256 and sheet.height > 256


def test_a_model_draws_as_it_was_scored_unless_told_otherwise(machine: Path) -> None:
    def drawn(*options: str) -> tuple[Any, ...]:
        (picture,) = call("sample", "model", "a man", "--out", "as-scored", *options)[0]["pictures"]
        with Image.open(machine / picture["path"]) as image:
            about = json.loads(image.info["styleforge"])
        return about["steps"], about["guidance"], about["negative_prompt"]

    assert drawn() == (2, 3.0, "a photo of style")
    assert drawn("--negative-prompt", "", "--steps", "1", "--guidance", "2") == (1, 2.0, "")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (
            ["model", "a man", "--token", "boat"],
            "--token 'boat': is not a word of the prompt 'a photo of sks style, a man'; expected one of",
        ),
        (["model", "a man", "--plain", "--token", "sks"], "--token 'sks': is not a word of the prompt 'a photo of a man'"),
        (["model", " "], "PROMPT: is empty"),
        (["model", "a man", "--scheduler", "eular"], "scheduler='eular'"),
        (["nowhere", "a man"], "nowhere: no such folder or registered model"),
    ],
)
def test_what_cannot_be_explained_is_said_and_nothing_is_written(machine: Path, arguments: list[str], wanted: str) -> None:
    answer, stderr = call("explain", *arguments, "--out", "refused", code=2)
    assert wanted in stderr and wanted in answer["error"]["message"]
    assert stderr.count("error:") == 1 and not (machine / "refused").exists()
