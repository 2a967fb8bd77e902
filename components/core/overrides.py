"""``--set A.B=VALUE``, for every command that takes it."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from components.core.errors import ConfigError
from components.core.nested import set_at
from components.core.yaml_text import load_yaml

_EXAMPLE = "training.steps=200"


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str], model: type[BaseModel], example: str = _EXAMPLE) -> dict[str, Any]:
    """``data`` with each ``A.B=VALUE`` set in turn; ``model`` says which fields are text. ConfigError for what cannot be set."""
    merged = dict(data)
    for override in overrides:
        keys, value = parse_override(override, model, example)
        try:
            merged = set_at(merged, keys, value)
        except TypeError as error:
            raise ConfigError(f"--set {override}", str(error), expected=f"a dotted key such as {example.partition('=')[0]}") from error
    return merged


def parse_override(override: str, model: type[BaseModel], example: str = _EXAMPLE) -> tuple[list[str], Any]:
    """Keys and value of ``A.B=VALUE``, else ConfigError.

    For a text field the value is taken literally, unless it is quoted or (where the field may be null) null; otherwise it is read as YAML.
    """
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override}", "not of the form a.b=value", expected=f"for example {example}")
    kinds = _kinds(_annotation(model, keys))
    plain = text.strip()
    if str in kinds and plain[:1] not in ("'", '"') and not (NoneType in kinds and plain.lower() in ("", "~", "null")):
        return keys, plain
    try:
        return keys, load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}", "the value is not YAML", expected=f"for example {example}") from error


def _annotation(model: type[BaseModel], keys: Sequence[str]) -> Any:
    """The type of the field that the keys name; Any where the model does not say."""
    found: Any = model
    for key in keys:
        section = next((kind for kind in _kinds(found) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is None or key not in section.model_fields:
            return Any
        found = section.model_fields[key].annotation
    return found


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation admits, with unions and literals split up."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if origin in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    return {annotation}
