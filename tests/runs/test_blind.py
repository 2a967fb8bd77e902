"""``styleforge blind`` from its sources to the gate's tag; pairs, page and votes are tested beside what makes them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.paths import write_json, write_jsonl
from components.registry.tracking import open_tracking
from components.registry.votes import MODEL_DIGEST, votes_of
from steps.io.artifacts import Folder


def call(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, ["blind", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1]), result.stdout + result.stderr


def draw(folder: Path, blue: int, prompts: int = 3, repeats: int = 2) -> Path:
    """A folder as the sampler leaves it."""
    rows = []
    for number in range(prompts):
        for repeat in range(repeats):
            name = f"images/p{number}-r{repeat}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, repeat, blue)).save(folder / name)
            rows.append({"file_name": name, "prompt_id": f"p{number}", "category": "things", "prompt": f"thing {number}", "repeat": repeat})
    write_jsonl(folder / "metadata.jsonl", rows)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a", 100)
    draw(tmp_path / "b", 200)
    (tmp_path / "artist").mkdir()
    for number in range(4):
        Image.new("RGB", (48, 48), (200, number, 0)).save(tmp_path / "artist" / f"{number}.png")
    write_jsonl(tmp_path / "artist" / "metadata.jsonl", [{"file_name": "3.png", "text": "thing 2", "role": "thing"}])
    return tmp_path


def answer(folder: Path, out: str, person: str, choice: str = "left") -> str:
    key = json.loads((folder / out / "key.json").read_text())
    answers = [{"pair": row["pair"], "choice": choice} for row in key["pairs"]]
    write_json(folder / f"{person}.json", {"page": key["page"], "person": person, "answers": answers})
    return f"{person}.json"


def test_folders_against_the_artist_and_against_each_other(folder: Path) -> None:
    made, said = call("a", "--reference", "artist", "--out", "out", "--pairs", "5")
    assert (made["kind"], made["pairs"]) == ("artist", 3) and made["matched_by"]["caption"] == 1
    assert Path(made["page"]).is_file() and "3 pairs, not 5" in said
    scored, said = call("score", "out/key.json", answer(folder, "out", "ann"))
    assert scored["people"] == 1 and scored["logged"] is None and "taken for the artist's" in said and "one person" in said

    made, _ = call("a", "b", "--out", "ab", "--ask", "like", "--pairs", "4")
    assert (made["kind"], made["pairs"], made["matched_by"]) == ("like", 4, {"prompt": 4})
    scored, said = call("score", "ab/key.json", answer(folder, "ab", "ann"), answer(folder, "ab", "bob", "right"))
    assert scored["rate"]["value"] == 50 and "a: liked better than b: 50.0 %" in said and "2 people" in said
    made, _ = call("a", "b", "--out", "style", "--reference", "artist")
    assert made["kind"] == "style" and (folder / "style" / "blind.html").read_text().count('alt="the style') == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "a: has no held-out images"),
        (["a", "b"], "neither source has StyleRef images"),
        (["a", "b", "a"], "3 sources are given"),
        (["a", "--ask", "like"], "needs two sources"),
        (["a", "--reference", "nowhere"], "--reference nowhere: is not a folder of images"),
        (["artist"], "artist/metadata.jsonl: is not a list of drawn images"),
        (["empty", "--reference", "artist"], "holds neither metadata.jsonl nor result.json"),
        (["failed.json"], "is not from a completed run"),
        (["a", "--reference", "artist", "--out", "a"], "--out a: already exists"),
        (["score", "a/metadata.jsonl", "b/metadata.jsonl"], "a/metadata.jsonl: is not JSON"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(folder: Path, arguments: list[str], words: str) -> None:
    (folder / "empty").mkdir()
    (folder / "failed.json").write_text('{"status": "failed"}')
    if "--out" not in arguments and arguments[0] != "score":
        arguments = [*arguments, "--out", "out"]
    _, said = call(*arguments, code=2)
    assert words in said and said.count("error:") == 1 and not (folder / "out").exists()


def fake_run(folder: Path, monkeypatch: pytest.MonkeyPatch, *, held_out: bool = True) -> None:
    """A run ``r`` whose steps' folders are made by hand; ZenML knows no other."""
    pictures = folder / "steps" / "sample_bank"
    draw(pictures / "style", 100)
    shutil.copytree(folder / "artist", folder / "steps" / "scan" / "images" / "reference", ignore=shutil.ignore_patterns("*.jsonl"))
    common = {
        "sha256": "", "phash": None, "width": 48, "height": 48, "mode": "RGB", "format": "PNG", "spread": 1.0, "animated": False,
        "caption_by": None, "role": "thing", "problem": None,
    }  # fmt: skip
    rows = [{"path": f"reference/{number}.png", "caption": f"thing {number}", "split": "reference", **common} for number in range(3)]
    rows.append({"path": "reference/3.png", "caption": None, "split": "style_ref", **common})
    write_jsonl(folder / "steps" / "scan" / "manifest.jsonl", rows)
    write_json(folder / "steps" / "split" / "split.json", {"reference_is_style_ref": not held_out})
    write_json(folder / "steps" / "register" / "registration.json", {"name": "m", "version": "1"})
    run = SimpleNamespace(steps=dict.fromkeys(["scan", "split", "fine_tune", "sample_bank", "register"]))
    monkeypatch.setattr("orchestration.client.connect", lambda: None)
    monkeypatch.setattr("orchestration.client.find_run", lambda name: run if name == "r" else None)
    monkeypatch.setattr("orchestration.client.output_folder", lambda run, step: folder / "steps" / step)
    monkeypatch.setattr("orchestration.client.output", lambda run, step: Folder(folder / "steps" / step, f"digest of {step}"))


def test_a_run_is_held_against_its_held_out_images_and_its_model_gets_the_votes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path
) -> None:
    fake_run(folder, monkeypatch)
    made, _ = call("r", "--out", "out")
    key = json.loads((folder / "out" / "key.json").read_text())
    assert made["pairs"] == 3 and {row["artist"]["text"] == row["model"]["text"] for row in key["pairs"]} == {True}
    assert key["sources"]["model"] == {"name": "r", "model": "m/1", "model_digest": "digest of fine_tune"}
    assert (folder / "out" / "blind.html").read_text().count('alt="the style') == 1

    (folder / "home" / "mlflow").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(empty_registry, folder / "home" / "mlflow" / "mlflow.db")
    client = open_tracking().client
    client.create_registered_model("m")
    for digest in ("digest of fine_tune", "another"):
        client.create_model_version("m", "nowhere", tags={MODEL_DIGEST: digest})
    scored, said = call("score", "out/key.json", answer(folder, "out", "ann"), "--model", "m/1")
    assert scored["logged"] == "m/1" and "logged with m/1" in said
    assert votes_of(client.get_model_version("m", "1"))["taken_for_artist"]["n"] == 3
    _, said = call("score", "out/key.json", "ann.json", "--model", "m/2", code=2)
    assert "the page shows no image of m/2" in said


def test_images_that_the_run_learned_from_are_no_reference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(folder, monkeypatch)
    # The run's StyleRef is 3.png under another name; it is known by its content.
    (folder / "artist" / "3.png").rename(folder / "artist" / "other.png")
    (folder / "artist" / "metadata.jsonl").unlink()
    _, said = call("r", "--reference", "artist", "--out", "out", code=2)
    assert "--reference artist: contains images of the run's StyleRef (other.png is 3.png)" in said and said.count("error:") == 1
    assert not (folder / "out").exists()
    # Beside two models the folder only shows the style.
    made, _ = call("r", "a", "--reference", "artist", "--out", "ab")
    assert made["kind"] == "style"
    (folder / "artist" / "other.png").unlink()
    made, _ = call("r", "--reference", "artist", "--out", "out")
    assert made["pairs"] == 3


@pytest.mark.parametrize(
    ("held_out", "words"), [(False, "r: has no held-out images"), (True, "nobody: no such folder or registered model")]
)
def test_runs_that_cannot_be_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path, held_out: bool, words: str
) -> None:
    fake_run(folder, monkeypatch, held_out=held_out)
    (folder / "home" / "mlflow").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(empty_registry, folder / "home" / "mlflow" / "mlflow.db")
    _, said = call("nobody" if held_out else "r", "--out", "out", code=2)
    assert words in said
