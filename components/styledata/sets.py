"""Style sets side by side in one place: each sub-folder of a folder or bucket is one, named as the folder is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from components.core.config import StyleSection, validate_model
from components.core.errors import ConfigError, InputError
from components.styledata.source import list_folders, read_beside

SETTINGS = "styleforge.yaml"
"""File in a set with settings for that set alone."""
OPEN_SECTIONS = ("seed", "aux", "method", "training", "sampling", "attention")
"""What a set may say of itself. Not where models are registered, nor which files of weights are read: who may put pictures into
a bucket need not be one who may decide that."""


@dataclass(frozen=True)
class Place:
    """A set: its name, and the folder or URL of its pictures."""

    name: str
    location: str

    def check(self) -> None:
        """Raise ConfigError unless the folder's name can be a style's."""
        validate_model(StyleSection, {"name": self.name, "source": self.location}, self.location)


def list_sets(source: str) -> list[Place]:
    """The sub-folders of ``source``, by name; files and hidden folders are passed over.

    Raises:
        InputError: the place is missing, is a file or an archive, or has no sub-folder.
        ServiceUnreachable: the store does not answer, or refuses access.
    """
    if "::" in source:
        raise InputError(source, "is inside of an archive", expected="a folder or bucket with a sub-folder for each style set")
    names = list_folders(source)
    if not names:
        raise InputError(
            source, "has no sub-folders", expected="a sub-folder for each style set", remedy="give the folder above the style set's own"
        )
    return [Place(name, f"{source.rstrip('/')}/{name}") for name in names]


def read_settings(place: Place) -> Mapping[str, Any]:
    """The settings in the set's ``styleforge.yaml``, by section; empty where there is no such file.

    Raises:
        ConfigError: it is not YAML, no mapping, or has a section that a set may not decide.
        ServiceUnreachable: the store does not answer, or refuses access.
    """
    data = read_beside(place.location, SETTINGS)
    if data is None:
        return {}
    where = str(PurePosixPath(place.name) / SETTINGS)
    try:
        found = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(where, f"not YAML ({' '.join(str(error).split())})", expected="a YAML mapping of sections") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(where, f"holds a {type(found).__name__}", expected="a YAML mapping of sections")
    if closed := [str(key) for key in found if key not in OPEN_SECTIONS]:
        raise ConfigError(
            where, f"a set cannot decide {', '.join(closed)}", expected=f"only {', '.join(OPEN_SECTIONS)}", remedy="set it for all sets"
        )
    return found
