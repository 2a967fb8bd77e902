"""YAML as people expect it (1.2: only ``true`` and ``false`` are booleans, ``1e-4`` is a number), with values from the environment."""

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from components.core.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml is not in every build
    """Reads YAML 1.2; PyYAML itself reads 1.1, where ``no`` and ``on`` are booleans, ``1e-4`` is text, and ``12:30`` a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in (f"{_TAG}null", f"{_TAG}merge")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.Inf)|\.nan|\.NaN)$"),
    list("-+.0123456789"),
)


def load_yaml(text: str) -> Any:
    """Parse YAML to plain Python: only mappings, lists, text, numbers, booleans and None; yaml.YAMLError if it is not YAML."""
    return yaml.load(text, Loader=_Loader)


def expand(value: Any, where: str, environment: Mapping[str, str] = os.environ) -> Any:
    """Replace each ``${NAME}`` or ``${NAME:-default}`` in the strings of a parsed file's value; keys stay as they are.

    As with ``:-`` in a shell, an empty variable counts as unset. Raises ConfigError, naming the file ``where``, for one without a default.
    """
    if isinstance(value, Mapping):
        return {key: expand(item, where, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, where, environment) for item in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name, default = found.group(1), found.group(2)
        given = environment.get(name) or default
        if given is None:
            raise ConfigError(where, f"${{{name}}}: the variable is not set", expected=f"a value in ${name}", remedy=f"export {name}=...")
        return given

    return _REFERENCE.sub(replace, value)
