"""A pipeline in the Kubeflow Pipelines specification, version 2, written without its SDK, which pins other packages.

Source: kfp's pipeline_spec.proto and kubernetes_executor_config.proto (https://github.com/kubeflow/pipelines).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.core.errors import ConfigError

SCHEMA = "2.1.0"
GPU = "nvidia.com/gpu"
_FOLDER = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
# Settings without a counterpart in the specification that can be left to the cluster: the image's own user is unprivileged anyway.
_LEFT_OUT = ("container_security_context", "additional_pod_spec_args", "volumes")
# Kubeflow passes on single keys only, not whole Secrets and ConfigMaps; these are passed on if they exist.
SECRET_KEYS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
CONFIG_KEYS = (
    "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)  # fmt: skip
_KNOWN = ("resources", "env", "env_from", "node_selectors", "tolerations", "volume_mounts", "labels", "annotations", "image_pull_secrets")


@dataclass(frozen=True)
class Task:
    """One step: ``inputs`` maps each input folder to the step that makes it, ``output`` names its own folder, ``parameters`` is JSON.

    ``pod`` has the keys of ZenML's KubernetesPodSettings; ``deadline`` is in seconds.
    """

    step: str
    inputs: Mapping[str, str]
    output: str
    parameters: str
    image: str
    after: tuple[str, ...] = ()
    pod: Mapping[str, Any] = field(default_factory=dict)
    deadline: int | None = None


def documents(name: str, description: str, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The file's two documents, the pipeline and its pods' platform; ConfigError for a pod setting that cannot be expressed there."""
    made_by = {task.step: task for task in tasks}
    pipeline = {
        "components": {f"comp-{_dashed(task.step)}": _component(task) for task in tasks},
        "deploymentSpec": {"executors": {f"exec-{_dashed(task.step)}": {"container": _container(task)} for task in tasks}},
        "pipelineInfo": {"name": name, "description": description},
        "root": {"dag": {"tasks": {_dashed(task.step): _task(task, made_by) for task in tasks}}},
        "schemaVersion": SCHEMA,
        "sdkVersion": "styleforge",
    }
    executors = {f"exec-{_dashed(task.step)}": _platform(task) for task in tasks}
    return [pipeline, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}]


def _dashed(step: str) -> str:
    return step.replace("_", "-")


def _component(task: Task) -> dict[str, Any]:
    inputs: dict[str, Any] = {"parameters": {"parameters": {"parameterType": "STRING"}}}
    if task.inputs:
        inputs["artifacts"] = dict.fromkeys(task.inputs, _FOLDER)
    return {
        "executorLabel": f"exec-{_dashed(task.step)}", "inputDefinitions": inputs,
        "outputDefinitions": {"artifacts": {task.output: _FOLDER}},
    }  # fmt: skip


def _container(task: Task) -> dict[str, Any]:
    arguments = ["--parameters", "{{$.inputs.parameters['parameters']}}"]
    for name in task.inputs:
        arguments += ["--input", f"{name}={{{{$.inputs.artifacts['{name}'].path}}}}"]
    arguments += ["--out", f"{{{{$.outputs.artifacts['{task.output}'].path}}}}", "--log-format", "json"]
    container: dict[str, Any] = {"image": task.image, "command": ["styleforge", "step", task.step], "args": arguments}
    if plain := [{"name": item["name"], "value": str(item["value"])} for item in task.pod.get("env", ()) if "value" in item]:
        container["env"] = plain
    if resources := _resources(task.pod.get("resources") or {}):
        container["resources"] = resources
    return container


def _resources(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Resources as numbers (memory in units of 10⁹ bytes) for servers before 2.4, and as strings for later ones."""
    from kubernetes.utils.quantity import parse_quantity

    found: dict[str, Any] = {}
    for kind, word in (("limits", "Limit"), ("requests", "Request")):
        for resource, unit in (("cpu", 1), ("memory", 10**9)):
            if (value := asked.get(kind, {}).get(resource)) is not None:
                found[f"{resource}{word}"] = float(parse_quantity(str(value)) / unit)
                found[f"resource{resource.title()}{word}"] = str(value)
    if int(gpus := asked.get("limits", {}).get(GPU, 0)):
        found["accelerator"] = {"type": GPU, "count": str(gpus), "resourceType": GPU, "resourceCount": str(gpus)}
    return found


def _task(task: Task, made_by: Mapping[str, Task]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"parameters": {"parameters": {"runtimeValue": {"constant": task.parameters}}}}
    if task.inputs:
        inputs["artifacts"] = {
            name: {"taskOutputArtifact": {"producerTask": _dashed(maker), "outputArtifactKey": made_by[maker].output}}
            for name, maker in task.inputs.items()
        }
    # No caching: Kubeflow's cache goes by the tasks' names, not by the contents of the folders.
    made: dict[str, Any] = {"cachingOptions": {}, "componentRef": {"name": f"comp-{_dashed(task.step)}"}, "inputs": inputs}
    if before := list(dict.fromkeys(_dashed(step) for step in (*task.inputs.values(), *task.after))):
        made["dependentTasks"] = before
    return {**made, "taskInfo": {"name": _dashed(task.step)}}


def _platform(task: Task) -> dict[str, Any]:
    pod = task.pod
    if unknown := [key for key, value in pod.items() if value and key not in (*_KNOWN, *_LEFT_OUT)]:
        raise ConfigError(f"pod settings of {task.step}", f"{unknown[0]} has no Kubeflow equivalent", expected=", ".join(_KNOWN))
    found: dict[str, Any] = {
        "nodeSelector": {"labels": dict(pod["node_selectors"])} if pod.get("node_selectors") else None,
        "tolerations": [dict(item) for item in pod.get("tolerations", ())],
        "podMetadata": {key: dict(pod[key]) for key in ("labels", "annotations") if pod.get(key)},
        "imagePullSecret": [{"secretName": name} for name in pod.get("image_pull_secrets", ())],
        "secretAsEnv": list(_as_env(pod, "secret", SECRET_KEYS)),
        "configMapAsEnv": list(_as_env(pod, "configMap", CONFIG_KEYS)),
        "activeDeadlineSeconds": str(task.deadline) if task.deadline else None,
        **_mounts(task),
    }
    return {key: value for key, value in found.items() if value}


def _as_env(pod: Mapping[str, Any], kind: str, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The environment variables that a pod takes from a Secret or ConfigMap: single keys, or from a whole one those of ``keys`` it has."""

    def entry(source: Mapping[str, Any], names: Mapping[str, str], optional: bool) -> dict[str, Any]:
        # The name is given twice: for servers before 2.5, and for later ones.
        name, constant = f"{kind}Name", {"runtimeValue": {"constant": source["name"]}}
        taken = [{f"{kind}Key": key, "envVar": variable} for variable, key in names.items()]
        return {name: source["name"], f"{name}Parameter": constant, "keyToEnv": taken, "optional": optional}

    for item in pod.get("env", ()):
        if source := item.get("valueFrom", {}).get(f"{kind}KeyRef"):
            yield entry(source, {item["name"]: source["key"]}, bool(source.get("optional")))
    for item in pod.get("env_from", ()):
        if source := item.get(f"{kind}Ref"):
            yield entry(source, {key: key for key in keys}, True)


def _mounts(task: Task) -> dict[str, Any]:
    volumes = {volume["name"]: volume for volume in task.pod.get("volumes", ())}
    claims, folders = [], []
    for mount in task.pod.get("volume_mounts", ()):
        volume = volumes[mount["name"]]
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            constant = {"runtimeValue": {"constant": claim}}
            claims.append({"constant": claim, "pvcNameParameter": constant, "mountPath": mount["mountPath"]})
        elif "emptyDir" in volume:
            kept = {key: value for key, value in volume["emptyDir"].items() if key in ("medium", "sizeLimit")}
            folders.append({"volumeName": mount["name"], "mountPath": mount["mountPath"], **kept})
        else:
            expected = "a claim or an emptyDir"
            raise ConfigError(f"pod settings of {task.step}", f"the volume {mount['name']} has no Kubeflow equivalent", expected=expected)
    return {"pvcMount": claims, "emptyDirMounts": folders}
