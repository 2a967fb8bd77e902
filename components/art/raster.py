"""From SVG to pixels, with resvg: the same bytes on every machine, since no font and no file outside the drawing is read."""

import io
from dataclasses import replace

from PIL import Image

from components.art.drawings import Drawing
from components.core.errors import InputError


def require_resvg() -> None:
    """Raise an InputError unless resvg-py is installed."""
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise InputError("art: resvg-py", "is not installed", remedy="run `pip install resvg-py`, or install `styleforge[art]`") from error


def rasterize(drawing: Drawing, size: int) -> Image.Image:
    """Render the drawing on white, in RGB, ``size`` pixels a side.

    Raises:
        InputError: resvg-py is not installed, the drawing is not valid SVG, or nothing is visible in it.
    """
    image = render_ink(drawing, size)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def trim(drawing: Drawing) -> Drawing:
    """Centre the drawing's ink in its frame, with a margin of at least a twentieth of the frame around it.

    How much of the canvas is left empty gives a family away: the ink's box alone, four numbers, identifies the artist of every second
    drawing.

    Raises:
        InputError: as :func:`rasterize`.
    """
    pixels = 256
    box = render_ink(drawing, pixels).getchannel("A").getbbox()
    if box is None:  # cannot happen: render_ink refuses empty pictures
        return drawing
    x, y, side = drawing.frame
    left, top, right, bottom = (value * side / pixels for value in box)
    fitted = max(right - left, bottom - top) / 0.9
    return replace(drawing, frame=(x + (left + right - fitted) / 2, y + (top + bottom - fitted) / 2, fitted))


def render_ink(drawing: Drawing, size: int) -> Image.Image:
    """Render the drawing in RGBA; raises as :func:`rasterize` does."""
    require_resvg()
    from resvg_py import svg_to_bytes

    where = f"{drawing.family.package}: {drawing.concept.name}"
    try:
        png = svg_to_bytes(svg_string=drawing.svg(size), skip_system_fonts=True)
    except ValueError as error:
        raise InputError(where, f"does not render ({' '.join(str(error).split())})", remedy="leave the family out") from error
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    if image.getchannel("A").getextrema() == (0, 0):
        raise InputError(where, "renders to an empty image", remedy="leave the family out")
    return image
