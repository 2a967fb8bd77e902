from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.app import app
from cli.doctor import _text_or_file
from components.cluster.target import PodPlan
from orchestration.preflight import _endpoint, _namespace, plan_pods, training_gpu
from pipelines.names import STEPS
from tests.components.cluster.kube import VERSION, FakeApi, node, serve, status, write_kubeconfig

SETTINGS: dict[str, Any] = yaml.safe_load("""
settings:
  docker: {parent_image: "ours:cpu", skip_build: true}
  orchestrator.kubernetes:
    service_account_name: runner
    step_pod_service_account_name: step
    pod_settings:
      labels: {a: b}
      resources: {requests: {cpu: "1"}}
      env: [{name: MLFLOW_TRACKING_URI, value: "http://mlflow:5000"}]
      container_security_context: {allowPrivilegeEscalation: false}
      additional_pod_spec_args: {priority_class_name: cpu, security_context: {runAsUser: 10001}}
steps:
  fine_tune:
    settings:
      docker: {parent_image: "ours:cuda"}
      orchestrator.kubernetes:
        pod_settings:
          node_selectors: {pool: gpu}
          tolerations: [{key: nvidia.com/gpu, operator: Exists}]
          resources: {limits: {nvidia.com/gpu: "1"}}
""")


def _plans(settings: dict[str, Any], configuration: dict[str, Any] | None = None, **options: Any) -> dict[str, PodPlan]:
    pods = plan_pods(settings, configuration or {}, "kubernetes", environment=options.pop("environment", {}), **options)
    return {step: plan for plan in pods for step in plan.steps}


def test_steps_take_their_own_settings_over_the_pipelines() -> None:
    plans = _plans(SETTINGS)
    assert set(plans) == {*STEPS, "orchestrator"}
    scan, tuned = plans["scan"].spec, plans["fine_tune"].spec
    assert (scan["serviceAccountName"], scan["priorityClassName"]) == ("step", "cpu")
    assert scan["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False, "privileged": False}
    assert tuned["nodeSelector"] == {"pool": "gpu"} and tuned["priorityClassName"] == "cpu"
    # Mappings are merged; ZenML adds its own least memory.
    assert tuned["containers"][0]["resources"] == {"requests": {"cpu": "1", "memory": "400Mi"}, "limits": {"nvidia.com/gpu": "1"}}
    assert (plans["scan"].image, plans["fine_tune"].image) == ("ours:cpu", "ours:cuda")
    assert plans["scan"].manifest["metadata"]["labels"] == {"a": "b"}
    # Equal pods are one plan.
    assert plans["scan"] is plans["register"] and len({plan.steps for plan in plans.values()}) == 3
    assert plans["orchestrator"].spec["serviceAccountName"] == "runner"


def test_without_settings_zenml_makes_an_account_and_builds_an_image() -> None:
    plans = _plans({})
    assert plans["orchestrator"].spec["serviceAccountName"] == "zenml-service-account"
    assert plans["scan"].image == ""
    assert _plans({}, image="tried:1")["scan"].image == "tried:1"


def test_the_stacks_own_settings_and_environment_count() -> None:
    configuration = {"kubernetes_context": "c", "step_pod_service_account_name": "stacks", "pod_settings": {"labels": {"from": "stack"}}}
    plan = _plans({}, configuration, environment={"A": "1"})["scan"]
    assert plan.spec["serviceAccountName"] == "stacks"
    assert plan.manifest["metadata"]["labels"] == {"from": "stack"}
    assert {"name": "A", "value": "1"} in plan.spec["containers"][0]["env"]
    assert [volume["name"] for volume in _plans({}, {"local": True})["scan"].spec["volumes"]] == ["local-stores"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"endpoint_url": "http://s3:9000"}, "http://s3:9000"), ('{"endpoint_url": "http://u:p@s3:9000"}', "http://s3:9000"),
        ({"endpoint_url": "{{secret.url}}"}, None), ("not json", None), (None, None), ({}, None),
    ],
)  # fmt: skip
def test_endpoint_of_the_artifact_store(arguments: Any, wanted: str | None) -> None:
    assert _endpoint(arguments) == wanted


def test_namespace_by_the_keys_of_either_orchestrator() -> None:
    assert _namespace({"kubernetes_namespace": "a"}) == "a"
    assert _namespace({"user_namespace": "", "kubeflow_namespace": "kubeflow"}) == "kubeflow"
    assert _namespace({}) == "zenml"


# The command
POOL = "{labels: {styleforge.dev/pool: gpu}, allocatable: {cpu: 64, memory: 256Gi, nvidia.com/gpu: 8}}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--assume-pool", "{allocatable: {cpu: 1}}"], "--assume-pool: it needs --stack"),
        (["--namespace", "ns"], "--namespace: it needs --stack"),
        (["--stack", "any", "--assume-pool", "{gpu: 1}"], "not a pool description"),
    ],
)
def test_bad_options(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr


def test_pool_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL)
    assert _text_or_file(str(tmp_path / "pool.yaml")) == POOL
    assert _text_or_file(POOL) == POOL


def test_the_gpu_that_a_training_may_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the cluster before a pod is; where nodes may not be listed, nothing is known, and no error."""
    gpu = node("g", labels={"pool": "gpu", "nvidia.com/gpu.memory": "24576"}, gpu="1")
    settings = tmp_path / "zenml.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    orchestrator = SimpleNamespace(flavor_name="kubernetes", configuration={"kubernetes_context": "there"}, connector=None)
    monkeypatch.setattr("zenml.client.Client", lambda: SimpleNamespace(active_stack_model=None))
    monkeypatch.setattr("orchestration.preflight._component", lambda stack, kind: orchestrator)
    answers = {("GET", "/version"): (200, VERSION), ("GET", "/api/v1/nodes"): (200, {"items": [gpu]})}
    with serve(FakeApi(answers)) as api:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", api.url, context="there")))
        found = training_gpu(settings)
        assert found is not None and found.size == 24 * 2**30
        api.answers["GET", "/api/v1/nodes"] = status(403, "nodes is forbidden")
        assert training_gpu(settings) is None
