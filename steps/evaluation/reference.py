"""The pictures of the style that scores are measured to."""

from pathlib import Path

from components.core.paths import read_json
from steps.io.artifacts import Folder


def reference_of(style_set: Folder, split: Folder) -> list[Path]:
    """Their files."""
    return [style_set.path / "images" / path for path in read_json(split.path / "split.json")["reference"]]
