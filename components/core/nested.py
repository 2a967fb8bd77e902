"""Mappings within mappings: merged, read and set by dotted keys."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with ``above`` laid over it: mappings go deep, all else (lists too) is replaced. Neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = deep_merge(lower if isinstance(lower, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged


def without(data: Mapping[str, Any], keys: Sequence[Any]) -> dict[str, Any]:
    """``data`` less what lies at the place that the keys name; the same where there is nothing, or a list is on the way."""
    first, *rest = keys
    if first not in data:
        return dict(data)
    if not rest or not isinstance(data[first], Mapping):
        return {key: value for key, value in data.items() if key != first}
    return {**data, first: without(data[first], rest)}


def set_at(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of ``data`` with ``value`` at the place that the keys name; TypeError where something on the way is no mapping."""
    first, *rest = keys
    if not rest:
        return {**data, first: value}
    below = data.get(first)
    if below is not None and not isinstance(below, Mapping):
        raise TypeError(f"{first} is not a section")
    return {**data, first: set_at(below or {}, rest, value)}


def leaves(value: Any, name: str = "", *, into_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping with its dotted name; ``into_lists`` what lies in a list too, by the list's name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else str(key), into_lists=into_lists)
    elif into_lists and isinstance(value, list):
        for item in value:
            yield from leaves(item, name, into_lists=True)
    else:
        yield name, value
