"""Values from the environment in our YAML files: ``${NAME}``, and ``${NAME:-default}`` where it may be unset."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from components.core.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(value: Any, where: str, environment: Mapping[str, str] = os.environ) -> Any:
    """A value of a parsed file with each reference in its strings replaced; keys stay as they are.

    As in a shell, a variable that is set to nothing counts as unset; ConfigError, which names the file ``where``, if it has no default.
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
