import importlib.metadata
import os
from pathlib import Path

import pytest
import yaml

from components.core.content import digest_folder
from components.core.paths import REPOSITORY, write_json
from components.registry.packaging import EXAMPLE, package
from tests.fixtures_models import tiny_sd_folder

TEMPLATE = "a painting of {token} style, {prompt}"
SAMPLING = {"steps": 3, "guidance": 4.0, "scheduler": "euler", "negative_prompt": "a hat", "style_template": TEMPLATE}
PICKLES = (".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".joblib")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")


def _plain(folder: Path) -> Path:
    tiny_sd_folder(folder)
    write_json(folder / "styleforge.json", {"schema": 1, "identifier": "sks", "sampling": SAMPLING})
    (folder / "training").mkdir()
    (folder / "training" / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = _plain(tmp_path_factory.mktemp("packaged") / "model")
    package(folder)
    return folder


def test_it_says_what_goes_in_and_comes_out(model: Path) -> None:
    from mlflow.models import Model

    about = Model.load(str(model))
    assert about.get_input_schema().input_names() == ["prompt"]
    assert about.get_output_schema().input_names() == ["prompt", "full_prompt", "seed", "width", "height", "image"]
    assert {spec.name: spec.default for spec in about.get_params_schema()} == {"seed": 0, "steps": 3, "guidance": 4.0, "count": 1}
    assert about.load_input_example(str(model))["prompt"].tolist() == [EXAMPLE]
    flavor = about.flavors["python_function"]
    assert flavor["loader_module"] == "components.diffusion.sampling.serving" and "python_model" not in flavor


def test_the_packages_are_pinned_as_installed(model: Path) -> None:
    pinned = dict(line.split("==") for line in (model / "requirements.txt").read_text().split())
    assert {"torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "mlflow", "numpy", "pillow"} <= set(pinned)
    assert all(importlib.metadata.version(name).partition("+")[0] == version for name, version in pinned.items())
    conda = yaml.safe_load((model / "conda.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == (model / "requirements.txt").read_text().split()
    assert "-r requirements.txt" in yaml.safe_load((model / "python_env.yaml").read_text())["dependencies"]


def test_it_holds_code_and_no_pickle_or_second_copy_of_weights(model: Path) -> None:
    files = [file for file in model.rglob("*") if file.is_file()]
    assert [file for file in files if file.suffix in PICKLES] == []
    assert {file.suffix for file in (model / "code").rglob("*") if file.is_file()} == {".py"}
    assert str(REPOSITORY) not in "".join(file.read_text() for file in files if file.suffix in ("", ".yaml", ".txt", ".json"))


def test_the_bytes_are_the_same_each_time(model: Path, tmp_path: Path) -> None:
    again = _plain(tmp_path / "again")
    untouched = digest_folder(again)
    package(again)
    assert digest_folder(again) == digest_folder(model)
    (again / "code" / "left-over.py").write_text("")
    (again / "MLmodel").write_text("old")
    package(again)
    assert digest_folder(again) == digest_folder(model)
    assert digest_folder(_plain(tmp_path / "plain")) == untouched


def test_what_the_folder_holds_is_left_as_it_is_and_links_are_replaced(tmp_path: Path) -> None:
    folder, shared = _plain(tmp_path / "model"), tmp_path / "shared"
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    shared.write_text("kept")
    os.link(shared, folder / "requirements.txt")
    package(folder)
    assert {file: file.read_bytes() for file in before} == before
    assert shared.read_text() == "kept" and "torch==" in (folder / "requirements.txt").read_text()


def test_diffusers_still_loads_it(model: Path) -> None:
    from diffusers import StableDiffusionPipeline

    assert StableDiffusionPipeline.from_pretrained(model, local_files_only=True).unet.config.sample_size == 16


def test_another_card_is_another_model(model: Path, tmp_path: Path) -> None:
    other = _plain(tmp_path / "other")
    write_json(other / "styleforge.json", {"schema": 1, "identifier": "ukj"})
    package(other)
    first, second = (yaml.safe_load((folder / "MLmodel").read_text()) for folder in (model, other))
    assert first["model_uuid"] != second["model_uuid"]
    assert '"name": "steps", "default": 30' in second["signature"]["params"]
