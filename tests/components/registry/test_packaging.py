import base64
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from components.core.content import digest_folder
from components.core.paths import REPOSITORY, write_json
from components.registry.packaging import EXAMPLE, package
from components.registry.tracking import open_tracking
from components.registry.versions import register_model
from runs.drawing import draw
from tests.fixtures_models import tiny_sd_folder
from tests.servers import background, free_port, wait_for

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


# The folder


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


# Loading it elsewhere

_ELSEWHERE = """
import sys
sys.path = [place for place in sys.path if place != sys.argv[2]]
try:
    import components
except ModuleNotFoundError:
    pass
else:
    sys.exit(f"this process has {components.__file__}")
import mlflow.pyfunc
rows = mlflow.pyfunc.load_model(sys.argv[1]).predict({"prompt": "a man"}, params={"seed": 5})
import components.diffusion.sampling.sampler
print(components.diffusion.sampling.sampler.__file__)
print(rows[0]["image"])
"""


@pytest.mark.slow
def test_it_loads_where_the_project_is_not_installed(model: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(model), str(REPOSITORY)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    source, image = done.stdout.split()[-2:]
    assert Path(source).is_relative_to(model / "code")
    (drawn,) = draw(str(model), ["a man"], tmp_path / "drawn", seed=5)
    assert base64.b64decode(image) == Path(drawn["path"]).read_bytes()


# Over HTTP


@pytest.fixture(scope="module")
def served(model: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The registered champion behind MLflow's scoring server; gives its address."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    uri = f"sqlite:///{home}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(home))
        register_model(
            open_tracking(uri), name="tiny", alias="champion", experiment="styleforge", model=model, params={}, tags={}, scores={}
        )
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local"]
    environment = {
        "MLFLOW_TRACKING_URI": uri, "STYLEFORGE_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true",
        # MLflow starts a program by its name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with background([*command, "--port", str(port)], folder, environment) as (process, log):
        wait_for(lambda: urllib.request.urlopen(f"{address}/ping", timeout=5).close(), process, "the scoring server", log)
        yield address


def post(address: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_pictures_over_http_are_those_of_sample(served: str, model: Path, tmp_path: Path) -> None:
    drawn = draw(str(model), ["a man", "a dog of sks style"], tmp_path / "drawn", repeats=2, seed=11, changes={"steps": 2, "guidance": 2.5})
    params = {"seed": 11, "count": 2, "steps": 2, "guidance": 2.5}
    rows = [{"prompt": "a man"}, {"prompt": "a dog of sks style"}]
    status, answer = post(served, {"dataframe_records": rows, "params": params})
    assert status == 200
    got = {(row["prompt"], row["full_prompt"], row["seed"]): base64.b64decode(row["image"]) for row in answer["predictions"]}
    want = {(row["prompt"], row["full_prompt"], row["seed"]): Path(row["path"]).read_bytes() for row in drawn}
    assert len(got) == 4 and got == want
    assert {key[1] for key in got} == {"a painting of sks style, a man", "a dog of sks style"}
    with Image.open(io.BytesIO(next(iter(got.values())))) as first:
        assert (first.format, first.size) == ("PNG", (32, 32)) and np.asarray(first).std() > 1
    assert {(row["width"], row["height"]) for row in answer["predictions"]} == {(32, 32)}


@pytest.mark.slow
def test_a_prompt_alone_and_the_example_are_enough(served: str, model: Path, tmp_path: Path) -> None:
    (drawn,) = draw(str(model), ["a man"], tmp_path / "drawn")
    status, answer = post(served, {"prompt": "a man"})
    assert status == 200 and base64.b64decode(answer[0]["image"]) == Path(drawn["path"]).read_bytes()
    status, answer = post(served, (model / "serving_input_example.json").read_bytes())
    assert status == 200 and [row["prompt"] for row in answer["predictions"]] == [EXAMPLE]
    # Each bound has its test beside the server's code; these are what MLflow makes of a request.
    for body, message in (
        ({"prompt": 3}, "column prompt"),
        ({"prompt": ["a man", "a dog"]}, "is no text; expected text. Several prompts are several rows"),
        ({"text": "a man"}, "must be a JSON dictionary with exactly one of the input fields"),
        ({"prompt": "a man", "seed": "x"}, "'seed'"),
        ({"inputs": ["a man"] * 5, "params": {"count": 16}}, "prompts × count=80: out of bounds; expected 1 to 64"),
    ):
        status, answer = post(served, body)
        assert status == 400 and message in answer["message"] and "stack_trace" not in answer
