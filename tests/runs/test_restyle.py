import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.config import CaptionsSection, ScoringSection
from components.core.content import digest_folder
from components.core.paths import read_json, read_jsonl, write_json, write_jsonl
from components.diffusion.sampling import restyle, sampler
from components.evaluation import gram_transfer
from components.registry.tracking import open_tracking
from components.registry.versions import register_model
from runs import restyle_input
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder


def paint(file: Path, seed: int, size: tuple[int, int] = (40, 40)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(file)
    return file


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    tiny_sd_folder(folder / "model")
    tiny_clip_folder(folder / "clip")
    templates = {"style_template": "a photo of {token} style, {prompt}", "plain_template": "a photo of {prompt}"}
    card: dict[str, Any] = {"identifier": "sks", "style": "anime", "sampling": {**templates, "steps": 4, "guidance": 3.0}}
    write_json(folder / "model" / "styleforge.json", card)
    scoring = ScoringSection(extractor=str(folder / "clip"), style_extractor="colours", bootstrap=20)
    write_json(folder / "model" / "evaluation" / "protocol.json", {"scoring": scoring.model_dump(mode="json"), "extractors": []})
    for index in range(3):
        paint(folder / "style" / "style_ref" / f"{index}.png", 50 + index)
    for index in range(4):
        paint(folder / "mine" / f"{index}.png", index)
    # Of another shape, and so drawn at another size.
    paint(folder / "mine" / "wide.jpg", 9, (90, 45))
    write_jsonl(folder / "mine" / "metadata.jsonl", [{"file_name": f"{index}.png", "text": f"a man {index}"} for index in range(4)])
    return folder


@pytest.fixture(autouse=True)
def _inside(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine)
    monkeypatch.setenv("STYLEFORGE_HOME", str(machine / "home"))
    monkeypatch.setattr(gram_transfer, "GramSettings", partial(gram_transfer.GramSettings, steps=3))


def call(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, ["restyle", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def test_pictures_scores_and_page(machine: Path) -> None:
    answer, _ = call("model", "mine", "--out", "out", "--style-set", "style", "--keep-structure", "--seed", "3")
    out, rows = machine / "out", answer["pictures"]
    assert [row["file_name"] for row in rows] == [*(f"images/{index}.png" for index in range(4)), "images/wide.png"]
    assert [row["full_prompt"] for row in rows] == [*(f"a photo of sks style, a man {index}" for index in range(4)), "a photo of sks style"]
    for row in rows:
        sizes = {Image.open(out / file).size for file in row["files"].values()}
        assert set(row["files"]) == {"source", "adain", "gram", "restyled"} and len(sizes) == 1
        assert (sizes == {(32, 32)}) == (row["file_name"] != "images/wide.png")
    assert len({(out / file).read_bytes() for row in rows for file in row["files"].values()}) == 20
    assert set(answer["methods"]) == {"source", "adain", "gram", "restyled"}
    assert all(set(scores) == {"style_score", "likeness", "layout"} for scores in answer["methods"].values())
    assert answer["methods"]["restyled"]["style_score"]["n"] == 5 == answer["n"]
    assert (answer["strength"], answer["keep_structure"], answer["steps"], answer["style"]) == (0.6, True, 4, "anime")
    assert any("without a caption" in note for note in answer["notes"])
    assert read_jsonl(out / "metadata.jsonl") == rows and read_json(out / "restyle.json")["pictures"] == rows
    assert Path(answer["page"]).read_text().count("<img") == 20


def test_what_is_there_is_kept_and_what_is_missing_is_made(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> str:
        return digest_folder(machine / "again")

    arguments = ("model", "mine", "--out", "again", "--style-set", "style")
    call(*arguments)
    before = files()
    (machine / "again" / "images" / "2.png").unlink()
    (machine / "again" / "gram" / "1.png").write_bytes(b"half")
    made: list[str] = []
    write_png = sampler.write_png

    def write(file: Path, *rest: Any) -> None:
        made.append(f"{file.parent.name}/{file.name}")
        write_png(file, *rest)

    for place in (sampler, restyle):
        monkeypatch.setattr(place, "write_png", write)
    call(*arguments)
    assert sorted(made) == ["gram/1.png", "images/2.png"] and files() == before
    made.clear()
    call(*arguments, "--strength", "0.3")
    assert sorted(made) == [*(f"images/{index}.png" for index in range(4)), "images/wide.png"]


def test_a_caption_is_given_and_the_baselines_are_left_out(machine: Path) -> None:
    answer, _ = call("model", "mine/0.png", "--out", "plain", "--caption", " a  dog", "--no-baselines", "--strength", "0")
    (row,) = answer["pictures"]
    assert row["full_prompt"] == "a photo of sks style, a dog" and set(row["files"]) == {"source", "restyled"}
    assert answer["methods"]["restyled"]["style_score"] is None and answer["notes"]
    assert not (machine / "plain" / "gram").exists()


def test_a_registered_model_knows_where_its_style_is(machine: Path, empty_registry: Path) -> None:
    (machine / "home" / "mlflow").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(empty_registry, machine / "home" / "mlflow" / "mlflow.db")
    params = {"style.source": str(machine / "style")}
    register_model(
        open_tracking(),
        name="anime",
        alias="challenger",
        experiment="styleforge",
        model=machine / "model",
        params=params,
        tags={},
        scores={},
    )
    answer, _ = call("anime@challenger", "mine/1.png", "--out", "registered")
    assert answer["model"] == "anime@challenger" and set(answer["methods"]) == {"source", "adain", "gram", "restyled"}


def test_a_captioner_writes_what_is_missing(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.captioning.describe import Picture

    described: list[str] = []

    def describe(pictures: list[Picture], settings: Any) -> Any:
        described.extend(Path(picture.path).name for picture in pictures)
        yield {picture.path: "a house" for picture in pictures}

    monkeypatch.setattr(restyle_input, "check_captioner", lambda *_: None)
    monkeypatch.setattr(restyle_input, "describe", describe)
    found = restyle_input.find_captions([Path("mine/0.png"), Path("mine/wide.jpg")], None, CaptionsSection(model="blip"))
    assert found == ["a man 0", "a house"] and described == ["wide.jpg"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["model", "broken", "missing.png", "mine/0.png"], ["2 problems", "broken/a.png: not an image", "missing.png: cannot be read"]),
        (["model", "empty"], ["empty: holds no images", "a folder of images"]),
        (["model", "mine/0.png", "--strength", "1.5"], ["--strength 1.5", "from 0", "to 1"]),
        (["model", "mine/0.png", "--strength", "nan"], ["--strength nan", "out of range"]),
        (["model", "mine/0.png", "twice/0.jpg"], ["twice/0.jpg", "mine/0.png", "a different name for each"]),
        (["model", "mine/0.png", "mine"], ["mine/0.png", "a different name for each"]),
        (["model", "mine/0.png"], ["model: does not say where the images of its style are", "--style-set"]),
        (["model", "mine/0.png", "--style-set", "nowhere"], ["nowhere", "no such folder"]),
        (["nowhere", "mine/0.png"], ["nowhere: no such folder or registered model"]),
        (["model", "mine/0.png", "--scheduler", "eular"], ["scheduler='eular'"]),
        (["model", "captioned/0.png"], ["metadata.jsonl, line 1", "not JSON"]),
        (["model", "mine/wide.jpg", "--captioner", "nowhere"], ["captions.model=nowhere"]),
    ],
)  # fmt: skip
def test_what_cannot_be_restyled_is_said_at_once_and_nothing_is_written(machine: Path, arguments: list[str], parts: list[str]) -> None:
    (machine / "broken").mkdir(exist_ok=True)
    (machine / "broken" / "a.png").write_text("words")
    (machine / "empty").mkdir(exist_ok=True)
    paint(machine / "twice" / "0.jpg", 1)
    paint(machine / "captioned" / "0.png", 1)
    (machine / "captioned" / "metadata.jsonl").write_text("{")
    answer, stderr = call(*arguments, "--out", "refused", code=2)
    assert stderr.count("error:") == 1 and all(part in answer["error"]["message"] for part in parts), answer
    assert not (machine / "refused").exists()
