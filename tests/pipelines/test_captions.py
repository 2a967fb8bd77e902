import json
from pathlib import Path
from typing import Any

from orchestration.environment import set_source_root
from pipelines.names import OPTIONAL, PERSONALIZE
from tests.pipelines.test_caching import ALL
from tests.stand_in import StandIn


def test_a_model_captions_what_people_have_not(finished: StandIn) -> None:
    (finished.folder / "vlm").mkdir()
    (finished.folder / "pictures" / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "by hand"}\n')
    settings = ("method.instance_prompt=a photo of {token} style, {caption}", "captions.model=vlm")
    ran = finished.again(*(word for setting in settings for word in ("--set", setting)))
    # The base's pictures have nothing to do with captions; roles are read from the set as it was scanned.
    assert ran == (ALL | {"caption"}) - {"sample_base"}
    (manifest,) = (finished.home / "zenml" / "stores").rglob("captioned/*/*/data/manifest.jsonl")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {row["path"]: (row["caption"], row["caption_by"]) for row in rows} == {
        "0.png": ("house 0", "vlm@1"), "1.png": ("by hand", "person"), "2.png": ("house 2", "vlm@1"), "aux_pool/9.png": (None, None),
    }  # fmt: skip
    assert Path(finished.folder, "captioned.txt").read_text().split() == ["0", "2"]
    # The pictures, and their captions in the form of a source.
    listed = [json.loads(line)["file_name"] for line in (manifest.parent / "images" / "metadata.jsonl").read_text().splitlines()]
    assert listed == ["0.png", "1.png", "2.png"] and all((manifest.parent / "images" / name).is_file() for name in listed)


def test_only_what_trains_reads_the_captions() -> None:
    """So captions change no role, and `styleforge retrain` knows a set by what it was before a model looked at it."""
    set_source_root()
    from pipelines.personalize import connect_steps

    def read(*steps: str) -> dict[str, str]:
        inputs: dict[str, tuple[str, ...]] = {}

        def call(step: Any, *given: str, after: Any = (), **parameters: Any) -> str:
            inputs[step.name] = given
            return str(step.name)

        connect_steps({name: {} for name in steps}, call, 1, False)
        return {name: given[0] for name, given in inputs.items() if given and given[0] in ("scan", "caption")}

    without = dict.fromkeys(("validate", "split", "build_aux", "fine_tune", "score", "report", "register"), "scan")
    assert read(*(name for name in PERSONALIZE if name not in OPTIONAL)) == without
    assert read(*PERSONALIZE) == without | {"caption": "scan", "examine": "caption", "build_aux": "caption", "fine_tune": "caption"}
