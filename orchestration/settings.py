"""Reads ``zenml.yaml``, which says where each step runs. ZenML ignores unknown entries there, so we check it strictly."""

import importlib
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from components.core.config import explain, read_yaml_mapping
from components.core.content import digest_file, digest_value
from components.core.errors import ConfigError
from components.core.nested import deep_merge
from components.core.paths import REPOSITORY, state, write_json
from components.core.suggest import did_you_mean
from components.core.yaml_text import expand
from pipelines.names import STEPS

TOP_KEYS = ("settings", "steps")
STEP_KEYS = ("enable_cache", "retry", "settings", "step_operator")
POD_ORCHESTRATORS = ("kubernetes", "kubeflow")
"""Orchestrator flavors that run each step in a pod."""
_KUBERNETES = "zenml.integrations.kubernetes.flavors"
# The settings keys that ZenML knows, each with the module and class of its model.
SETTINGS = {
    "docker": ("zenml.config.docker_settings", "DockerSettings"),
    "resources": ("zenml.config.resource_settings", "ResourceSettings"),
    "orchestrator.kubernetes": (f"{_KUBERNETES}.kubernetes_orchestrator_flavor", "KubernetesOrchestratorSettings"),
    "orchestrator.kubeflow": ("zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor", "KubeflowOrchestratorSettings"),
    "orchestrator.local_docker": ("zenml.orchestrators.local_docker.local_docker_orchestrator", "LocalDockerOrchestratorSettings"),
    "step_operator.kubernetes": (f"{_KUBERNETES}.kubernetes_step_operator_flavor", "KubernetesStepOperatorSettings"),
}
RETRY = ("zenml.config.retry_config", "StepRetryConfig")


def default_settings_file() -> Path | None:
    """Return the project's own ``zenml.yaml``, or None if it does not exist."""
    path = REPOSITORY / "zenml.yaml"
    return path if path.is_file() else None


def settings_for(path: Path, flavors: Collection[str], steps: Collection[str] | None = None) -> Path:
    """Write a file for ZenML with those settings of ``path`` that apply to a stack with these ``flavors``, and variables filled in.

    ``flavors`` are written like ``orchestrator.kubernetes``. ``steps`` are those of the pipeline (None: all), since ZenML would warn
    about others. Raises the same errors as :func:`check_settings`.
    """
    data = check_settings(path)
    kept = {name: _for_stack(step, flavors) for name, step in data["steps"].items() if steps is None or name in steps}
    resolved = {**_for_stack({"settings": data.get("settings")}, flavors), "steps": kept}
    file = state("cache", "settings") / f"{digest_value(resolved)[:24]}.yaml"
    write_json(file, resolved)  # JSON is YAML.
    return file


def step_settings(settings: Mapping[str, Any], step: str | None, key: str) -> dict[str, Any]:
    """Return one settings key of a checked file for one step, whose own settings override the general ones, as ZenML merges them."""
    above = ((settings.get("steps") or {}).get(step) or {}).get("settings") or {}
    return deep_merge((settings.get("settings") or {}).get(key) or {}, above.get(key) or {})


def _for_stack(section: Mapping[str, Any], flavors: Collection[str]) -> dict[str, Any]:
    """Keep what applies to a stack; if steps run in this process, drop retries, which would only swallow Ctrl-C."""
    here = "orchestrator.local" in flavors and not any(flavor.startswith("step_operator.") for flavor in flavors)
    settings = section.get("settings") or {}
    taken = {key: value for key, value in settings.items() if (key in flavors if "." in key else not (here and key == "docker"))}
    rest = {key: value for key, value in section.items() if key != "settings" and not (here and key == "retry")}
    return {**rest, **({"settings": taken} if taken else {})}


def check_settings(path: Path) -> dict[str, Any]:
    """Read ``zenml.yaml``, fill in environment variables, and refuse whatever ZenML would silently ignore.

    Raises InputError for a missing file or invalid YAML, and ConfigError for an unknown step or key, a wrong type, or an unset
    variable. A file that has passed once is not checked again: importing ZenML's models takes longer than the rest of a cached run.
    """
    data = expand(read_yaml_mapping(path), str(path))
    passed = state("cache", "settings") / f"{digest_value([data, STEPS, version('zenml'), digest_file(Path(__file__))])[:24]}.passed"
    if not passed.is_file():
        _check(path, data)
        passed.touch()
    return {**data, "steps": data.get("steps") or {}}


def _check(path: Path, data: Mapping[str, Any]) -> None:
    _known(path, "", data, TOP_KEYS, "key")
    _check_all(path, "settings", data.get("settings"))
    steps = _mapping(path, "steps", data.get("steps"))
    _known(path, "steps.", steps, STEPS, "step")
    for name, section in steps.items():
        step = _mapping(path, f"steps.{name}", section)
        _known(path, f"steps.{name}.", step, STEP_KEYS, "key")
        if not isinstance(step.get("enable_cache", True), bool):
            raise _wrong(path, f"steps.{name}.enable_cache", step["enable_cache"], "true or false")
        if not isinstance(step.get("step_operator", ""), str | bool):
            raise _wrong(path, f"steps.{name}.step_operator", step["step_operator"], "the name of a step operator")
        if "retry" in step:
            _check_model(path, f"steps.{name}.retry", RETRY, step["retry"])
        _check_all(path, f"steps.{name}.settings", step.get("settings"))


def _check_all(path: Path, where: str, section: Any) -> None:
    settings = _mapping(path, where, section)
    _known(path, f"{where}.", settings, tuple(SETTINGS), "settings key")
    for key, value in settings.items():
        _check_model(path, f"{where}.{key}", SETTINGS[key], value)


def _check_model(path: Path, where: str, kind: tuple[str, str], section: Any) -> None:
    module, name = kind
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    values = _mapping(path, where, section)
    _known_fields(path, where, model, values)
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(str(path), explain(model, first, [where]), expected=f"what ZenML's {name} accepts") from error


def _known_fields(path: Path, where: str, model: type[BaseModel], values: Mapping[str, Any]) -> None:
    # Pydantic's extra="forbid" would not help: ZenML's models drop unknown keys before that check.
    _known(path, f"{where}.", values, tuple(model.model_fields), "key")
    for key, value in values.items():
        annotation = model.model_fields[key].annotation
        candidates = (item for item in (annotation, *get_args(annotation)) if isinstance(item, type))
        nested = next((item for item in candidates if issubclass(item, BaseModel)), None)
        if nested is not None and isinstance(value, Mapping):
            _known_fields(path, f"{where}.{key}", nested, value)


def _mapping(path: Path, where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(path, where, value, "a mapping")
    return value


def _known(path: Path, prefix: str, found: Iterable[Any], known: tuple[str, ...], kind: str) -> None:
    for key in found:
        if key not in known:
            listing = ", ".join(known) if len(known) <= 12 else f"{len(known)} known ones"
            raise ConfigError(str(path), f"unknown {kind} {prefix}{key}{did_you_mean(key, known, prefix)}", expected=listing)


def _wrong(path: Path, where: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(str(path), f"{where}={value!r}", expected=expected)
