import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.core.model_card import read_card, sampling_settings
from components.core.paths import write_json
from components.diffusion.models.bundle import load_bundle
from components.diffusion.sampling.jobs import jobs_for
from components.diffusion.sampling.requests import prompt_requests
from components.diffusion.sampling.sampler import TOLERANCE, draw_pictures, sample_bank
from components.diffusion.training.fine_tuning import fine_tune
from components.registry.tracking import open_tracking
from components.registry.versions import register_model
from tests.components.diffusion.conftest import configure, write_folders
from tests.fixtures_models import tiny_sd_folder, tiny_sdxl_folder
from tests.hub_stand_in import HubStandIn, hub_stand_in

SECRET = "hf_" + "s" * 30
SCORE = {"value": 30.0, "low": 29.0, "high": 31.0, "n": 4}
SCORES: dict[str, Any] = {
    "style": {"kid": {"value": 0.01, "low": 0.005, "high": 0.02, "n": 4}, "fid": SCORE, "clip_t": SCORE, "clip_i": SCORE},
    "base": {"kid": {"value": 0.2, "low": 0.1, "high": 0.3, "n": 4}, "fid": SCORE, "clip_t": SCORE, "clip_i": SCORE},
    "drift": None, "context": {"reference": "held-out", "reference_n": 12, "confidence": 0.95, "extractor": "pocket"},
}  # fmt: skip
PROMPTS = ("a man", "a house", "a dog")


class World:
    """A base, a model of each kind trained on it, and the newest of them registered; all made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = tiny_sd_folder(root / "base")
        self.models = {name: self._train(name, self.base) for name in ("dreambooth", "lora", "textual-inversion")}
        self.xl_base = tiny_sdxl_folder(root / "xl")
        self.models["xl textual-inversion"] = self._train("textual-inversion", self.xl_base)
        self._register()

    def _train(self, name: str, base: Path) -> Path:
        folders = write_folders(self.root / f"{name} on {base.name}" / "run")
        training = {"steps": 2, "learning_rate": 0.02, "validation_prompts": ["a photo of {token} style, a man"]}
        sampling = {"repeats": 1, "scheduler": "ddim", "negative_prompt": "a dog"}
        config = configure(base, method={"name": name}, training=training, sampling=sampling)
        return fine_tune(config, *folders.inputs, folders.out, folders.checkpoints)

    def _register(self) -> None:
        model = self.models["dreambooth"]
        write_json(model / "evaluation" / "scores.json", SCORES)
        card = read_card(model)
        settings = sampling_settings(card, {"repeats": 1})
        sample_bank(model, prompt_requests(card, settings, PROMPTS), settings, 1, self.root / "bank")
        pictures = sorted((self.root / "bank" / "images").glob("*.png"))
        common: dict[str, Any] = {"experiment": "e", "model": model, "params": {}, "tags": {}, "scores": SCORES}
        for alias, logged in (("old", []), ("challenger", pictures)):
            register_model(open_tracking(), name="styled", alias=alias, pictures=logged, **common)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(root / "home"))
        yield World(root)


@pytest.fixture(autouse=True)
def here(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEFORGE_HOME", str(world.root / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def export(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON of the last line, and everything else that was said."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments), "--json"])
    *rest, last = result.stdout.splitlines()
    return result.exit_code, json.loads(last), "\n".join(rest) + result.stderr


def code_of(card: Path) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", card.read_text(encoding="utf-8"), re.M | re.S)
    return str(found)


def test_whose_images_a_model_learned_from_goes_with_it(world: World, here: Path) -> None:
    model = here / "model"
    shutil.copytree(world.models["dreambooth"], model)
    rights = [{"path": "a.png", "license": "CC-BY-SA-4.0", "author": "Ann", "consent": "her mail"}, {"path": "b.png"}]
    write_json(model / "styleforge.json", {**read_card(model), "rights": rights})
    code, answer, _ = export(model, "--format", "diffusers", "--out", "out")
    assert code == 0 and "ATTRIBUTION.txt" in answer["files"]
    text = (here / "out" / "ATTRIBUTION.txt").read_text()
    card = (here / "out" / "README.md").read_text()
    assert "- Ann: 1 image, CC-BY-SA-4.0" in text and text.strip() in card and "No licence is on record for b.png" in text
    # Who allowed what is between those two.
    assert "her mail" not in "".join(path.read_text() for path in (here / "out").glob("*.[jmt]*"))
    assert read_card(here / "out")["rights"][0] == {"path": "a.png", "license": "CC-BY-SA-4.0", "author": "Ann"}
    assert (
        not (export(world.models["dreambooth"], "--format", "diffusers", "--out", "none")[0])
        and not (here / "none" / "ATTRIBUTION.txt").exists()
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dreambooth", "diffusers"), ("dreambooth", "single-file"), ("lora", "a1111-lora"), ("textual-inversion", "a1111-embedding"),
        ("xl textual-inversion", "a1111-embedding"),
    ],
)  # fmt: skip
def test_the_cards_code_draws_what_the_model_draws(
    world: World, here: Path, monkeypatch: pytest.MonkeyPatch, name: str, wanted: str
) -> None:
    code, answer, _ = export(world.models[name], "--format", wanted, "--out", "out")
    assert (code, answer["status"], answer["pushed"]) == (0, "completed", None)
    bundle, card = load_bundle(world.models[name], device="cpu"), read_card(world.models[name])
    settings = sampling_settings(card)
    prompt = f"a photo of {card['identifier']} style, a man"
    (job,) = jobs_for(prompt_requests(card, settings, [prompt]), 1, seed=5)
    ((_, ours),) = draw_pictures(bundle, [job.request], settings, seed=5)
    # Where the base is no model on the hub, the card has its folder's name and whoever reads it must know where it is.
    if wanted.startswith("a1111"):
        base = world.xl_base if name.startswith("xl") else world.base
        (here / "out" / base.name).symlink_to(base)
    monkeypatch.chdir(here / "out")
    program = code_of(here / "out" / "README.md").replace("num_inference", "generator=torch.Generator().manual_seed(SEED), num_inference")
    assert prompt in program and "set_alpha_to_one=False" in program
    exec(program, {"torch": torch, "SEED": job.seed})
    theirs = np.asarray(Image.open("image.png"), dtype=int)
    assert np.abs(theirs - np.asarray(ours)).max() <= TOLERANCE
    assert theirs.std() > 1


def test_a_registered_version_brings_its_scored_pictures_and_scores(world: World, here: Path) -> None:
    code, answer, said = export("styled@challenger", "--format", "single-file", "--out", "out", "--license", "openrail")
    assert code == 0, said
    assert (answer["name"], answer["pictures"], answer["scored"]) == ("styled", 3, True)
    out = here / "out"
    assert answer["files"] == sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    data = ModelCard.load(out / "README.md").data
    assert data.license == "openrail" and data.get("instance_prompt") == "a photo of sks style"
    assert {row["text"] for row in data.get("widget")} == {f"a photo of sks style, {prompt}" for prompt in PROMPTS}
    assert all((out / row["output"]["url"]).is_file() for row in data.get("widget"))
    card = (out / "README.md").read_text(encoding="utf-8")
    for wanted in (
        "version 2 of styled", "| KID × 10³ ↓ | 10.0 (5.0 to 20.0) | 200 (100 to 300) | 4 |", "The model learned the style",
        "| StyleRef images | `5` |",
        read_card(world.models["dreambooth"])["manifest_digest"], "Some of the images that were scored",
    ):  # fmt: skip
        assert wanted in card, wanted
    assert Image.open(out / "images" / "grid.png").width > 3 * 192


def test_a_version_without_pictures_has_those_of_its_training(world: World, here: Path) -> None:
    code, answer, _ = export("styled/1", "--format", "diffusers", "--out", "out")
    assert (code, answer["pictures"]) == (0, 1)
    card = (here / "out" / "README.md").read_text(encoding="utf-8")
    assert "version 1 of styled" in card and "Drawn at the end of training." in card
    assert not (here / "out" / "training").exists()


def test_no_file_names_this_machine(world: World, here: Path) -> None:
    for wanted in ("diffusers", "single-file", "comfyui", "a1111-lora"):
        assert export(world.models["lora"], "--format", wanted, "--out", wanted)[0] == 0
        for file in (here / wanted).rglob("*"):
            assert not file.is_file() or str(world.root).encode() not in file.read_bytes(), file


def test_what_cannot_be_exported_is_refused_and_nothing_is_written_over(world: World, here: Path) -> None:
    (here / "out").mkdir()
    (here / "file").write_text("mine")
    assert export(world.base, "--format", "comfyui", "--out", "out")[0] == 0
    before = (here / "out" / "README.md").read_bytes()
    for arguments, reason in (
        (("--format", "comfyui", "--out", "out"), "already exists"),
        (("--format", "comfyui", "--out", "file"), ""),
        (("--format", "comfyui", "--out", "file/below"), ""),
        (("--format", "a1111-embedding", "--out", "new"), "expected --format diffusers or single-file or a1111-lora or comfyui"),
        (("--format", "diffusers", "--out", "new", "--license", "My own!"), "--license"),
        (("--format", "diffusers", "--out", "new", "--push", "nobody"), "--push"),
        (("--format", "diffusers", "--out", "new", "--push", "me/styled"), "no token in the environment variable HF_TOKEN"),
    ):
        code, answer, said = export(world.models["lora"], *arguments)
        assert (code, answer["status"], said.count("error:")) == (2, "failed", 1) and reason in said
    assert (here / "out" / "README.md").read_bytes() == before and (here / "file").read_text() == "mine"
    assert {path.name for path in here.iterdir()} == {"out", "file"}


@pytest.mark.parametrize("where", ["components.diffusion.export.portable.write_original", "runs.export.write_card"])
def test_nothing_is_left_of_an_export_that_fails(world: World, here: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, full)
    code, _, said = export("styled", "--format", "single-file", "--out", "out")
    assert code == 1 and "disk refused" in said
    assert list(here.iterdir()) == []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", stand_in.url)
        yield stand_in


def test_a_push_sends_the_whole_export_and_the_token_stays(
    world: World, here: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    code, answer, said = export("styled", "--format", "single-file", "--out", "out", "--push", "me/styled", "--verbose")
    assert code == 0, said
    assert answer["pushed"] == f"{hub.url}/me/styled" and hub.created["visibility"] == "private"
    assert hub.committed == {name: (here / "out" / name).read_bytes() for name in answer["files"]}
    assert SECRET not in said + json.dumps(answer)
    # The export stays where the hub refuses.
    hub.status, hub.answer = 401, f"no: {SECRET}"
    code, answer, said = export(world.base, "--format", "diffusers", "--out", "other", "--push", "me/x", "--verbose")
    assert code == 2 and "the hub refused" in said and SECRET not in said + json.dumps(answer)
    assert (here / "other" / "README.md").is_file()
    for file in [*here.rglob("*"), *(world.root / "home").rglob("*")]:
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
