"""Describes what a ZenML stack would run on Kubernetes, as plain data for the checks in ``components.cluster``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.cluster.admission import ZENMLS_ACCOUNT
from components.cluster.client import Access, ClusterError, Manifest, connect
from components.cluster.in_cluster import version
from components.cluster.pool_gpus import smallest_gpu
from components.cluster.target import PodPlan, Services, Target
from components.core.checks import Check
from components.core.errors import InputError
from components.core.gpus import GpuMemory
from components.core.nested import deep_merge
from components.registry.tracking import public_uri, tracking_uri
from orchestration.client import connect as connect_zenml
from orchestration.settings import POD_ORCHESTRATORS, check_settings, default_settings_file, step_settings
from pipelines.names import STEPS

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorSettings
    from zenml.models import ComponentResponse, StackResponse

# Name of the orchestrator's own pod, listed beside the steps.
ORCHESTRATOR = "orchestrator"


def load_target(
    name: str, *, namespace: str | None = None, file: Path | None = None, image: str | None = None, pools: tuple[Manifest, ...] = ()
) -> Target | Check:
    """Describe a ZenML stack as a target, or return a :class:`Check` saying that it does not run on Kubernetes.

    ``namespace``, ``file`` (a ``zenml.yaml``) and ``image`` replace the stack's own; ``pools`` are those of an autoscaler. Raises
    InputError for an unknown stack or unusable settings, and ServiceUnreachable if ZenML's server does not answer.
    """
    from orchestration.doctor import PACKAGES

    stack = _stack(connect_zenml(), name)
    orchestrator = _component(stack, "orchestrator")
    flavor = orchestrator.flavor_name if orchestrator else "nothing"
    if orchestrator is None or flavor not in POD_ORCHESTRATORS:
        return Check("cluster", True, f"the stack {name} runs on `{flavor}`: there is no cluster to check")
    configuration = dict(orchestrator.configuration)
    path = file or default_settings_file()
    settings = check_settings(path) if path is not None else {}
    pods = plan_pods(settings, configuration, flavor, environment=_environment(stack), image=image)
    runner = _orchestrator_settings(settings, configuration, flavor).service_account_name
    accounts = [plan.spec.get("serviceAccountName") for plan in pods]
    return Target(
        stack=name, namespace=namespace or _namespace(configuration), access=_access(orchestrator), runner=runner, pods=pods, pools=pools,
        services=_services(stack), makes_account=flavor == "kubernetes" and not runner,
        accounts=tuple(sorted({str(name) for name in accounts if name and name != ZENMLS_ACCOUNT})),
        versions={name: found for name in PACKAGES if (found := version(name))}, mounts_local_stores=bool(configuration.get("local")),
    )  # fmt: skip


def check_access() -> None:
    """Fail now on missing credentials (InputError) or no answer (ServiceUnreachable), which ZenML would report only after minutes."""
    from zenml.client import Client

    orchestrator = _component(Client().active_stack_model, "orchestrator")
    if orchestrator is not None and orchestrator.flavor_name == "kubernetes":
        connect(_access(orchestrator)).get("/version")


def training_gpu(settings: Path | None) -> GpuMemory | None:
    """Return the smallest GPU that training on the active stack may get; None if the cluster does not say or refuses the question."""
    from zenml.client import Client

    orchestrator = _component(Client().active_stack_model, "orchestrator")
    if orchestrator is None or orchestrator.flavor_name != "kubernetes":
        return None
    known = check_settings(settings) if settings is not None else {}
    pods = plan_pods(known, dict(orchestrator.configuration), orchestrator.flavor_name, environment={})
    (training,) = (plan for plan in pods if "fine_tune" in plan.steps)
    try:
        return smallest_gpu(training, connect(_access(orchestrator)).items("/api/v1/nodes"))
    except ClusterError:
        return None


def _stack(client: Client, name: str) -> StackResponse:
    try:
        return client.get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        known = ", ".join(sorted(stack.name for stack in client.list_stacks(size=100)))
        raise InputError(
            f"--stack {name}", "ZenML knows no such stack", expected=f"one of {known}", remedy="`zenml stack list` shows them"
        ) from error


def _component(stack: StackResponse, kind: str) -> ComponentResponse | None:
    return next((items[0] for key, items in stack.components.items() if key.value == kind and items), None)


def _access(orchestrator: ComponentResponse) -> Access:
    configuration = orchestrator.configuration
    return Access(
        context=configuration.get("kubernetes_context"),
        incluster=bool(configuration.get("incluster")),
        factory=(lambda: _client_of(orchestrator)) if orchestrator.connector else None,
    )


def _namespace(configuration: Mapping[str, Any]) -> str:
    """Return the pods' namespace from the configuration keys of either orchestrator; ZenML's default is `zenml`."""
    keys = ("kubernetes_namespace", "user_namespace", "kubeflow_namespace")
    return str(next((configuration[key] for key in keys if configuration.get(key)), "zenml"))


def _client_of(orchestrator: ComponentResponse) -> Any:
    """Return a client with the credentials of the orchestrator's service connector."""
    from zenml.integrations.kubernetes.orchestrators import KubernetesOrchestrator
    from zenml.stack import StackComponent

    component = StackComponent.from_model(orchestrator)
    if not isinstance(component, KubernetesOrchestrator):
        raise InputError(
            f"orchestrator {orchestrator.name}", "its service connector is not supported here", remedy="set kubernetes_context of it"
        )
    return component.get_kube_client()


def _environment(stack: StackResponse) -> dict[str, str]:
    """Return the variables that the stack and its components set in every pod."""
    parts = [item.environment for items in stack.components.values() for item in items]
    return {name: str(value) for found in (*parts, stack.environment) for name, value in found.items()}


def plan_pods(
    settings: Mapping[str, Any], configuration: Mapping[str, Any], flavor: str, *, environment: Mapping[str, str], image: str | None = None
) -> tuple[PodPlan, ...]:
    """Return the pods that ZenML would create for each step and for the orchestrator; identical pods share one plan.

    ``settings`` come from the checked ``zenml.yaml`` and override the orchestrator's own ``configuration``; ``image`` applies to all pods.
    """
    local = bool(configuration.get("local"))
    found: list[tuple[str, Manifest]] = []
    for step in STEPS:
        chosen = _orchestrator_settings(settings, configuration, flavor, step)
        account = chosen.step_pod_service_account_name or chosen.service_account_name
        name = image or _image(settings, step)
        found.append((step, _pod(chosen.pod_settings, account, name, environment, local, privileged=chosen.privileged)))
    whole = _orchestrator_settings(settings, configuration, flavor)
    account = whole.service_account_name or (ZENMLS_ACCOUNT if flavor == "kubernetes" else None)
    own = _pod(whole.orchestrator_pod_settings, account, image or _image(settings), environment, local, cpu="100m")
    found.append((ORCHESTRATOR, own))
    groups: dict[str, list[str]] = {}
    for step, pod in found:
        groups.setdefault(json.dumps(pod, sort_keys=True), []).append(step)
    return tuple(PodPlan(tuple(steps), json.loads(text)) for text, steps in groups.items())


def _orchestrator_settings(
    settings: Mapping[str, Any], configuration: Mapping[str, Any], flavor: str, step: str | None = None
) -> KubernetesOrchestratorSettings:
    """Merge the settings as ZenML does: the step's override the pipeline's, which override the component's own."""
    from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorSettings

    own = {key: value for key, value in configuration.items() if value is not None}
    merged = deep_merge(own, step_settings(settings, step, f"orchestrator.{flavor}"))
    known = KubernetesOrchestratorSettings.model_fields
    return KubernetesOrchestratorSettings.model_validate({key: value for key, value in merged.items() if key in known})


def _image(settings: Mapping[str, Any], step: str | None = None) -> str:
    """Return the prebuilt image of a step; empty if ZenML would build one first."""
    docker = step_settings(settings, step, "docker")
    return str(docker.get("parent_image") or "") if docker.get("skip_build") else ""


def _pod(
    settings: Any, account: str | None, image: str, environment: Mapping[str, str], local: bool, *, cpu: str = "", privileged: bool = False
) -> Manifest:
    """Build the pod with ZenML's own code, as a manifest with Kubernetes' field names."""
    from kubernetes.client import ApiClient, Configuration
    from zenml.integrations.kubernetes.kube_utils import apply_default_resource_requests
    from zenml.integrations.kubernetes.manifest_utils import build_pod_manifest

    pod = build_pod_manifest(
        pod_name=None, image_name=image, command=[], args=[], privileged=privileged, service_account_name=account, env=dict(environment),
        pod_settings=apply_default_resource_requests(memory="400Mi", cpu=cpu or None, pod_settings=deepcopy(settings)),
        mount_local_stores=local,
    )  # fmt: skip
    # A separate configuration, since the client's default one is shared.
    return dict(_without_nulls(ApiClient(Configuration()).sanitize_for_serialization(pod)))


def _without_nulls(value: Any) -> Any:
    """Drop unset fields: ZenML writes some of them as null, under names that Kubernetes ignores."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _services(stack: StackResponse) -> Services:
    from zenml.config.global_config import GlobalConfiguration

    store = str(GlobalConfiguration().store_configuration.url)
    artifacts = _component(stack, "artifact_store")
    configuration = dict(artifacts.configuration) if artifacts else {}
    root = str(configuration.get("path") or "")
    if artifacts and not root:
        root = str(Path(GlobalConfiguration().local_stores_path) / str(artifacts.id))
    # A pod cannot use a tracking file on this machine.
    zenml, mlflow = (public_uri(uri) if urlsplit(uri).scheme in ("http", "https") else None for uri in (store, tracking_uri()))
    return Services(zenml or "sqlite", mlflow, public_uri(root) or None, _endpoint(configuration.get("client_kwargs")))


def _endpoint(arguments: Any) -> str | None:
    """Return the S3 server's address from the artifact store's ``client_kwargs``, a mapping or JSON text; None if there is none."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    address = arguments.get("endpoint_url") if isinstance(arguments, Mapping) else None
    # A reference to one of ZenML's secrets is not resolved.
    return public_uri(str(address)) if address and "{{" not in str(address) else None
