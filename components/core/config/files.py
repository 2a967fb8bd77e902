"""Configuration files of all kinds: found by path or name, and merged over those that they extend."""

import re
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import ConfigError, InputError
from components.core.nested import deep_merge
from components.core.paths import REPOSITORY
from components.core.suggest import did_you_mean
from components.core.yaml_text import load_yaml

SHIPPED = REPOSITORY / "configs"
EXTENDS = "extends"
"""Key by which a configuration names another that it is merged over."""


def builtin_config(name: str) -> Path:
    """Path of a configuration that ships with the project."""
    return SHIPPED / f"{name}.yaml"


def find_config(name: str | Path, folder: Path = Path(), besides: Path | None = None) -> Path:
    """Find the file that ``name`` refers to: a path, a file of that name in ``folder``, or one shipped with StyleForge; else InputError.

    ``besides`` is the file in which the name stands; it is never returned.
    """
    candidates = [folder / Path(name).expanduser(), folder / f"{name}.yaml"]
    if Path(name).name == str(name):
        candidates.append(builtin_config(str(name).removesuffix(".yaml")))
    for path in candidates:
        if path.is_file() and (besides is None or path.resolve() != besides.resolve()):
            return path
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    problem = f"no such file or configuration{did_you_mean(Path(name).stem, shipped)}"
    raise InputError(str(name), problem, expected=f"a YAML file, or one of {', '.join(shipped)}")


def read_config(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read a configuration: its path, and its data merged over what it extends.

    Raises InputError for a file that is missing or not YAML, ConfigError if files extend one another in a circle.
    """
    path = find_config(name)
    return path, _extended(path, ())


def config_text(name: str | Path) -> str:
    """A configuration as one self-contained text: the file's own, or, if it extends another, the merged result as YAML."""
    text = find_config(name).read_text(encoding="utf-8")
    if not re.search(rf"^{EXTENDS}\s*:", text, re.MULTILINE):
        return text
    return yaml.safe_dump(read_config(name)[1], sort_keys=False, allow_unicode=True)


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        chain = " → ".join(str(item) for item in (*above, path.resolve()))
        raise ConfigError(str(path), f"{EXTENDS} is circular: {chain}", expected="a chain that ends at a complete configuration")
    data = read_yaml_mapping(path)
    if EXTENDS not in data:
        return data
    below = data.pop(EXTENDS)
    if not isinstance(below, str):
        raise ConfigError(str(path), f"{EXTENDS}={below!r}", expected="the path or name of one configuration")
    return deep_merge(_extended(find_config(below, path.parent, besides=path), (*above, path.resolve())), data)


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping."""
    if not path.is_file():
        raise InputError(str(path), "no such file", expected="a YAML configuration", remedy="start from one in configs/")
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not YAML ({' '.join(str(error).split())})", expected="a YAML mapping") from error
    if not isinstance(data, dict):
        raise InputError(str(path), f"holds a {type(data).__name__}", expected="a YAML mapping of sections such as style: and training:")
    return data
