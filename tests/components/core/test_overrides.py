from operator import attrgetter
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from components.core.config import RunConfig, Section, load_config, parse_config
from components.core.errors import ConfigError
from components.core.nested import deep_merge, set_at
from components.core.overrides import apply_overrides

STYLE = {"style": {"name": "glow", "source": "data/glow"}}


def literals(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Every word that a field of the configuration takes from a list, with its dotted key."""
    found = []
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                found += literals(kind, f"{prefix}{name}.") if kind is field.annotation else []
            elif get_origin(kind) is Literal:
                found += [(prefix + name, word) for word in get_args(kind)]
    return found


@pytest.mark.parametrize(("key", "word"), literals(RunConfig))
def test_every_word_of_a_list_can_be_typed_and_written(key: str, word: str, tmp_path: Any) -> None:
    value = attrgetter(key)
    # One word of a field that takes several is a list of one.
    asked = ["rights.licenses=[any]"] if key.startswith("rights.") else []
    assert value(parse_config(STYLE, overrides=[*asked, f"{key}={word}"])) in (word, (word,))
    file = tmp_path / "run.yaml"
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.split("."))]
    file.write_text("style: {name: glow, source: data/glow}\n" + "\n".join(lines) + f" {word}\n")
    assert value(load_config(file, asked)) in (word, (word,))


TYPED = ["no", "on", "true", "null", "1e-4", "007", "1.50", "12:30", "2024-01-01", "{token}, {prompt}", "[low, flat", "a: b", "rain # dust"]


@pytest.mark.parametrize("text", TYPED)
def test_text_is_what_was_typed(text: str) -> None:
    assert parse_config(STYLE, overrides=[f"sampling.negative_prompt={text}"]).sampling.negative_prompt == text
    if text != "null":
        assert parse_config(STYLE, overrides=[f"aux.prompt={text}"]).aux.prompt == text


@pytest.mark.parametrize(
    ("typed", "section", "field", "value"),
    [
        ("aux.prompt=null", "aux", "prompt", None),
        ("aux.prompt=", "aux", "prompt", None),
        ("sampling.negative_prompt=", "sampling", "negative_prompt", ""),
        ("sampling.negative_prompt='null'", "sampling", "negative_prompt", "null"),
        ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
        ("training.flip=1", "training", "flip", 1.0),
        ("training.compile=no", "training", "compile", False),
        ("training.adam_betas=[0.8, 99e-2]", "training", "adam_betas", (0.8, 0.99)),
        ("attention.words=[no, on, 12]", "attention", "words", ("no", "on", "12")),
    ],
)
def test_values_are_read_as_their_field_is(typed: str, section: str, field: str, value: Any) -> None:
    assert getattr(getattr(parse_config(STYLE, overrides=[typed]), section), field) == value


def test_a_malformed_override_says_what_is_wrong() -> None:
    for bad, said in (("steps", "a.b=value"), ("training.=1", "a.b=value"), ("training.crops=[1", "not YAML"), ("seed.x=1", "seed is not")):
        with pytest.raises(ConfigError, match=said):
            parse_config({**STYLE, "seed": 1}, overrides=[bad])


def test_overrides_change_nothing_that_was_given() -> None:
    data = {"training": {"steps": 1}}
    assert apply_overrides(data, ["training.steps=2", "training.flip=0"], RunConfig) == {"training": {"steps": 2, "flip": 0}}
    assert apply_overrides(data, ["training={flip: 0}"], RunConfig) == {"training": {"flip": 0}}
    assert data == {"training": {"steps": 1}}


def test_mappings_merge_deep_and_all_else_is_replaced() -> None:
    below = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert deep_merge(below, {"a": {"c": [2], "e": {"f": 1}}, "d": {"g": 1}}) == {"a": {"b": 1, "c": [2], "e": {"f": 1}}, "d": {"g": 1}}
    assert set_at(below, ["a", "x", "y"], 3) == {"a": {"b": 1, "c": [1], "x": {"y": 3}}, "d": 1}
    assert below == {"a": {"b": 1, "c": [1]}, "d": 1}
