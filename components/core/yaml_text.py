"""YAML as people mean it: of the plain words only ``true`` and ``false`` are booleans, and ``1e-4`` is a number (YAML 1.2)."""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where ``no`` and ``on`` are booleans, ``1e-4`` is text, and ``12:30`` a number."""


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
    """Plain Python from YAML: mappings, sequences, text, numbers, booleans and None, nothing else; yaml.YAMLError if it is not YAML."""
    return yaml.load(text, Loader=_Loader)
