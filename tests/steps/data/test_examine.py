import json
from pathlib import Path
from typing import Any

import pytest

from components.core.config import AuxSection, ExamineSection, StyleSection
from components.core.content import derive_seed
from components.core.errors import GateRefused
from components.core.paths import read_json, write_json
from components.pocket.captions import describe, in_grammar
from components.pocket.media import MEDIA
from components.pocket.render import plain_sample
from components.styledata.manifest import scan_style
from components.styledata.split import split_style_set
from steps.data.examine import examine, examine_set
from steps.io.artifacts import Folder

BASE = {"model": "pocket", "revision": None, "digest": "d"}
DRAWING = {"steps": 1, "guidance": 1.0, "batch_size": 8}
EXTRACTOR = {"model": "pocket", "revision": None, "digest": "e"}


def made(tmp_path: Path, style: str, count: int) -> dict[str, Any]:
    """Captioned pictures through scan and split, with a validation beside. A medium is named in the captions, a style is not."""
    source, rows = tmp_path / "source", []
    source.mkdir()
    for index in range(count):
        sample = plain_sample(derive_seed(0, "examine", index), style, "character" if index < count // 2 else "background")
        sample.image.save(source / f"{index}.png")
        text = describe(sample.scene)
        text = in_grammar(0, text, style) if style in MEDIA else text
        rows.append({"file_name": f"{index}.png", "text": text, "role": sample.scene.role})
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    scan_style(StyleSection(name="style", source=str(source)), AuxSection(source="none"), tmp_path / "set")
    split_style_set(tmp_path / "set", tmp_path / "split", lambda: None)  # type: ignore[arg-type,return-value]
    write_json(tmp_path / "validation" / "validation.json", {"passed": True})
    return {name: Folder(tmp_path / folder) for name, folder in (("style_set", "set"), ("validation", "validation"), ("split", "split"))}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    return made(tmp_path, "anime", 8)


@pytest.mark.slow
@pytest.mark.parametrize(("style", "learns"), [("anime", True), ("cubism", True), ("photo", False), ("poster", False)])
def test_a_medium_that_the_base_knows_leaves_nothing_to_learn(tmp_path: Path, style: str, learns: bool) -> None:
    given = made(tmp_path, style, 20)
    section, drawing = ExamineSection(), {"steps": 20, "guidance": 2.5, "batch_size": 20}
    found = examine_set(given["style_set"].path, given["split"].path, section, EXTRACTOR, BASE, drawing)
    assert next(finding.good for finding in found.findings if finding.name == "separability") is learns


def run(inputs: dict[str, Any], **settings: Any) -> Path:
    folder: Folder = examine.entrypoint(**inputs, settings=settings, base=BASE, sampling=DRAWING, extractor=EXTRACTOR, seed=0)
    return folder.path


def test_the_validation_comes_through_with_the_examination_beside_it(inputs: dict[str, Any]) -> None:
    out = run(inputs)
    assert read_json(out / "validation.json") == {"passed": True}
    findings = {row["name"]: row for row in read_json(out / "examination.json")["findings"]}
    assert list(findings) == ["coherence", "separability", "narrowness", "ceiling"]
    # One step of drawing gives noise, and that is told from any style.
    assert findings["separability"]["value"] > 0.9 and findings["ceiling"]["value"] > 20
    assert all(row["n"] == 8 and row["value"] is not None for row in findings.values())
    page = (out / "examination.html").read_text(encoding="utf-8")
    assert "One style?" in page and "://" not in page
    assert read_json(run(inputs) / "examination.json") == read_json(out / "examination.json")


def test_only_where_it_is_hard_a_figure_refuses(inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    warned = read_json(run(inputs, ceiling=60.0) / "examination.json")
    assert [row["name"] for row in warned["findings"] if row["good"] is False] == ["ceiling"]
    with pytest.raises(GateRefused, match=r"(?s)Can the base draw it\?.*examination\.html") as refused:
        run(inputs, ceiling=60.0, hard=True)
    assert refused.value.exit_code == 3 and list((tmp_path / "home" / "validation").rglob("examination.html"))
