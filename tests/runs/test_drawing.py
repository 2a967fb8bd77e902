from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.paths import read_jsonl, write_jsonl
from components.diffusion.sampling import sampler
from runs import drawing


def test_a_second_drawing_into_a_folder_keeps_the_rows_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def sample_bank(folder: Path, requests: list[Any], settings: Any, seed: int, out: Path) -> Path:
        (out / "images").mkdir(parents=True, exist_ok=True)
        rows = [{"file_name": f"images/{request.id}-r0.png", "prompt_id": request.id, "seed": seed} for request in requests]
        for row in rows:
            (out / str(row["file_name"])).write_bytes(b"")
        write_jsonl(out / "metadata.jsonl", rows)
        return out

    monkeypatch.setattr(sampler, "sample_bank", sample_bank)
    monkeypatch.setattr(drawing, "_requests", lambda model, prompts, *_: (tmp_path, None, [SimpleNamespace(id=text) for text in prompts]))
    out = tmp_path / "out"
    assert len(drawing.draw("model", ["man", "dog"], out, seed=1)) == 2
    (second,) = drawing.draw("model", ["man"], out, seed=2)
    assert second["seed"] == 2
    drawing.draw("model", ["cat"], out, seed=3)
    assert [(row["prompt_id"], row["seed"]) for row in read_jsonl(out / "metadata.jsonl")] == [("cat", 3), ("dog", 1), ("man", 2)]
    (out / "images" / "dog-r0.png").unlink()
    drawing.draw("model", ["cat"], out, seed=3)
    assert [row["prompt_id"] for row in read_jsonl(out / "metadata.jsonl")] == ["cat", "man"]
