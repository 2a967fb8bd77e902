from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cluster.stacks import DEFINITIONS, definitions, load_stack
from components.core.errors import ConfigError, InputError

NEEDED = {"STYLEFORGE_BUCKET": "bucket", "STYLEFORGE_KUBE_CONTEXT": "context"}
MINIMAL: dict[str, Any] = {"name": "mine", "components": {"orchestrator": {"flavor": "local"}, "artifact_store": {"flavor": "local"}}}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("STYLEFORGE_")]:
        monkeypatch.delenv(name)


def _write(folder: Path, data: dict[str, Any], **orchestrator: Any) -> str:
    data = {**data, "components": {**data["components"], **({"orchestrator": orchestrator} if orchestrator else {})}}
    path = folder / "stack.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


def _configuration(name: str, kind: str, *overrides: str) -> dict[str, Any]:
    return {part: component for part, _, component in load_stack(name, overrides).parts()}[kind].configuration


def test_the_three_ship() -> None:
    assert definitions() == ["kubeflow", "kubernetes", "local"]
    assert all(yaml.safe_load((DEFINITIONS / f"{name}.yaml").read_text())["name"] == name for name in definitions())


@pytest.mark.parametrize("name", ["kubernetes", "kubeflow"])
def test_what_is_needed_and_nothing_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in NEEDED.items():
        with pytest.raises(ConfigError, match="the variable is not set"):
            load_stack(name)
        monkeypatch.setenv(variable, value)
    for kind, _, component in load_stack(name).parts():
        assert "${" not in str(component.configuration), kind
        assert "" not in component.configuration.values(), kind


def test_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in NEEDED.items():
        monkeypatch.setenv(variable, value)
    orchestrator = {"incluster": "true", "kubernetes_context": "context", "kubernetes_namespace": "styleforge-runs", "synchronous": "true"}
    assert _configuration("kubernetes", "orchestrator") == orchestrator
    assert _configuration("kubernetes", "artifact_store") == {"path": "s3://bucket/zenml"}
    monkeypatch.setenv("STYLEFORGE_S3_ENDPOINT", "http://s3.styleforge:9000")
    monkeypatch.setenv("STYLEFORGE_S3_SECRET", "s3")
    assert _configuration("kubernetes", "artifact_store") == {
        "path": "s3://bucket/zenml", "client_kwargs": {"endpoint_url": "http://s3.styleforge:9000"}, "authentication_secret": "s3",
    }  # fmt: skip


def test_an_override_spares_the_variable() -> None:
    given = ("components.orchestrator.configuration.kubernetes_context=kind", "components.artifact_store.configuration.path=s3://other")
    assert _configuration("kubernetes", "artifact_store", *given) == {"path": "s3://other"}
    assert _configuration("kubernetes", "orchestrator", *given)["kubernetes_context"] == "kind"
    assert _configuration("local", "orchestrator", "components.orchestrator.configuration.new.key=[1, two]") == {"new": {"key": [1, "two"]}}


def test_a_part_is_called_after_the_stack_by_default(tmp_path: Path) -> None:
    assert [(kind, name) for kind, name, _ in load_stack(_write(tmp_path, MINIMAL)).parts()] == [
        ("orchestrator", "mine"), ("artifact_store", "mine"),
    ]  # fmt: skip


def test_an_empty_text_that_stands_in_the_file_stays(tmp_path: Path) -> None:
    file = _write(tmp_path, MINIMAL, flavor="local", configuration={"a": "", "b": {}, "c": "${UNSET:-}", "d": {"e": "${UNSET:-}"}})
    assert _configuration(file, "orchestrator") == {"a": "", "b": {}}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"name": "default"}, "cannot be changed"),
        ({"name": "a b"}, "name='a b'"),
        ({"nmae": "mine"}, "unknown key nmae (did you mean name?)"),
        ({"components": {"orchestrator": {"flavor": "local"}}}, "components.artifact_store is missing"),
        ({"components": {**MINIMAL["components"], "orchestrater": {}}}, "did you mean components.orchestrator?"),
        ({"components": {**MINIMAL["components"], "orchestrator": {}}}, "components.orchestrator.flavor is missing"),
        ({"components": {**MINIMAL["components"], "orchestrator": {"flavor": "local", "name": "default"}}}, "expected another name"),
        ({"components": {**MINIMAL["components"], "orchestrator": {"flavor": "local", "configuration": [1]}}}, "configuration=[1]"),
    ],
)
def test_wrong_files(tmp_path: Path, data: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_stack(_write(tmp_path, {**MINIMAL, **data}))
    assert wanted in str(caught.value)
    assert "docs/reference/configuration.md" not in str(caught.value)


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({"client_password": "hunter2"}, "client_password is a secret in plain text"),
        ({"client_args": {"existing_token": "hunter2"}}, "client_args.existing_token is a secret"),
        ({"secret": "hunter2"}, "configuration.secret is a secret"),
        ({"pod_settings": {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2"}]}}, "AWS_SECRET_ACCESS_KEY is a secret"),
        ({"client_kwargs": {"endpoint_url": "http://me:hunter2@s3:9000"}}, "endpoint_url holds a user name or password"),
        ({"client_kwargs": {"api_key": "{{a.hunter2}}"}}, "only one level below"),
    ],
)
def test_secrets_are_refused_and_not_repeated(tmp_path: Path, configuration: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_stack(_write(tmp_path, MINIMAL, flavor="x", configuration=configuration))
    assert field in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_only_looks_like_a_secret_passes(tmp_path: Path) -> None:
    fine = {"client_password": "{{kubeflow.password}}", "authentication_secret": "s3", "pass_zenml_token_as_secret": False}
    fine["pod_settings"] = {"env": [{"name": "TOKENIZERS_PARALLELISM", "value": "false"}], "image_pull_secrets": ["pull"]}
    assert _configuration(_write(tmp_path, MINIMAL, flavor="x", configuration=fine), "orchestrator") == fine


@pytest.mark.parametrize(
    ("name", "wanted"), [("kubernets", "did you mean kubernetes?"), ("none.yaml", "no such file"), ("", "no such stack definition")]
)
def test_no_such_definition(name: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_stack(name)
    assert wanted in str(caught.value)
