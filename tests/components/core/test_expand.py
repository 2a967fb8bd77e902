import pytest

from components.core.errors import ConfigError
from components.core.yaml_text import expand


def test_references_are_replaced_wherever_a_string_is() -> None:
    value = {"a": ["${ONE}", {"b": "x-${TWO:-two}-${ONE}"}], "${ONE}": 3, "c": None, "d": "$ONE and ${{ image }}"}
    assert expand(value, "file", {"ONE": "1"}) == {"a": ["1", {"b": "x-two-1"}], "${ONE}": 3, "c": None, "d": "$ONE and ${{ image }}"}


def test_empty_counts_as_unset_and_a_default_may_be_empty() -> None:
    assert expand("${A:-b}${C:-}", "file", {"A": ""}) == "b"


def test_what_is_unset_is_named() -> None:
    with pytest.raises(ConfigError, match=r"stack.yaml.*\$\{BUCKET\}.*not set"):
        expand({"path": "s3://${BUCKET}"}, "stack.yaml", {})
    with pytest.raises(ConfigError, match="BUCKET"):
        expand("${BUCKET}", "stack.yaml", {"BUCKET": ""})
