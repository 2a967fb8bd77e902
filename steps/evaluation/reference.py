"""The pictures of the style that drawn ones are measured by."""

from pathlib import Path

from components.core.paths import read_json
from components.evaluation.yardstick import StyleRef
from components.styledata.manifest import Manifest
from steps.io.artifacts import Folder


def reference_of(style_set: Folder, split: Folder) -> list[Path]:
    """Their files."""
    return [style_set.path / "images" / path for path in read_json(split.path / "split.json")["reference"]]


def concepts_of(style_set: Folder, split: Folder) -> list[str | None]:
    """What each of them shows, where that is recorded."""
    concepts = {entry.path: entry.concept for entry in Manifest.load(style_set.path).entries}
    return [concepts.get(path) for path in read_json(split.path / "split.json")["reference"]]


def style_ref_of(style_set: Folder) -> StyleRef:
    """The pictures that the style is learned from, with the captions that came with them."""
    entries = Manifest.load(style_set.path).usable("style_ref")
    return StyleRef([style_set.path / "images" / entry.path for entry in entries], [entry.caption or "" for entry in entries])
