import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.core.config import RunConfig, parse_config
from components.core.content import digest_file, digest_folder, digest_value
from components.core.errors import GateRefused, InputError
from components.core.paths import write_jsonl
from components.registry.tracking import Tracking, open_tracking
from components.registry.versions import (
    ARTIFACT_DIGEST,
    ModelRef,
    artifact_digest,
    find_version,
    is_registered,
    list_models,
    parse_reference,
    register_model,
    resolve_model,
    source_digest,
    verified_folder,
)

SCORES: dict[str, Any] = {"style": {"kid": {"value": 0.0123, "low": 0.01, "high": 0.02, "n": 8}}, "base": {}, "drift": None}


def _model(folder: Path, text: str = "{}") -> Path:
    (folder / "unet").mkdir(parents=True)
    (folder / "training").mkdir()
    (folder / "model_index.json").write_text(text)
    (folder / "unet" / "weights.safetensors").write_bytes(bytes(1000))
    rows = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, 1201)]
    (folder / "training" / "log.jsonl").write_text("\n".join(rows))
    return folder


def _register(tracking: Tracking, model: Path, name: str = "styleforge-test", **changes: Any) -> ModelRef:
    report = model.parent / "report.html"
    report.write_text("<title>report</title>")
    arguments: dict[str, Any] = {
        "name": name, "alias": "challenger", "experiment": "styleforge", "model": model, "scores": SCORES, "report": report,
        "params": {f"section.key{index}": index for index in range(150)} | {"long": "x" * 9000}, "tags": {"method": "single-styleforge"},
        "pictures": [report],
    }  # fmt: skip
    return register_model(tracking, **(arguments | changes))


@pytest.fixture(scope="module")
def _module_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def tracking(_module_home: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """SQLite under a home that the tests of this file share, since creating it takes seconds."""
    monkeypatch.setenv("STYLEFORGE_HOME", str(_module_home))
    return open_tracking()


def test_run_and_version_hold_everything(tracking: Tracking, tmp_path: Path) -> None:
    reference = _register(tracking, _model(tmp_path / "model"), name="whole")
    client = tracking.client
    run = client.get_run(reference.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["section.key149"] == "149"
    assert len(run.data.params["long"]) == 6000
    assert run.data.metrics["style/kid"] == 0.0123
    assert len(client.get_metric_history(reference.run_id, "train/loss")) == 1200
    assert {item.path for item in client.list_artifacts(reference.run_id)} == {"model", "report", "pictures"}
    version = client.get_model_version_by_alias("whole", "challenger")
    assert str(version.version) == reference.version == "1"
    digest, folder = version.tags.pop("styleforge.artifact_digest"), resolve_model("whole@challenger")
    assert digest == digest_folder(folder) == digest_folder(tmp_path / "model")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["model_index.json", "training/log.jsonl", "unet/weights.safetensors"]
    assert version.tags == {"styleforge.method": "single-styleforge", "styleforge.kid": "0.0123"}


def test_a_version_is_registered_until_it_is_deleted(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        _register(tracking, _model(tmp_path / "model"), name="goes")
        shutil.rmtree(tmp_path / "model")
    tracking.client.delete_model_version("goes", "1")
    found = {(name, version): is_registered(tracking.uri, name, version) for name in ("goes", "other") for version in ("1", "2", "3")}
    assert [key for key, there in found.items() if there] == [("goes", "2")]
    # A file that is there is answered for without MLflow; whatever it does not hold is MLflow's to say.
    monkeypatch.setattr("components.registry.versions.open_tracking", lambda uri: pytest.fail("MLflow was asked"))
    assert is_registered(tracking.uri, "goes", "2")


def test_the_alias_moves_and_every_version_stays_in_reach(tracking: Tracking, tmp_path: Path) -> None:
    _register(tracking, _model(tmp_path / "a" / "model", '{"n": 1}'), name="moving")
    second = _register(tracking, _model(tmp_path / "b" / "model", '{"n": 2}'), name="moving")
    assert second.version == "2"
    contents = {
        ref: (resolve_model(ref) / "model_index.json").read_text() for ref in ("moving", "moving@challenger", "moving/1", "moving/2")
    }
    assert contents == {"moving": '{"n": 2}', "moving@challenger": '{"n": 2}', "moving/1": '{"n": 1}', "moving/2": '{"n": 2}'}
    rows = [row for row in list_models() if row["name"] == "moving"]
    assert [(row["version"], row["aliases"]) for row in rows] == [("2", ["challenger"]), ("1", [])]
    assert rows[0]["tags"]["kid"] == "0.0123"


def test_a_folder_is_taken_as_it_is_and_of_unknown_models_the_known_are_listed(tracking: Tracking, tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    assert resolve_model(str(model)) == model
    with pytest.raises(InputError, match=r"model_index\.json"):
        resolve_model(str(tmp_path))
    _register(tracking, model, name="known")
    with pytest.raises(OSError, match="missing"):
        _register(tracking, model, name="broken", report=tmp_path / "missing.html")
    (run,) = tracking.client.search_runs([tracking.experiment("styleforge")], "tags.`mlflow.runName` = 'broken'")
    assert run.info.status == "FAILED"
    for reference in ("broken", "nobody", "nobody@champion", "nobody/1", "known/99", "known@champion"):
        with pytest.raises(InputError, match="known"):
            resolve_model(reference)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [("a", ("a", None, None)), ("a@b", ("a", None, "b")), ("a/3", ("a", "3", None)), ("s.x-1@champion", ("s.x-1", None, "champion"))]
    + [(reference, None) for reference in ("", "@a", "a@", "a/x", "a/", "/3", "a@b/c")],
)
def test_references(reference: str, parts: tuple[str, str | None, str | None] | None) -> None:
    if parts is None:
        with pytest.raises(InputError):
            parse_reference(reference)
    else:
        assert parse_reference(reference) == parts


def test_what_loading_leaves_in_the_folder_is_no_change(tracking: Tracking, tmp_path: Path) -> None:
    reference = _register(tracking, _model(tmp_path / "model"), name="loaded")
    version = find_version(tracking, f"loaded/{reference.version}")
    folder = verified_folder(tracking, version)
    (folder / "registered_model_meta").write_text("model_name: loaded")
    (folder / "code" / "__pycache__").mkdir(parents=True)
    (folder / "code" / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    # The digest leaves them alone; they go before the files are used.
    assert artifact_digest(folder) == version.tags[ARTIFACT_DIGEST] and (folder / "code" / "__pycache__").exists()
    assert verified_folder(tracking, version) == folder and not (folder / "code" / "__pycache__").exists()
    (folder / "unet" / "registered_model_meta").write_text("this one is no note of MLflow's")
    with pytest.raises(GateRefused, match="were changed"):
        verified_folder(tracking, version)


def config(**changes: object) -> RunConfig:
    return parse_config({"style": {"name": "a", "source": "pictures"}}, overrides=[f"{key}={value}" for key, value in changes.items()])


def test_the_digest_is_of_pictures_settings_and_base(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "manifest.jsonl", [{"path": "a.png", "sha256": "1"}])
    first = source_digest(tmp_path, config(), "base")
    # Where things are does not matter.
    for moved in ({"style.source": "s3://elsewhere"}, {"aux.pool": "pool"}, {"style.reference": "held"}, {"registry.alias": "x"}):
        assert source_digest(tmp_path, config(**moved), "base") == first
    # Digests of before there were rights stand.
    settings = config().model_dump(
        mode="json", exclude={"registry": True, "style": {"source", "reference"}, "aux": {"pool"}, "rights": True}
    )
    assert first == digest_value([digest_file(tmp_path / "manifest.jsonl"), settings, "base"])
    assert source_digest(tmp_path, config(**{"rights.record": True}), "base") != first
    others = {source_digest(tmp_path, config(**change), "base") for change in ({"seed": 1}, {"training.steps": 3}, {"aux.count": 4})}
    others.add(source_digest(tmp_path, config(), "another base"))
    write_jsonl(tmp_path / "manifest.jsonl", [{"path": "a.png", "sha256": "2"}])
    others.add(source_digest(tmp_path, config(), "base"))
    assert len(others) == 5 and first not in others
