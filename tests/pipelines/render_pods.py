"""Prints the Jobs that ZenML's Kubernetes orchestrator would make of ``personalize``. A process of its own: ZenML's state is global."""

import json
import os
import sys
from pathlib import Path
from typing import Any


def make_stack() -> None:
    from orchestration.environment import prepare_environment, set_source_root

    prepare_environment()
    set_source_root()
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    flavors = {
        StackComponentType.ORCHESTRATOR: ("kubernetes", {"kubernetes_context": "nowhere", "kubernetes_namespace": "styleforge-runs"}),
        StackComponentType.CONTAINER_REGISTRY: ("default", {"uri": "registry.invalid"}),
        StackComponentType.IMAGE_BUILDER: ("local", {}),
    }
    for kind, (flavor, configuration) in flavors.items():
        client.create_stack_component("pods", flavor, kind, configuration)
    names: dict[StackComponentType, str | Any] = dict.fromkeys(flavors, "pods")
    client.create_stack("pods", names | {StackComponentType.ARTIFACT_STORE: "default"})
    client.activate_stack("pods")


def render(settings: Path) -> dict[str, Any]:
    """The orchestrator's Job under "", and each step's under its name, built by ZenML's own functions."""
    from kubernetes.client import ApiClient
    from zenml.client import Client

    from orchestration.client import stack_flavors
    from orchestration.settings import settings_for
    from pipelines.personalize import personalize
    from pipelines.wiring import STEPS

    plan: dict[str, Any] = {step.name: {} for step in STEPS} | {"explain": {}, "report": {}, "register": {}}
    for name in plan:
        plan[name] = _parameters(name)
    pipeline = personalize.with_options(config_path=str(settings_for(settings, stack_flavors())))
    pipeline.prepare(plan=plan)
    snapshot, _, _ = pipeline._compile(**pipeline._run_args)
    orchestrator: Any = Client().active_stack.orchestrator
    whole = orchestrator.get_settings(snapshot)
    jobs = {"": _job(orchestrator, "", whole, whole.orchestrator_pod_settings, whole.service_account_name, snapshot.pipeline_configuration)}
    for name, step in snapshot.step_configurations.items():
        own = orchestrator.get_settings(step)
        jobs[name] = _job(orchestrator, name, own, own.pod_settings, own.step_pod_service_account_name, step.config)
    return {name: ApiClient().sanitize_for_serialization(job) for name, job in jobs.items()}


def _job(orchestrator: Any, name: str, settings: Any, pod: Any, account: str, config: Any) -> Any:
    from zenml.integrations.kubernetes.manifest_utils import build_job_manifest, build_pod_manifest, pod_template_manifest_from_pod

    manifest = build_pod_manifest(
        pod_name=None, image_name=config.docker_settings.parent_image, command=["python"], args=[], env={"ZENML_STORE_URL": "http://zenml"},
        privileged=settings.privileged, pod_settings=pod, service_account_name=account,
        termination_grace_period_seconds=settings.pod_stop_grace_period, labels={"step_name": name or "orchestrator"},
    )  # fmt: skip
    retries = config.retry.max_retries if name and config.retry else 0
    return build_job_manifest(
        job_name=f"job-{name.replace('_', '-') or 'orchestrator'}", pod_template=pod_template_manifest_from_pod(manifest),
        backoff_limit=retries + settings.backoff_limit_margin, ttl_seconds_after_finished=settings.ttl_seconds_after_finished,
        active_deadline_seconds=settings.active_deadline_seconds, pod_failure_policy=settings.pod_failure_policy,
    )  # fmt: skip


def _parameters(step: str) -> dict[str, Any]:
    """Parameters of the right types; what they say matters to no pod."""
    import inspect
    import types
    import typing

    from pipelines.personalize import ALL_STEPS

    function = next(item for item in ALL_STEPS if item.name == step).entrypoint
    hints = typing.get_type_hints(function)
    values: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        kind = hints[name]
        origin = typing.get_origin(kind) or kind
        if origin is types.UnionType:
            origin = typing.get_args(kind)[0]
        if origin in (str, int, float, bool, dict, list):
            values[name] = origin()
    return values


if __name__ == "__main__":
    make_stack()
    made = []
    for environment in json.loads(sys.argv[2]):
        os.environ.update(environment)
        made.append(render(Path(sys.argv[1])))
    print(json.dumps(made))
