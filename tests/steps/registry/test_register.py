"""What the step puts into the model's card; that it registers is tested with whole runs."""

from pathlib import Path

import pytest

from components.core.config import parse_config
from components.core.model_card import read_card
from components.core.paths import write_json
from steps.io.artifacts import Folder
from steps.registry.register import _finish_model, _rights_tags
from tests.components.styledata.helpers import grant, scan, style_folder


@pytest.mark.parametrize("recorded", [False, True])
def test_rights_of_what_was_trained_on_go_into_the_card(tmp_path: Path, recorded: bool) -> None:
    source = style_folder(tmp_path / "source", style=2, pool=1, reference=1)
    granted = {"license": "CC-BY-SA-4.0", "author": "Ann", "consent": "contract 2026-14"}
    grant(source, {"style_ref/00.png": granted, "aux_pool/00.png": {"license": "CC0-1.0"}, "reference/00.png": granted})
    scan(source, tmp_path / "set", aux="curated", rights=recorded)
    write_json(tmp_path / "model" / "styleforge.json", {"schema": 1})
    write_json(tmp_path / "scores" / "scores.json", {})
    config = parse_config({"style": {"name": "test", "source": "x"}, "rights": {"record": recorded}})
    folders = (Folder(tmp_path / name) for name in ("set", "model", "scores"))
    card = read_card(_finish_model(config, *folders, tmp_path / "out"))
    if not recorded:
        assert "rights" not in card and _rights_tags(card.get("rights")) == {}
        return
    assert card["rights"] == [
        {"path": "style_ref/00.png", **granted}, {"path": "style_ref/01.png"}, {"path": "aux_pool/00.png", "license": "CC0-1.0"},
    ]  # fmt: skip
    assert _rights_tags(card["rights"]) == {
        "licenses": "CC-BY-SA-4.0, CC0-1.0", "authors": "Ann", "share_alike": "CC-BY-SA-4.0", "images_without_license": "1",
        "images_with_consent": "1", "images_without_consent": "2",
    }  # fmt: skip
