from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.comparison import load_comparison
from components.core.config import RunConfig, builtin_config, config_text, find_config, load_config, parse_config
from components.core.errors import ConfigError, InputError
from components.registry.gate import load_gate

STYLE = {"style": {"name": "anime", "source": "pictures"}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"style": {"name": "a", "source": "b"}, "trainig": {}}, r"unknown key trainig \(did you mean training\?\)"),
        ({**STYLE, "training": {"stepz": 3}}, r"unknown key training\.stepz \(did you mean training\.steps\?\)"),
        ({**STYLE, "training": {"steps": "many"}}, r"training\.steps='many': input should be a valid integer"),
        ({**STYLE, "training": {"steps": 0}}, r"training\.steps=0: input should be greater than or equal to 1"),
        ({**STYLE, "method": {"name": "dreambooht"}}, r"method\.name='dreambooht': .*did you mean dreambooth\?"),
        ({"style": {"name": "a"}}, r"style\.source is missing"),
        ({"style": {"name": "a/b", "source": "c"}}, r"style\.name='a/b'"),
        ({**STYLE, "method": {"instance_prompt": "a photo"}}, r"method\.instance_prompt: must contain \{token\}"),
        ({**STYLE, "sampling": {"style_template": "x"}}, r"sampling\.style_template: must contain \{token\} and \{prompt\}"),
        ({**STYLE, "sampling": {"plain_template": "{token} {prompt}"}}, r"sampling\.plain_template: must contain \{prompt\} but not"),
    ],
)
def test_a_wrong_configuration_is_one_message(data: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(data, where="run.yaml")
    assert str(caught.value).startswith("run.yaml: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("field", ["style.source", "style.reference", "aux.pool", "registry.tracking_uri"])
def test_credentials_are_refused_and_not_repeated(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}: must not contain a user name or password") as caught:
        parse_config(STYLE, overrides=[f"{field}=https://me:hunter2@host/path"])
    assert "hunter2" not in str(caught.value)
    assert parse_config(STYLE, overrides=[f"{field}=s3://bucket/folder@2"]).style.name == "anime"


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file or configuration"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(InputError, match="holds a list; expected a YAML mapping"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\n")
    with pytest.raises(InputError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")


@settings(deadline=None)
@given(steps=st.integers(1, 10**6), rate=st.floats(1e-8, 1.0), seed=st.integers(0, 2**31))
def test_a_configuration_survives_the_way_through_yaml(steps: int, rate: float, seed: int) -> None:
    config = parse_config({**STYLE, "seed": seed, "training": {"steps": steps, "learning_rate": rate}})
    again = RunConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
    assert again.digest() == config.digest()


def test_the_digest_tells_settings_apart() -> None:
    assert parse_config(STYLE).digest() != parse_config({**STYLE, "seed": 1}).digest()
    assert parse_config(STYLE).model_name == "styleforge-anime"


def test_a_configuration_extends_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: sd15\nstyle: {name: glow}\nattention: {words: [lamp]}\n")
    (tmp_path / "own.yaml").write_text("extends: base.yaml\ntraining: {steps: 7}\nattention: {words: [moon]}\n")
    config, shipped = load_config(tmp_path / "own.yaml"), load_config("sd15")
    assert (config.style.name, config.training.steps, config.attention.words) == ("glow", 7, ("moon",))
    assert config.base == shipped.base and config.training.learning_rate == shipped.training.learning_rate
    assert yaml.safe_load(config_text(tmp_path / "own.yaml"))["training"]["mixed_precision"] == "bf16"
    assert config_text(tmp_path / "base.yaml") != (tmp_path / "base.yaml").read_text() and config_text("sd15").startswith("# Single")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: b", "b": "extends: a"}, "is circular"),
        ({"a": "extends: a"}, "no such file or configuration"),
        ({"a": "extends: pockat"}, r"did you mean pocket\?.*sd15"),
        ({"a": "extends: [b]"}, r"extends=\['b'\]"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(tmp_path / "a.yaml")


def test_a_name_is_a_file_here_or_one_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("pocket") == builtin_config("pocket") and load_gate(Path("gate")).rules
    (tmp_path / "pocket.yaml").write_text("extends: pocket\nseed: 5\n")
    assert load_config("pocket").seed == 5 and load_config("pocket").style.name == "anime"
    (tmp_path / "duel.yaml").write_text("extends: compare-pocket-quick\nname: duel\n")
    assert load_comparison("duel").run["seed"] == 5
    with pytest.raises(InputError, match=r"pocktt: no such file or configuration \(did you mean pocket\?\)"):
        load_config("pocktt")
