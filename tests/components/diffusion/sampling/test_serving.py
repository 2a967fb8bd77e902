import base64
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from components.core.config import SamplingSection
from components.core.errors import InputError
from components.core.paths import write_json
from components.diffusion.models.layouts import Drawing
from components.diffusion.sampling import serving
from components.diffusion.sampling.limits import Limits, check_request
from components.diffusion.sampling.serving import StyleModel
from components.registry.packaging import package
from runs.drawing import draw
from tests.components.diffusion.conftest import Trained, edit
from tests.fixtures_models import tiny_sd_folder

OWN = Drawing("dpm++", 3, 4.0)
SAMPLING = {"steps": 3, "guidance": 4.0, "style_template": "a photo of {token} style, {prompt}"}
CONCEPTS = [{"token": "sks", "prompt": "", "categories": ["people"]}, {"token": "ukj", "prompt": "", "categories": None}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_folder(tmp_path_factory.mktemp("served") / "model")
    write_json(folder / "styleforge.json", {"schema": 1, "identifier": "sks", "concepts": CONCEPTS, "sampling": SAMPLING})
    return folder


def ask(model: Any, *prompts: Any, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = model.predict(pd.DataFrame({"prompt": list(prompts)}), params)
    return rows


def status(error: pytest.ExceptionInfo[MlflowException]) -> int:
    return int(error.value.get_http_status_code())


def test_loaded_by_mlflow_it_draws_as_sample_does(model: Path, tmp_path: Path) -> None:
    import mlflow.pyfunc

    package(model)
    loaded = mlflow.pyfunc.load_model(str(model))
    drawn = draw(str(model), ["a man", "a dog"], tmp_path / "drawn", repeats=3, seed=7)
    rows = ask(loaded, "a man", "a dog", seed=7, count=3)
    assert [row["prompt"] for row in rows] == ["a man"] * 3 + ["a dog"] * 3
    assert {row["full_prompt"] for row in rows if row["prompt"] == "a man"} == {"a photo of sks style, ukj style, a man"}
    got = {row["seed"]: base64.b64decode(row["image"]) for row in rows}
    assert got == {row["seed"]: Path(row["path"]).read_bytes() for row in drawn}


def test_answers_follow_the_models_settings_and_the_requests(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, sample = Mock(wraps=serving.load_bundle), Mock(wraps=serving.sample_bank)
    monkeypatch.setattr(serving, "load_bundle", load)
    monkeypatch.setattr(serving, "sample_bank", sample)
    monkeypatch.setenv("STYLEFORGE_SERVE_MAX_BATCH", "1")
    loaded = StyleModel(model)
    plain = ask(loaded, "a man")
    assert plain == ask(loaded, "a man", seed=0, steps=3, guidance=4.0, count=1) == ask(loaded, "a man", steps=None)
    for option in ({"guidance": 5.0}, {"seed": 1}):
        assert plain[0]["image"] != ask(loaded, "a man", **option)[0]["image"]
    # A prompt that comes twice gets two answers.
    assert ask(loaded, "a man", "a dog", "a man") == [*plain, *ask(loaded, "a dog"), *plain]
    assert load.call_count == 1 and {call.args[2].batch_size for call in sample.call_args_list} == {1}
    # "a photo of sks style, ukj style, " is 11 tokens here, start and end are two more, and 32 fit.
    assert len(ask(loaded, "man " * 19)) == 1
    with pytest.raises(MlflowException, match=r"has 33 tokens as .*; expected at most 32, start and end included") as error:
        ask(loaded, "man " * 20)
    assert status(error) == 400


def test_requests_at_the_same_time_get_the_pictures_of_requests_one_by_one(model: Path) -> None:
    loaded = StyleModel(model)
    prompts = [f"a man {number}" for number in range(6)]
    alone = [ask(loaded, prompt) for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda prompt: ask(loaded, prompt), prompts)) == alone


def test_a_request_whose_time_has_passed_is_not_drawn(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = StyleModel(model)
    started, go_on = threading.Event(), threading.Event()
    sample_bank = serving.sample_bank

    def slow(*given: Any) -> Path:
        started.set()
        go_on.wait(30)
        return sample_bank(*given)

    monkeypatch.setattr(serving, "sample_bank", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, loaded, "a man")
        assert started.wait(30)
        monkeypatch.setenv(serving.TIMEOUT, "0.05")
        with pytest.raises(MlflowException, match=r"busy with other requests for more than 0\.05 s") as error:
            ask(loaded, "a dog")
        go_on.set()
        assert len(first.result()) == 1
    assert status(error) == 503
    assert len(ask(loaded, "a dog")) == 1


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 429, "STYLEFORGE_SERVE_MAX_BATCH"),
        (RuntimeError("broken\nin detail"), 500, r"drawing failed \(RuntimeError: broken\)"),
        (InputError("home", "the folder cannot be written"), 500, "drawing failed"),
    ],
)
def test_failures_are_not_the_clients_fault(
    model: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, code: int, message: str
) -> None:
    loaded = StyleModel(model)

    def fail(*_: Any) -> Path:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(serving, "sample_bank", fail)
        with pytest.raises(MlflowException, match=message) as error:
            ask(loaded, "a man")
    assert status(error) == code
    assert len(ask(loaded, "a man")) == 1


@pytest.mark.parametrize(
    ("prompts", "params", "side", "message"),
    [
        ([], {}, 64, "number of prompts=0: out of bounds; expected 1 to 64"),
        (["a"] * 65, {}, 64, "number of prompts=65"),
        (["a" * 1001], {}, 64, "has 1001 characters; expected at most 1000"),
        ([None], {}, 64, "prompt=None: is not text"),
        (["\ud800"], {}, 64, "is not text"),
        (["a"], {"count": 0}, 64, "count=0: out of bounds; expected 1 to 16"),
        (["a"] * 5, {"count": 13}, 64, "prompts × count=65: out of bounds; expected 1 to 64"),
        (["a"], {"steps": 0}, 64, "steps=0: out of bounds; expected 1 to 150"),
        (["a"], {"guidance": 0.99}, 64, "guidance=0.99: out of bounds; expected 1 to 30"),
        (["a"], {"guidance": float("nan")}, 64, "guidance=nan"),
        (["a"], {"seed": -1}, 64, "seed=-1: out of bounds; expected 0 to 9223372036854775807"),
        (["a"] * 17, {}, 1024, "17 images of 1024 × 1024 pixels are more than"),
    ],
)
def test_every_bound(prompts: list[Any], params: dict[str, Any], side: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_request(prompts, params, OWN, (side, side))


def test_what_is_just_within_the_bounds_is_taken_and_the_models_own_settings_always() -> None:
    most = {"seed": 2**63 - 1, "steps": 150, "guidance": 30, "count": 16}
    assert check_request(["a" * 1000] * 4, most, OWN, (512, 512)).guidance == 30.0
    assert check_request(["a"], {"seed": 0, "steps": 1, "guidance": 1, "count": 16}, OWN, (1024, 1024)).steps == 1
    own = Drawing("dpm++", 200, 35.0)
    assert check_request(["a"], {}, own, (64, 64)) == check_request(["a"], {"steps": 200, "guidance": 35.0}, own, (64, 64))
    with pytest.raises(InputError, match="steps=199"):
        check_request(["a"], {"steps": 199}, own, (64, 64))


def test_the_environment_sets_each_limit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.from_environment() == Limits() and Limits().batch == SamplingSection().batch_size
    for name, prompts, params, message in (
        ("PROMPT", ["abc"], {}, "has 3 characters; expected at most 2"),
        ("COUNT", ["a"], {"count": 3}, "count=3: out of bounds; expected 1 to 2"),
        ("STEPS", ["a"], {"steps": 4}, "steps=4: out of bounds; expected 1 to 2"),
        ("PICTURES", ["a"] * 3, {}, "number of prompts=3: out of bounds; expected 1 to 2"),
        ("PIXELS", ["a"], {}, "expected at most 0 images per request"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"STYLEFORGE_SERVE_MAX_{name}", "2")
            with pytest.raises(InputError, match=message):
                check_request(prompts, params, OWN, (64, 64), Limits.from_environment())
    for text in ("0", "-1", "many", "1.5", "²"):
        monkeypatch.setenv("STYLEFORGE_SERVE_MAX_COUNT", text)
        with pytest.raises(InputError, match=f"STYLEFORGE_SERVE_MAX_COUNT={text}: is not a valid limit; expected a positive whole number"):
            StyleModel(model)


@pytest.fixture
def delta(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained("lora"), tmp_path / "delta"))


def over(delta: Path, model: str) -> None:
    edit(delta / "styleforge.json", base={**json.loads((delta / "styleforge.json").read_text())["base"], "model": model})


def test_a_delta_is_drawn_on_its_base_wherever_that_is(
    delta: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(delta)
    (drawn,) = draw(str(delta), ["a man"], tmp_path / "drawn")
    assert base64.b64decode(ask(StyleModel(delta), "a man")[0]["image"]) == Path(drawn["path"]).read_bytes()
    over(delta, "/nowhere/base")
    with pytest.raises(InputError, match=r"needs the base /nowhere/base, which is missing.*Set STYLEFORGE_SERVE_BASE"):
        StyleModel(delta)
    monkeypatch.setenv("STYLEFORGE_SERVE_BASE", str(tiny_base))
    assert base64.b64decode(ask(StyleModel(delta), "a man")[0]["image"]) == Path(drawn["path"]).read_bytes()


def test_the_pocket_base_is_found_in_an_installed_styleforge(delta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for the code beside a registered model, which has no weights beside it."""
    over(delta, "pocket")
    monkeypatch.setattr(serving, "REPOSITORY", tmp_path)
    monkeypatch.setattr(serving, "embedded_weights", lambda part: tmp_path / "components" / "bases" / "weights" / part)
    found = serving._find_base(delta)
    assert (found / "model_index.json").is_file() and not found.is_relative_to(tmp_path)
    # In the wheel the tree lies inside the package.
    package = tmp_path / "styleforge" / "__init__.py"
    base = package.parent / "components" / "bases" / "weights" / "base"
    shutil.copytree(found, base)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: ModuleSpec(name, None, origin=str(package)))
    assert serving._find_base(delta) == base
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"styleforge: is not installed.*STYLEFORGE_SERVE_BASE"):
        serving._find_base(delta)


def test_a_served_model_is_guided_by_its_card(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    split = {
        "branches": {"style": {"prompt": "a photo of {token} style"}},
        "terms": [{"scale": 3, "away_from": "style", "toward": "prompt"}],
    }
    edit(folder / "styleforge.json", sampling={**SAMPLING, "guidance_formula": split})
    served = StyleModel(folder)
    (row,) = ask(served, "a man", seed=7)
    (drawn,) = draw(str(folder), ["a man"], tmp_path / "drawn", seed=7)
    assert base64.b64decode(row["image"]) == Path(drawn["path"]).read_bytes()
    assert row["image"] != ask(StyleModel(model), "a man", seed=7)[0]["image"]
    with pytest.raises(MlflowException, match="the scales of this model's guidance are fixed") as caught:
        ask(served, "a man", guidance=5.0)
    assert status(caught) == 400
    for option in ("guidance", "style_guidance", "negative_prompt"):
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')}: plays no part in this model's guidance: prompt \\+ 3"):
            draw(str(folder), ["a man"], tmp_path / "drawn", changes={option: "2"})
    draw(str(folder), ["a man"], tmp_path / "plain", plain=True, changes={"guidance": 2.0})
    split = {**split, "terms": [{**split["terms"][0], "scale": "style_guidance"}], "style_guidance": 3.0}
    edit(folder / "styleforge.json", sampling={**SAMPLING, "guidance_formula": split})
    own, other = (draw(str(folder), ["a man"], tmp_path / f"{scale}", seed=7, changes={"style_guidance": scale}) for scale in (3.0, 1.5))
    pixels = [Image.open(each["path"]).tobytes() for each in (drawn, own[0], other[0])]
    assert pixels[0] == pixels[1] != pixels[2]


def test_a_whole_model_that_is_guided_by_its_base_finds_it(
    trained: Trained, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(trained("single-styleforge"), tmp_path / "model"))
    card = json.loads((folder / "styleforge.json").read_text())
    of_base = {
        "branches": {"b": {"prompt": "{full_prompt}", "weights": "base"}},
        "terms": [{"scale": 2, "away_from": "b", "toward": "prompt"}],
    }
    gone = {**card["base"], "model": str(tmp_path / "gone")}
    edit(folder / "styleforge.json", base=gone, sampling={**card["sampling"], "guidance_formula": of_base})
    with pytest.raises(InputError, match=r"needs the base .*gone, which is missing.*STYLEFORGE_SERVE_BASE"):
        StyleModel(folder)
    with pytest.raises(InputError, match=r"cannot draw without its base .*gone"):
        draw(str(folder), ["a man"], tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()
    monkeypatch.setenv("STYLEFORGE_SERVE_BASE", str(tiny_base))
    assert ask(StyleModel(folder), "a man")
