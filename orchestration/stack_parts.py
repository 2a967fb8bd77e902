"""Checks the parts of a stack definition against their flavors, and finds the parts of the same names in ZenML."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.cluster.stacks import Component, is_secret_reference, plain_secret
from components.core.errors import ConfigError, GateRefused, InputError
from components.core.suggest import did_you_mean

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.enums import StackComponentType
    from zenml.models import ComponentResponse
    from zenml.stack import StackComponentConfig

# Packages needed to run on a flavor; registering it does not need them.
_PACKAGES = {"s3": ("s3fs",), "kubernetes": ("kubernetes",), "kubeflow": ("kfp",)}
_REMEDIES = {
    "s3fs": "install styleforge with its extra `cluster`",
    "kubernetes": "reinstall styleforge",
    "kfp": "see docs/how-to/stacks.md",
}


@dataclass(frozen=True)
class Part:
    """A checked part of a definition: ``configuration`` is as ZenML would store it, ``there`` what ZenML has of that name."""

    kind: StackComponentType
    name: str
    flavor: str
    configuration: dict[str, Any]
    there: ComponentResponse | None

    def differing(self) -> tuple[str, ...]:
        """Return the configuration fields that differ from what ZenML has stored."""
        stored = self.there.configuration if self.there else {}
        return tuple(sorted(key for key in stored.keys() | self.configuration.keys() if stored.get(key) != self.configuration.get(key)))


def check_part(client: Client, where: str, kind: str, name: str, component: Component) -> Part:
    """Check a part of a definition; ``where`` names the definition in errors, ``kind`` is a type such as ``artifact_store``.

    Raises ConfigError for an unknown flavor or setting, InputError if ZenML cannot load the flavor, and GateRefused if ZenML has a
    part of that type and name with another flavor.
    """
    from zenml.enums import StackComponentType

    component_type = StackComponentType(kind)
    place = f"components.{kind}"
    configuration = _configuration(client, where, place, component_type, component)
    there = _find_component(client, component_type, name)
    if there is not None and there.flavor_name != component.flavor:
        raise GateRefused(
            f"{kind} {name}", f"ZenML has one of the flavor {there.flavor_name}, but the definition wants {component.flavor}",
            remedy=f"give it another name with --set {place}.name=..., or delete ZenML's: `zenml {kind.replace('_', '-')} delete {name}`",
        )  # fmt: skip
    stored = json.loads(configuration.model_dump_json(exclude_unset=True))
    return Part(component_type, name, component.flavor, {key: value for key, value in stored.items() if value is not None}, there)


def _configuration(client: Client, where: str, place: str, kind: StackComponentType, component: Component) -> StackComponentConfig:
    """Validate the configuration with the flavor's own model."""
    from pydantic import ValidationError

    model = _flavor(client, where, place, kind, component.flavor)
    for key in component.configuration:
        if key not in model.model_fields:
            problem = f"unknown key {place}.configuration.{key}{did_you_mean(key, model.model_fields)}"
            raise ConfigError(where, problem, expected=f"a key of the flavor {component.flavor}")
    _refuse_secrets(where, place, model, component.configuration)
    try:
        return model(**component.configuration)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field_place = ".".join([place, "configuration", *map(str, first["loc"])])
        raise ConfigError(where, f"{field_place}: {first['msg']}", expected=f"what the flavor {component.flavor} accepts") from error
    except Exception as error:  # ZenML's own checks raise exceptions of any class.
        said = " ".join(str(error).split())
        raise ConfigError(where, f"{place}.configuration: {said}", expected=f"what the flavor {component.flavor} accepts") from error


def _flavor(client: Client, where: str, place: str, kind: StackComponentType, name: str) -> type[StackComponentConfig]:
    from zenml.stack.flavor import Flavor

    try:
        return Flavor.from_model(client.get_flavor_by_name_and_type(name=name, component_type=kind)).config_class
    except KeyError as error:
        known = sorted(item.name for item in client.list_flavors(type=kind, size=200))
        hint = did_you_mean(name, known)
        raise ConfigError(where, f"{place}.flavor={name!r}: ZenML knows no such flavor{hint}", expected=", ".join(known)) from error
    except ImportError as error:
        remedy = f"`zenml integration requirements {name}` names the packages that it needs"
        raise InputError(f"{place}.flavor={name}", f"ZenML cannot load it ({error})", remedy=remedy) from error


def _refuse_secrets(where: str, place: str, model: type[StackComponentConfig], configuration: Mapping[str, Any]) -> None:
    from zenml.utils.secret_utils import is_secret_field

    for key, value in configuration.items():
        if is_secret_field(model.model_fields[key]) and not is_secret_reference(value):
            raise plain_secret(where, f"{place}.configuration.{key}")


def _find_component(client: Client, kind: StackComponentType, name: str) -> ComponentResponse | None:
    return next(iter(client.list_stack_components(name=name, type=kind, size=1, hydrate=True)), None)


def obstacles(client: Client, parts: Sequence[Part]) -> list[str]:
    """Return what prevents running on the stack, but not registering it, one message each."""
    found = [line for part in parts for line in _obstacles_of(client, part)]
    remote = any(part.kind.value == "orchestrator" and not part.flavor.startswith("local") for part in parts)
    if remote and client.zen_store.is_local_store():
        found.append("ZenML's records are on this machine, where no pod can reach them: log in to a server (docs/how-to/stacks.md)")
    return found


def _obstacles_of(client: Client, part: Part) -> Iterator[str]:
    for package in _PACKAGES.get(part.flavor, ()):
        if importlib.util.find_spec(package) is None:
            yield f"{package} is not installed here, so {part.kind.value} {part.name} cannot be used from here; {_REMEDIES[package]}"
    for name in _secrets(part):
        if not _has_secret(client, name):
            yield f"ZenML has no secret {name}: make it with `zenml secret create {name} ...`"


def _secrets(part: Part) -> list[str]:
    from zenml.utils.secret_utils import parse_secret_reference

    named = [parse_secret_reference(value).name for value in part.configuration.values() if is_secret_reference(value)]
    return sorted({*named, *filter(None, [part.configuration.get("authentication_secret")])})


def _has_secret(client: Client, name: str) -> bool:
    try:
        client.get_secret_by_name_and_private_status(name)
    except KeyError:
        return False
    return True
