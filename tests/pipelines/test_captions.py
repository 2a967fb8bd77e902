"""The step ``caption`` in real runs: only where it is asked for, once for a picture, and never over a person's caption."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.pipelines.test_caching import ALL
from tests.stand_in import StandIn


def captioned_sets(stand_in: StandIn) -> list[dict[str, Any]]:
    """The manifests of the step's outputs, by path, oldest first."""
    files = (stand_in.home / "zenml" / "stores").rglob("captioned/*/*/data/manifest.jsonl")
    rows = [list(map(json.loads, file.read_text().splitlines())) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]
    return [{row["path"]: (row["caption"], row["caption_by"]) for row in each} for each in rows]


def test_captions_in_a_run(finished: StandIn) -> None:
    (finished.folder / "vlm").mkdir()
    (finished.folder / "vlm" / "config.json").write_text('{"model_type": "blip"}')
    prompt = ("--set", "method.instance_prompt=a photo of {token} style, {caption}")
    captions = (*prompt, "--set", "captions.model=vlm")
    # Another prompt, so other training; but the set and all that does not look at captions stay what they were.
    assert finished.again(*captions) == (ALL | {"caption"}) - {"scan", "split", "sample_base"}
    (made,) = captioned_sets(finished)
    assert made["0.png"][0] == "house 0" and made["0.png"][1].startswith("vlm@sha256:") and made["aux_pool/9.png"] == (None, None)
    assert finished.again(*captions) == set()

    # A person's caption and another picture: the model is asked about the new one alone.
    (finished.folder / "pictures" / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "by hand"}\n')
    Image.new("RGB", (8, 8), (7, 0, 0)).save(finished.folder / "pictures" / "7.png")
    finished.run(*captions)
    assert {path: told[0] for path, told in captioned_sets(finished)[-1].items()} == {
        "0.png": "house 0", "1.png": "by hand", "2.png": "house 2", "7.png": "house 7", "aux_pool/9.png": None,
    }  # fmt: skip
    assert Path(finished.folder, "captioned.txt").read_text().split() == ["0", "1", "2", "7"]
