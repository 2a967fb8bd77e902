"""Write settings into a user's configuration file, keeping its comments, order and layout."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.config.files import read_yaml_mapping
from components.core.errors import ConfigError
from components.core.paths import atomic_file, storage_errors


def write_settings(path: Path, section: str, values: Mapping[str, Any]) -> None:
    """Set fields of one section of a YAML file, atomically; a missing section is added at the end.

    Raises InputError if the file is missing or not a YAML mapping, ConfigError if the section is not a mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    read_yaml_mapping(path)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    data = yaml.load(path.read_text(encoding="utf-8"))
    if data.get(section) is None:
        data[section] = CommentedMap()
    if not isinstance(data[section], dict):
        raise ConfigError(f"{path}: {section}", f"holds {data[section]!r}", expected="a mapping")
    data[section].update(values)
    text = io.StringIO()
    yaml.dump(data, text)
    with storage_errors(path), atomic_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
