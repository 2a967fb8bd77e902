"""Pydantic's errors as one message, which names the key and, if it is unknown, the nearest known one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from components.core.errors import ConfigError
from components.core.nested import without
from components.core.suggest import did_you_mean

Model = TypeVar("Model", bound=BaseModel)
_REMEDY = "see docs/reference/configuration.md, or run `styleforge config`"


def validate_model(model: type[Model], data: Mapping[str, Any], where: str, *, remedy: str = _REMEDY) -> Model:
    """Build a pydantic model; all its errors become one :class:`ConfigError`."""
    problems: list[str] = []
    rest, found = dict(data), None
    while found is None:
        try:
            found = model.model_validate(rest)
        except ValidationError as error:
            items = error.errors(include_url=False)
            # Invalid fields keep pydantic from checking how the others go together, so it is run again without them.
            problems += [explain(model, item) for item in items if not problems or not item["loc"]]
            before = rest
            for item in items:
                rest = without(rest, item["loc"]) if item["loc"] else rest
            if rest == before:
                break
    if found is not None and not problems:
        return found
    wrong = ConfigError(where, "; ".join(problems), remedy=remedy)
    wrong.usable = found
    raise wrong


def explain(model: type[BaseModel], item: Any, place: Sequence[str] = ()) -> str:
    """One of pydantic's errors in our own words; ``place`` is the model's place in the file."""
    location = [str(part) for part in item["loc"]]
    dotted = ".".join([*place, *location])
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return f"unknown key {dotted}" + did_you_mean(location[-1], known, "".join(f"{part}." for part in [*place, *location[:-1]]))
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{dotted} is missing"
    if not dotted:
        return message
    if message.startswith("must not contain a user name"):
        return f"{dotted}: {message}"
    if isinstance(item["input"], Mapping) and re.match(r"[\w.]+: ", message):
        return f"{dotted}.{message}"
    hint = did_you_mean(item["input"], re.findall(r"'([^']*)'", message)) if item["type"] == "literal_error" else ""
    return f"{dotted}={item['input']!r}: {message[0].lower()}{message[1:]}{hint}"


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for key in path:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)
