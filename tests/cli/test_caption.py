"""``styleforge caption`` with a tiny model from a folder: what it writes, what it leaves alone, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from components.captioning.model import VisionLanguageModel
from components.captioning.wording import caption_of
from components.core.config.sections import STYLE_WORDS
from components.core.paths import REPOSITORY
from tests.components.styledata.helpers import picture
from tests.fixtures_captioners import tiny_blip_folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip_folder(tmp_path_factory.mktemp("captioner") / "blip")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blip: Path) -> Path:
    """Four pictures, one with a person's caption, one that is none; and a pool elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    for place, count in (("style/style_ref", 3), ("style/reference", 1), ("pool", 2)):
        (tmp_path / place).mkdir(parents=True)
        for index in range(count):
            picture(10 * count + index).save(tmp_path / place / f"{index}.png")
    (tmp_path / "style/style_ref/bad.png").write_text("no picture")
    (tmp_path / "style/metadata.jsonl").write_text('{"file_name": "style_ref/0.png", "text": "by hand", "mine": 1}\n')
    (tmp_path / "config.yaml").write_text(
        f"style: {{name: test, source: style}}\ncaptions: {{model: {blip}, max_tokens: 5, batch_size: 1}}\naux: {{pool: pool}}\n"
    )
    return tmp_path


def call(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    result = CliRunner().invoke(app, ["caption", "config.yaml", *arguments, "--json"])
    return result.exit_code, result.stdout + result.stderr, json.loads(result.stdout.splitlines()[-1])


def metadata(file: Path) -> dict[str, dict[str, Any]]:
    return {row["file_name"]: row for row in map(json.loads, file.read_text().splitlines())}


def test_captions_where_there_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, result = call("--dry-run")
    assert code == 0 and result["counts"] == {"kept": 1, "to write": 2, "unusable": 1} and result["files"] == [] and "by hand" in said
    assert len(metadata(folder / "style/metadata.jsonl")) == 1
    code, said, result = call()
    assert code == 0 and result["counts"] == {"kept": 1, "unusable": 1, "written": 2}
    rows = metadata(folder / "style/metadata.jsonl")
    assert rows.pop("style_ref/0.png") == {"file_name": "style_ref/0.png", "text": "by hand", "mine": 1}
    assert set(rows) == {"style_ref/1.png", "style_ref/2.png"} and result["model"].startswith("blip@sha256:")
    for row in rows.values():
        assert row["text"] == row["generated_text"] and row["text"] in said and row["generated_by"] == result["model"]

    # Again: nothing is loaded. What somebody edits is theirs; what the model wrote can be written anew, also by another request.
    rows["style_ref/1.png"]["text"] = "a better one"
    lines = [{"file_name": "style_ref/0.png", "text": "by hand", "mine": 1}, *rows.values()]
    (folder / "style/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    with monkeypatch.context() as patched:
        patched.setattr(VisionLanguageModel, "__init__", lambda *_: pytest.fail("the model was loaded"))
        assert call()[2]["counts"] == {"kept": 3, "unusable": 1}
    request = ("--overwrite-generated", "--set", "captions.prompt=a red")
    assert call(*request, "--dry-run")[2]["counts"] == {"kept": 2, "to write": 1, "unusable": 1}
    assert call(*request)[2]["counts"] == {"kept": 2, "unusable": 1, "written": 1}
    after = metadata(folder / "style/metadata.jsonl")
    assert [after[f"style_ref/{index}.png"]["text"] for index in (0, 1)] == ["by hand", "a better one"]
    assert not (folder / "pool/metadata.jsonl").exists()


def test_the_pool_where_its_captions_are_read(folder: Path) -> None:
    code, _, result = call("--set", "method.aux_prompt=a photo of style, {caption}", "--set", "aux.source=curated")
    assert code == 0 and result["counts"]["written"] == 4
    assert result["files"] == ["pool/metadata.jsonl", "style/metadata.jsonl"]
    assert set(metadata(folder / "pool/metadata.jsonl")) == {"0.png", "1.png"}


def test_an_interruption_keeps_what_was_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = VisionLanguageModel.describe

    def stops(self: VisionLanguageModel, pictures: list[Any]) -> list[str]:
        if len(metadata(folder / "style/metadata.jsonl")) > 1:
            raise KeyboardInterrupt
        return describe(self, pictures)

    monkeypatch.setattr(VisionLanguageModel, "describe", stops)
    code, said, _ = call()
    assert code == 130 and "resumes where it stopped" in said and len(metadata(folder / "style/metadata.jsonl")) == 2
    monkeypatch.undo()
    monkeypatch.setenv("STYLEFORGE_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    assert call()[2]["counts"] == {"kept": 2, "unusable": 1, "written": 1}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["captions.model=null"], ["captions.model: is not set", "Set it in the configuration", "captions.md"]),
        (["captions.model=./gone"], ["captions.model=./gone: no such file or folder"]),
        (["captions.model=pocket"], ["captions.model=pocket: a clip: not a model that turns images into text"]),
        (["captions.model=owner/vlm"], ["captions.revision: missing for the hub model owner/vlm"]),
        (["style.source=s3://bucket/style"], ["is a URL, where captions cannot be written", "styleforge run"]),
        (["style.source=nowhere"], ["nowhere: no such folder"]),
        (["captions.modle=x"], ["did you mean captions.model?"]),
    ],
)
def test_refusals(folder: Path, changes: list[str], parts: list[str]) -> None:
    before = (folder / "style/metadata.jsonl").read_bytes()
    code, said, result = call(*(word for change in changes for word in ("--set", change)))
    assert code == 2 and result["status"] == "failed" and said.count("error:") == 1
    assert all(part in said for part in parts), said
    assert (folder / "style/metadata.jsonl").read_bytes() == before


def test_a_dry_run_needs_no_model(folder: Path) -> None:
    code, _, result = call("--dry-run", "--set", "captions.model=null")
    assert code == 0 and result["model"] is None and result["counts"]["to write"] == 2


PAGE = (REPOSITORY / "docs" / "how-to" / "captions.md").read_text(encoding="utf-8")


def test_the_page_can_be_followed(folder: Path, blip: Path) -> None:
    (folder / "data").mkdir()
    (folder / "models").mkdir()
    (folder / "models" / "captioner").symlink_to(blip)
    (folder / "pool").rename(folder / "style" / "aux_pool")
    (folder / "style").rename(folder / "data" / "my-style")
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    (folder / "my-style.yaml").write_text(configuration)
    commands = re.findall(r"^styleforge (.+)$", PAGE, re.M)
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output
    by_file = metadata(folder / "data/my-style/metadata.jsonl")
    assert {row.get("generated_by", "person").partition("@")[0] for row in by_file.values()} == {"person", "blip"} and len(by_file) == 5


def test_the_examples_of_the_page_are_true() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.partition("| answer | caption |\n| --- | --- |\n")[2].partition("\n\n")[0], re.M)
    assert len(rows) == 4 and {caption_of(answer, STYLE_WORDS): caption for answer, caption in rows} == {row[1]: row[1] for row in rows}
