"""Render templates with plain data, partly written by users: HTML that loads nothing from the network, and Markdown."""

import base64
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image, Resampling

from components.core.paths import write_text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
# GitHub and the like would notify people and link issues that a prompt or a name happens to mention.
_MENTION = re.compile(r"([@#])(?=\w)")
_SMALL = 96
"""Pictures up to this size, in pixels a side, are enlarged without blurring: they are meant to be seen pixel by pixel."""


def write_page(path: Path, template: Path, page: Mapping[str, Any]) -> Path:
    """Write :func:`render`'s text to ``path`` atomically; returns ``path``."""
    write_text(path, render(template, page))
    return path


def render(template: Path, page: Mapping[str, Any]) -> str:
    """Fill in a template; no value may be missing. HTML escapes every value, Markdown has filters for it (``text``, ``code``, ...)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=".html" in template.suffixes, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"text": escaped, "cell": cell, "code": code, "fenced": fenced, "py": literal, "address": address}
    return environment.get_template(template.name).render(page)


def thumbnail(image: Image, side: int) -> dict[str, Any]:
    """``uri`` (data URI), ``width``, ``height`` and ``small`` of a copy within ``side`` pixels: lossless PNG if small, else WebP."""
    small = max(image.size) <= _SMALL
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Resampling.LANCZOS)
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "WEBP", quality=82, method=4)
    uri = f"data:image/{'png' if small else 'webp'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"uri": uri, "width": image.width, "height": image.height, "small": small}


def escaped(text: Any) -> str:
    """``text`` on one line, escaped so that none of it is read as Markdown, as the end of a table cell or as a mention."""
    return _MENTION.sub("\\1\u200b", _SPECIAL.sub(r"\\\1", " ".join(str(text).split())))


def address(url: str) -> str:
    """``url`` escaped so that it cannot break out of a Markdown link."""
    return re.sub(r"[\s()<>]", lambda found: f"%{ord(found[0]):02X}", url)


def cell(text: Any) -> str:
    """Markdown of our own on one line, for a table cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: Any) -> str:
    """``text`` on one line as a code span that it cannot break out of, even in a table."""
    line = cell(text)
    fence, pad = _fence(line, 1), " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def fenced(text: str) -> str:
    """``text`` as a code block that it cannot break out of."""
    fence = _fence(text, 3)
    return f"{fence}text\n{text.strip()}\n{fence}"


def _fence(text: str, least: int) -> str:
    return "`" * max(least, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))


def literal(value: Any) -> str:
    """``value`` as a Python literal that cannot break out of a Markdown code block."""
    return json.dumps(value, ensure_ascii=False).replace("`", "\\x60") if isinstance(value, str) else repr(value)
