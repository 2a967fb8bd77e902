"""The validation's page: one HTML file without scripts or links, for eyes."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from components.core.paths import atomic_file
from components.styledata.manifest import ImageEntry, Manifest

_THUMBNAIL = 96
_MOST_PICTURES = 60
"""Thumbnails a page carries at most, so that it stays small whatever is wrong."""


def write_page(path: Path, report: dict[str, Any], manifest: Manifest, style_set: Path) -> None:
    """Write ``validation.json``'s content as a self-contained page: pictures that fail first, then StyleRef up to the allowance."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    by_path = {entry.path: entry for entry in manifest.entries}
    failing = [failure["path"] for rule in report["rules"] for failure in rule["failures"]]
    style = [entry.path for entry in manifest.usable("style_ref")]
    wanted = list(dict.fromkeys([*failing, *style]))
    usable = [by_path[name] for name in wanted if name in by_path and by_path[name].problem is None]
    thumbnails = {entry.path: thumbnail(entry, style_set) for entry in usable[:_MOST_PICTURES]}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("validation.html.j2").render(report=report, thumbnails=thumbnails, style=style)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def thumbnail(entry: ImageEntry, style_set: Path) -> str:
    """A small JPEG copy as a data URI."""
    picture = entry.load(style_set)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
