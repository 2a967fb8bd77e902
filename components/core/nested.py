"""Nested mappings: merged, read and set by dotted keys."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``above`` over ``below``: mappings are merged recursively, all else (lists too) is replaced. Neither argument is changed."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = deep_merge(lower if isinstance(lower, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged


def without(data: Mapping[str, Any], keys: Sequence[Any]) -> dict[str, Any]:
    """A copy of ``data`` without the value that the keys lead to, if any; a list or other non-mapping on the way is removed whole."""
    first, *rest = keys
    if first not in data:
        return dict(data)
    if not rest or not isinstance(data[first], Mapping):
        return {key: value for key, value in data.items() if key != first}
    return {**data, first: without(data[first], rest)}


def set_at(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of ``data`` with ``value`` at the place that the keys lead to; TypeError if something on the way is not a mapping."""
    first, *rest = keys
    if not rest:
        return {**data, first: value}
    below = data.get(first)
    if below is not None and not isinstance(below, Mapping):
        raise TypeError(f"{first} is not a section")
    return {**data, first: set_at(below or {}, rest, value)}


def leaves(value: Any, name: str = "", *, into_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield each value that is not a mapping with its dotted name; with ``into_lists``, a list's items instead, under the list's name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else str(key), into_lists=into_lists)
    elif into_lists and isinstance(value, list):
        for item in value:
            yield from leaves(item, name, into_lists=True)
    else:
        yield name, value
