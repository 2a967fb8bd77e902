"""Writes ``personalize`` as a Kubeflow pipeline, and runs single steps of it on plain folders, as its pods do."""

import inspect
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from components.cluster.kubeflow import Task, documents
from components.cluster.schedule_manifests import check_travels
from components.core.config import RunConfig
from components.core.errors import InputError, StorageError
from components.core.paths import write_text
from orchestration.environment import prepare_environment, set_source_root
from orchestration.settings import step_settings
from pipelines.names import PERSONALIZE

_FLAVOR = "orchestrator.kubernetes"


@dataclass(frozen=True)
class _Made:
    """A placeholder for a step's output, passed to the steps that read it."""

    step: str


def check_reach(config: RunConfig, settings: Mapping[str, Any]) -> None:
    """Refuse (InputError) a configuration that names a place which the pods described by ``settings`` cannot reach."""
    check_travels(config, config.style.source, _claims({step: _pod(settings, step) for step in PERSONALIZE}))


def write_pipeline(plan: dict[str, dict[str, Any]], out: Path, *, name: str, settings: Mapping[str, Any], image: str | None) -> list[str]:
    """Write a version 2 specification for one plan, without Kubeflow's SDK; return the steps' names in an order in which they can run.

    ``settings``, from a ``zenml.yaml``, describe the pods; ``image`` overrides theirs. Raises InputError for anything that the
    specification cannot express.
    """
    tasks = [
        Task(
            **call, image=image or _image(settings, call["step"]), pod=_pod(settings, call["step"]),
            deadline=step_settings(settings, call["step"], _FLAVOR).get("active_deadline_seconds"),
        )
        for call in _calls(plan)
    ]  # fmt: skip
    title = f"personalize-{name}".lower().replace("_", "-").replace(".", "-")
    write_text(out, _as_yaml(documents(title, "StyleForge: from a style's images to a scored and registered model", tasks)))
    return [task.step for task in tasks]


def _as_yaml(parts: Sequence[Mapping[str, Any]]) -> str:
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes YAML without anchors, which not all readers of such files support."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump_all(parts, Dumper=Plain, sort_keys=False, allow_unicode=True, width=140))


def _calls(plan: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Record how the pipeline connects its steps, without running anything."""
    set_source_root()
    from pipelines.personalize import connect_steps

    found: list[dict[str, Any]] = []

    def note(step: Any, *inputs: _Made, after: Sequence[_Made] = (), **parameters: Any) -> _Made:
        signature = inspect.signature(step.entrypoint, eval_str=True)
        names = list(signature.parameters)[: len(inputs)]
        found.append(
            {
                "step": step.name, "inputs": {name: item.step for name, item in zip(names, inputs, strict=True)},
                "output": get_args(signature.return_annotation)[1], "after": tuple(item.step for item in after),
                "parameters": json.dumps(parameters, ensure_ascii=False, sort_keys=True),
            }
        )  # fmt: skip
        return _Made(step.name)

    connect_steps(plan, note, 1, False)
    return found


def _pod(settings: Mapping[str, Any], step: str) -> dict[str, Any]:
    return dict(step_settings(settings, step, _FLAVOR).get("pod_settings") or {})


def _image(settings: Mapping[str, Any], step: str) -> str:
    found = step_settings(settings, step, "docker").get("parent_image")
    if not found:
        raise InputError(f"image of {step}", "is not known", expected="settings.docker.parent_image in zenml.yaml", remedy="give --image")
    return str(found)


def _claims(pods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the paths at which every pod mounts a volume that outlives it."""
    found = []
    for pod in pods.values():
        lasting = {volume["name"] for volume in pod.get("volumes", ()) if "persistentVolumeClaim" in volume}
        found.append({mount["mountPath"] for mount in pod.get("volume_mounts", ()) if mount["name"] in lasting})
    return sorted(set.intersection(*found))


def run_step(name: str, parameters: str, inputs: Sequence[str], out: Path) -> None:
    """Run one step of ``personalize`` in this process: ``parameters`` is a JSON object, ``inputs`` are ``name=folder``.

    Raises InputError for an unknown step, or for parameters or folders that it does not take.
    """
    if name not in PERSONALIZE:
        raise InputError(name, "is not a step", expected=", ".join(PERSONALIZE))
    prepare_environment()
    set_source_root()
    from pipelines.personalize import ALL_STEPS
    from steps.io import workspace
    from steps.io.artifacts import Folder

    function = next(step for step in ALL_STEPS if step.name == name).entrypoint
    values = {**_parameters(parameters), **{key: Folder(folder) for key, folder in _folders(inputs)}}
    try:
        inspect.signature(function).bind(**values)
    except TypeError as error:
        raise InputError(f"step {name}", str(error), expected=f"its parameters and folders {inspect.signature(function)}") from error
    finished: list[str] = []
    try:
        made = function(**values)
        if not made.path.is_dir():
            raise StorageError(str(made.path), "the step made no folder here", expected="a folder")
        shutil.copytree(made.path, out, dirs_exist_ok=True)
        finished = [name]
    finally:
        workspace.release(finished)


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError("--parameters", f"not JSON ({error})", expected="a JSON object") from error
    if not isinstance(found, dict):
        raise InputError("--parameters", f"holds a {type(found).__name__}", expected="a JSON object")
    return found


def _folders(inputs: Sequence[str]) -> list[tuple[str, Path]]:
    found = []
    for item in inputs:
        name, _, folder = item.partition("=")
        if not name or not folder or not Path(folder).is_dir():
            raise InputError(f"--input {item}", "is not a folder", expected="NAME=FOLDER")
        found.append((name, Path(folder)))
    return found
