"""The style's pictures against which drawn pictures are measured."""

from pathlib import Path

from components.core.paths import read_json
from components.evaluation.truth import Concepts
from components.evaluation.yardstick import StyleRef
from components.styledata.manifest import Manifest
from steps.io.artifacts import Folder


def reference_of(style_set: Folder, split: Folder) -> list[Path]:
    """Return the files of the reference."""
    return [style_set.path / "images" / path for path in read_json(split.path / "split.json")["reference"]]


def concepts_of(style_set: Folder, split: Folder) -> Concepts:
    """Return what the reference, StyleRef and other artists' pictures, those of the Aux pool, show, as far as it is recorded."""
    manifest = Manifest.load(style_set.path)
    concepts = {entry.path: entry.concept for entry in manifest.entries}
    return Concepts(
        [concepts.get(path) for path in read_json(split.path / "split.json")["reference"]],
        [entry.concept for entry in manifest.usable("style_ref") if entry.concept],
        {entry.file(style_set.path): entry.concept for entry in manifest.usable("aux_pool") if entry.concept},
    )


def style_ref_of(style_set: Folder) -> StyleRef:
    """Return the pictures that the style is learned from, with their captions."""
    entries = Manifest.load(style_set.path).usable("style_ref")
    return StyleRef([style_set.path / "images" / entry.path for entry in entries], [entry.caption or "" for entry in entries])
