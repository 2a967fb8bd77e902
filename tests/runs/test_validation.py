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
    with pytest.raises(InputError, match=r"training\.crops=0.*must contain \{token\}"):
        validate_style(config, WRONG)


def test_a_missing_pool_hides_no_broken_picture(config: Path) -> None:
    config.write_text(config.read_text().partition("\n")[0] + "\naux: {source: curated, pool: nowhere}\n")
    with pytest.raises(InputError) as caught:
        validate_style(config)
    assert str(caught.value).count("nowhere") == 1 and "broken.png" in str(caught.value)


def test_a_run_says_as_much(config: Path) -> None:
    with pytest.raises(InputError, match=r"broken\.png"), all_problems(config, []):
        raise InputError("something", "is wrong")


def test_the_set_is_examined_and_without_the_base_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "set" / "character").mkdir(parents=True)
    for index in range(8):
        Image.effect_noise((64, 64), 20 + index).convert("RGB").save(tmp_path / "set" / "character" / f"{index}.png")
    file = tmp_path / "run.yaml"
    file.write_text(f"style: {{name: noise, source: {tmp_path / 'set'}}}\naux: {{source: none}}\nmethod: {{name: dreambooth}}\n")
    outcome = validate_style(file, ["examine.hard=true"], draw=False)
    assert outcome["status"] == "refused" and outcome["passed"] and Path(outcome["examination"]["page"]).is_file()
    findings = {row["name"]: row for row in outcome["examination"]["findings"]}
    assert findings["coherence"]["value"] is not None and findings["narrowness"]["good"] is False
    assert all("the base was not asked" in findings[name]["says"] for name in ("separability", "ceiling"))
    without = validate_style(file, ["examine.enabled=false"])
    assert without["examination"] is None and without["status"] == "completed"
