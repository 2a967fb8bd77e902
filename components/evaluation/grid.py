"""Picture grids as PNG files, with prompts as captions, for the README, for reports and for inspection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from PIL.Image import Image

from components.core.errors import InputError
from components.core.images import load_rgb
from components.core.paths import atomic_file
from components.evaluation.pictures import pick_pairs, read_pictures

_BACKGROUND, _INK, _FAINT = (255, 255, 255), (32, 32, 36), (228, 228, 232)


@dataclass(frozen=True)
class GridStyle:
    """Dimensions of a grid, in pixels."""

    cell: int = 192
    gap: int = 10
    text: int = 15


def fit(image: Image, side: int) -> Image:
    """Fit a picture into ``side`` × ``side``: small ones are enlarged by a whole factor without blurring, large ones reduced."""
    factor = side / max(image.size)
    if factor >= 1:
        whole = int(factor)
        return image.resize((image.width * whole, image.height * whole), Pillow.Resampling.NEAREST)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Pillow.Resampling.LANCZOS)


def contact_sheet(
    pictures: Sequence[Path], out: Path, *, columns: int = 8, captions: Sequence[str] | None = None, style: GridStyle | None = None
) -> Path:
    """Write pictures in reading order, ``columns`` per row, each with its caption if given."""
    cells = [[path] for path in pictures]
    return _write(cells, list(captions or [""] * len(cells)), [""], out, columns, style or GridStyle())


def bank_grid(
    style_pictures: Path, base_pictures: Path, out: Path, *, per_category: int = 2, columns: int = 4, style: GridStyle | None = None
) -> Path:
    """Write the base's pictures above the style model's, for prompts evenly spaced through each category, in bands of ``columns``."""
    pairs = pick_pairs(read_pictures(style_pictures), read_pictures(base_pictures), per_category)
    shown = [(ours, theirs) for items in pairs.values() for ours, theirs in items if theirs is not None]
    cells = [[theirs.path, ours.path] for ours, theirs in shown]
    return _write(cells, [ours.prompt for ours, _ in shown], ["base", "style"], out, columns, style or GridStyle())


@dataclass(frozen=True)
class WallRow:
    """A row of a picture wall: its prompt, and a picture for each column; None for a missing one."""

    caption: str
    pictures: Sequence[Path | None]


def picture_wall(columns: Sequence[str], sections: Mapping[str, Sequence[WallRow]], out: Path, *, style: GridStyle | None = None) -> Path:
    """Write a wall of prompts (rows) by methods (columns), one section per style; the cell of a missing picture says “failed”."""
    style = style or GridStyle(cell=128, gap=8, text=14)
    rows = [row for section in sections.values() for row in section]
    if not rows or any(len(row.pictures) != len(columns) for row in rows):
        raise InputError(str(out), "no rows, or rows of different length", expected=f"rows of {len(columns)} images")
    font, bold = ImageFont.load_default(style.text), ImageFont.load_default(style.text + 4)
    measure = ImageDraw.Draw(Pillow.new("RGB", (1, 1)))
    line, step = round(style.text * 1.3), style.cell + style.gap
    heads = [_wrap(measure, label, font, style.cell) for label in columns]
    left = style.cell + 2 * style.gap
    head = line * max(len(lines) for lines in heads) + style.gap
    title = round((style.text + 4) * 1.6)
    height = style.gap + sum(title + head + step * len(section) + style.gap for section in sections.values())
    canvas = Pillow.new("RGB", (left + step * len(columns), height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = style.gap
    for name, section in sections.items():
        draw.text((style.gap, top), name, _INK, bold)
        top += title
        for place, lines in enumerate(heads):
            _lines(draw, (left + place * step, top), lines, font, line)
        top += head
        for row in section:
            _lines(draw, (style.gap, top), _wrap(draw, row.caption, font, style.cell)[: step // line], font, line)
            for place, path in enumerate(row.pictures):
                x = left + place * step
                if path is None:
                    draw.rectangle([x, top, x + style.cell - 1, top + style.cell - 1], fill=_FAINT)
                    draw.text((x + style.cell // 2, top + style.cell // 2), "failed", _INK, font, anchor="mm")
                else:
                    _paste(canvas, draw, fit(load_rgb(path), style.cell), x, top, style.cell)
            top += step
        top += style.gap
    with atomic_file(out) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)
    return out


def _lines(draw: Any, place: tuple[int, int], lines: Sequence[str], font: Any, height: int) -> None:
    for number, text in enumerate(lines):
        draw.text((place[0], place[1] + number * height), text, _INK, font)


def _write(cells: list[list[Path]], captions: list[str], labels: list[str], out: Path, columns: int, style: GridStyle) -> Path:
    """Lay out columns of cells in bands; one caption under each column, labels at the left."""
    import matplotlib

    if not cells:
        raise InputError(str(out), "no images to show", expected="at least one")
    columns = min(columns, len(cells))
    # Pillow's default font lacks dashes and most alphabets, and prompts may use any of them.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", style.text)
    measure = ImageDraw.Draw(Pillow.new("RGB", (1, 1)))
    wrapped = [_wrap(measure, caption, font, style.cell) for caption in captions]
    left = round(max(measure.textlength(label, font) for label in labels)) + style.gap if any(labels) else 0
    bands = [range(start, min(start + columns, len(cells))) for start in range(0, len(cells), columns)]
    step, line = style.cell + style.gap, round(style.text * 1.3)
    heights = [len(labels) * step + line * max(len(wrapped[i]) for i in band) + style.gap for band in bands]
    canvas = Pillow.new("RGB", (style.gap + left + columns * step, style.gap + sum(heights)), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = style.gap
    for band, height in zip(bands, heights, strict=True):
        for row, label in enumerate(labels):
            draw.text((style.gap, top + row * step + style.cell // 2), label, _INK, font, anchor="lm")
        for place, index in enumerate(band):
            x = style.gap + left + place * step
            for row, path in enumerate(cells[index]):
                _paste(canvas, draw, fit(load_rgb(path), style.cell), x, top + row * step, style.cell)
            for number, text in enumerate(wrapped[index]):
                draw.text((x, top + len(labels) * step - style.gap // 2 + number * line), text, _INK, font)
        top += height
    with atomic_file(out) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)
    return out


def _paste(canvas: Image, draw: Any, image: Image, x: int, y: int, cell: int) -> None:
    dx, dy = (cell - image.width) // 2, (cell - image.height) // 2
    if dx or dy:
        draw.rectangle([x, y, x + cell - 1, y + cell - 1], fill=_FAINT)
    canvas.paste(image, (x + dx, y + dy))


def _wrap(draw: Any, text: str, font: Any, width: int) -> list[str]:
    """Break ``text`` into lines of at most ``width`` pixels; a single word that is wider is shortened."""
    lines: list[str] = []
    for word in text.split():
        while draw.textlength(word, font) > width and len(word) > 2:
            word = word[:-2] + "…"
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(joined, font) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
