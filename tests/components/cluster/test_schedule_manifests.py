import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components.cluster import schedule_manifests
from components.cluster.schedule_manifests import (
    ScheduleRequest,
    check_travels,
    config_map,
    cron_job,
    escape,
    load_template,
    needs,
    unescape,
)
from components.core.config import parse_config
from components.core.errors import InputError
from components.core.paths import REPOSITORY

TEMPLATE = load_template()
VOLUMES = schedule_manifests.volumes_of(TEMPLATE)
CONFIG, GATE = REPOSITORY / "configs" / "pocket.yaml", REPOSITORY / "configs" / "gate.yaml"
PLAIN = ScheduleRequest(name="nightly", config=CONFIG, cron="17 3 * * *", source="s3://bucket/styles")
FULL = ScheduleRequest(
    name="weekly", config=CONFIG, cron="@weekly", source="s3://b", gate=GATE, claim="art-home", namespace="art", service_account="trainer",
    overrides=("training.steps=5", "method.instance_prompt=$(HOME) {token}"), image="registry.example.com/sf:1", suspend=True,
    time_zone="Europe/Berlin", alias="production", promote=False,
)  # fmt: skip


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["jobTemplate"]["spec"]["template"]["spec"])


@pytest.mark.parametrize("request_", [PLAIN, FULL], ids=["plain", "full"])
@pytest.mark.parametrize(("version", "kubernetes"), [("v1", "1.25"), ("v1", "1.34"), ("v1beta1", "1.25")])
def test_objects_are_valid(request_: ScheduleRequest, version: str, kubernetes: str) -> None:
    job = cron_job(request_, TEMPLATE, version)
    if version == "v1beta1":
        # There are no schemas of servers as old as that; v1 came with the same fields.
        job["apiVersion"] = "batch/v1"
        assert ("timeZone" in job["spec"]) == (request_.time_zone is not None)
    for manifest in (job, config_map(request_, TEMPLATE)):
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_it_is_the_manifest_filled_in() -> None:
    before = yaml.safe_dump(TEMPLATE)
    job = cron_job(PLAIN, TEMPLATE, "v1")
    assert yaml.safe_dump(TEMPLATE) == before
    spec, old = job["spec"], TEMPLATE["spec"]
    assert (job["apiVersion"], spec["schedule"], spec["suspend"], spec["timeZone"]) == ("batch/v1", "17 3 * * *", False, "Etc/UTC")
    kept = ("concurrencyPolicy", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    assert [spec[key] for key in kept] == [old[key] for key in kept] == ["Forbid", 3600, 3, 3]
    for key in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        assert spec["jobTemplate"]["spec"][key] == old["jobTemplate"]["spec"][key]
    new, manifest = pod(job), pod(copy.deepcopy(TEMPLATE))
    assert new["volumes"][:-1] == manifest["volumes"]
    assert new["volumes"][-1] == {"name": "config", "configMap": {"name": "nightly-config"}}
    (container,), (ours,) = new.pop("containers"), manifest.pop("containers")
    assert {**new, "volumes": 0} == {**manifest, "volumes": 0}
    assert container.pop("volumeMounts") == [
        *ours.pop("volumeMounts"),
        {"name": "config", "mountPath": "/etc/styleforge", "readOnly": True},
    ]
    assert container.pop("args") == [
        "retrain", "/etc/styleforge/config.yaml", "--source", "s3://bucket/styles", "--json", "--log-format", "json",
    ]  # fmt: skip
    del ours["args"]
    assert container == ours
    # The network policies and the list go by labels.
    labels = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "runner"
    for found in (labels, job["metadata"]["labels"], job["spec"]["jobTemplate"]["metadata"]["labels"]):
        assert found["app.kubernetes.io/instance"] == "nightly" and found["app.kubernetes.io/managed-by"] == "styleforge-schedule"
    assert schedule_manifests.is_ours(job) and not schedule_manifests.is_ours(TEMPLATE)
    assert list(needs(job)) == [
        ("ServiceAccount", "styleforge-runner"), ("PriorityClass", "styleforge-cpu"), ("ConfigMap", "runs"), ("Secret", "styleforge-runs"),
        ("PersistentVolumeClaim", "retrain-home"), ("PersistentVolumeClaim", "hub-cache"),
    ]  # fmt: skip


def test_everything_that_can_be_said() -> None:
    job = cron_job(FULL, TEMPLATE, "v1")
    assert job["metadata"]["namespace"] == "art" == config_map(FULL, TEMPLATE)["metadata"]["namespace"]
    assert (job["spec"]["schedule"], job["spec"]["suspend"], job["spec"]["timeZone"]) == ("@weekly", True, "Europe/Berlin")
    (container,) = pod(job)["containers"]
    assert container["image"] == "registry.example.com/sf:1" and pod(job)["serviceAccountName"] == "trainer"
    assert container["args"][4:-3] == [
        "--set", "training.steps=5", "--set", "method.instance_prompt=$$(HOME) {token}", "--to", "production",
        "--gate", "/etc/styleforge/gate.yaml", "--no-promote",
    ]  # fmt: skip
    assert config_map(FULL, TEMPLATE)["data"] == {"config.yaml": CONFIG.read_text(), "gate.yaml": GATE.read_text()}
    assert ("PersistentVolumeClaim", "art-home") in needs(job) and ("PersistentVolumeClaim", "retrain-home") not in needs(job)
    assert "timeZone" not in cron_job(PLAIN, TEMPLATE, "v1beta1")["spec"]


def test_the_command_takes_the_arguments() -> None:
    import typer.main

    from cli.app import app

    command = typer.main.get_command(app)
    name, *rest = schedule_manifests.arguments(FULL)
    context = command.commands[name].make_context(name, rest)  # type: ignore[attr-defined]
    assert context.params["gate"].name == "gate.yaml" and context.params["alias"] == "production"
    assert context.params["no_promote"] and len(context.params["overrides"]) == 2


def test_what_the_pod_asks_for() -> None:
    def resources(requests: str | None) -> dict[str, Any]:
        job = cron_job(replace(PLAIN, requests=requests), TEMPLATE, "v1")
        found: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["resources"]
        return found

    theirs = resources(None)
    assert theirs == {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "12Gi"}}
    assert resources("cpu=500m, memory=2Gi") == {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": theirs["limits"]}
    assert resources("memory=16Gi") == {"requests": {"cpu": "2", "memory": "16Gi"}, "limits": {"cpu": "4", "memory": "16Gi"}}


@pytest.mark.parametrize("text", ["a$b", "$(HOME)", "$$(HOME)", "$", "$$$", "plain"])
def test_no_variable_gets_in(text: str) -> None:
    assert unescape(escape(text)) == text and "$" not in escape(text).replace("$$", "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "Nightly"}, "Nightly"), ({"name": "a" * 53}, "aaa"), ({"name": "-a"}, "-a"), ({"name": ""}, "CronJob"),
        ({"name": "a.b"}, "a.b"), ({"cron": "never"}, "--cron"), ({"time_zone": "Mars/Olympus"}, "--time-zone"), ({"image": ""}, "--image"),
        ({"image": "a b"}, "--image"), ({"service_account": " "}, "--service-account"), ({"namespace": ""}, "--namespace"),
        ({"claim": "my home"}, "--home-claim"), ({"requests": "gpu=1"}, "--requests"), ({"requests": "cpu"}, "--requests"),
        ({"requests": "cpu=many"}, "'cpu=many' is not valid"), ({"requests": "cpu=0"}, "--requests"), ({"requests": ""}, "--requests"),
        ({"requests": "cpu=1,cpu=2"}, "'cpu=2' is not valid"),
    ],
)  # fmt: skip
def test_what_is_refused(change: dict[str, Any], named: str) -> None:
    PLAIN.check()
    with pytest.raises(InputError) as caught:
        replace(PLAIN, **change).check()
    assert named in str(caught.value)


def test_what_a_config_map_cannot_hold(tmp_path: Path) -> None:
    long, rule = tmp_path / "long.yaml", tmp_path / "gate.yaml"
    long.write_text("é" * 2**19, encoding="utf-8")
    rule.write_text("#")
    replace(PLAIN, config=long).check()
    with pytest.raises(InputError, match="--config and --gate together: 1,048,577 bytes"):
        replace(PLAIN, config=long, gate=rule).check()


def travels(*overrides: str, source: str = "s3://bucket", volumes: list[str] = VOLUMES) -> None:
    check_travels(parse_config({"style": {"name": "a", "source": f"{source}/a"}}, overrides=overrides), source, volumes)


@pytest.mark.parametrize(
    "override",
    [
        "base.model=models/mine", "base.model=./mine.safetensors", "base.model=/data/model", "base.model=owner/name",
        "base.model=file:///data/model", "scoring.extractor=clip", "scoring.inception_weights=inception.pth", "sampling.bank=prompts.csv",
        "aux.pool=pool", "style.reference=/data/reference", "registry.tracking_uri=sqlite:///mlflow.db", "registry.tracking_uri=mlruns",
        "aux.pool=/var/lib/styleforge/../../../data", "aux.pool=/tmp/pool", "aux.pool=zip://*::pool.zip", "aux.pool=memory://pool",
        "captions.model=models/vlm", "captions.model=owner/vlm",
    ],
)  # fmt: skip
def test_a_path_of_this_machine_is_refused(override: str) -> None:
    setting, _, value = override.partition("=")
    with pytest.raises(InputError, match="a path on this machine, which the pod does not have") as caught:
        travels(override)
    assert caught.value.where == f"{setting}={value}" and "/var/lib/styleforge" in caught.value.expected


@pytest.mark.parametrize(
    "overrides",
    [
        (), ("base.model=owner/name", "base.revision=abc"), ("base.model=/var/cache/huggingface/mine",), ("sampling.bank=pocket",),
        ("aux.pool=s3://bucket/pool",), ("aux.pool=zip://*::s3://bucket/pool.zip",), ("registry.tracking_uri=http://mlflow:5000",),
        ("registry.tracking_uri=sqlite:////var/lib/styleforge/mlflow.db",), ("style.reference=file:///var/lib/styleforge/reference",),
        ("scoring.inception_weights=/var/lib/styleforge/inception.pth",), ("registry.tracking_uri=postgresql://db/mlflow",),
        ("captions.model=owner/vlm", "captions.revision=abc"), ("captions.model=/var/cache/huggingface/vlm",),
    ],
)  # fmt: skip
def test_what_means_the_same_in_the_pod(overrides: tuple[str, ...]) -> None:
    travels(*overrides)


def test_the_source_must_travel() -> None:
    for source in ("sets", "/data/sets", "file:///data/sets"):
        with pytest.raises(InputError, match="--source"):
            travels(source=source)
    travels(source="/var/lib/styleforge/sets")
    with pytest.raises(InputError, match="--source") as caught:
        travels(source="/var/lib/styleforge/sets", volumes=[])
    assert caught.value.expected == "a URL such as s3://bucket/styles"


def test_a_hub_model_that_is_a_folder_here_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    travels("base.model=owner/name", "base.revision=abc")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(InputError, match=r"base\.model"):
        travels("base.model=owner/name", "base.revision=abc")
