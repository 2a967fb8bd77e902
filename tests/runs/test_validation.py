from pathlib import Path

import pytest
from PIL import Image

from components.core.errors import InputError
from runs.validation import all_problems, validate_style


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for index in range(3):
        Image.effect_noise((64, 64), 20 + index).convert("RGB").save(tmp_path / "set" / f"{index}.png")
    (tmp_path / "set" / "broken.png").write_bytes(b"no picture")
    file = tmp_path / "run.yaml"
    file.write_text(f"style: {{name: glow, source: {tmp_path / 'set'}}}\ntraining: {{stepz: 3, crops: 0}}\n")
    return file


WRONG = ["base.model=./gone", "method.instance_prompt=a photo"]
SAID = ["training.stepz (did you mean training.steps?)", "training.crops=0", "aux.pool", "broken.png", "base.model=./gone"]


def test_configuration_models_and_pictures_in_one_go(config: Path) -> None:
    with pytest.raises(InputError) as caught:
        validate_style(config, WRONG[:1])
    assert [said for said in SAID if said not in str(caught.value)] == []
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match=r"training\.crops=0.*must hold \{token\}"):
        validate_style(config, WRONG)


def test_a_missing_pool_hides_no_broken_picture(config: Path) -> None:
    config.write_text(config.read_text().partition("\n")[0] + "\naux: {source: curated, pool: nowhere}\n")
    with pytest.raises(InputError) as caught:
        validate_style(config)
    assert str(caught.value).count("nowhere") == 1 and "broken.png" in str(caught.value)


def test_a_run_says_as_much(config: Path) -> None:
    with pytest.raises(InputError, match=r"broken\.png"), all_problems(config, []):
        raise InputError("something", "is wrong")
