"""Safe decoding: every picture that enters StyleForge becomes 8-bit RGB here, or is refused with a reason."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from components.core.errors import InputError

DEFAULT_MAX_PIXELS = 89_478_485
"""Pillow's own bound: a quarter of a gigabyte of RGB."""
HARD_MAX_PIXELS = 2 * DEFAULT_MAX_PIXELS
"""Above this Pillow refuses whatever the setting; the limit for pictures that a scan has already accepted."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""The formats that Pillow may try: left to itself, it would run Ghostscript on a PostScript file."""
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
"""Suffixes by which a file counts as a picture. Other files in a folder are not opened."""
_ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_PROBE_SIDE = 64
"""Side in pixels of the copy on which the spread is measured, so that sensor noise does not count as content."""


class UnreadableImageError(Exception):
    """A picture cannot be used; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class ImageFacts:
    """What inspecting a picture tells.

    ``width`` and ``height`` are in pixels, after EXIF rotation; ``mode`` and ``format`` are the file's own (Pillow's
    names). ``phash`` is the 64-bit perceptual hash as 16 hex digits. ``spread`` is the largest standard deviation of a
    colour channel, in levels of 0–255. ``problem`` is the reason why the picture cannot be used; then the rest may be None.
    """

    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    phash: str | None = None
    spread: float | None = None
    animated: bool = False
    problem: str | None = None


def load_rgb(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a picture to 8-bit RGB: first frame, upright, transparency on white.

    Raises InputError for a file that is missing, damaged or not a picture, or has more than ``max_pixels`` (checked before decoding).
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", expected="an image") from error
    return decode_rgb(content, str(path), max_pixels)


def decode_rgb(content: bytes, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """:func:`load_rgb` from a file's bytes; ``name`` is the file's name in errors."""
    try:
        return _decode(io.BytesIO(content), max_pixels)[0]
    except UnreadableImageError as error:
        expected = "an intact PNG, JPEG, WebP, BMP, TIFF or GIF image"
        raise InputError(name, str(error), expected=expected, remedy="save it again, or remove it") from error


def inspect_image(source: Path | bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageFacts:
    """Decode a picture (a path, or a file's bytes) and describe it; never raises for a bad picture, see ``problem``."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            picture, mode, kind, animated = _decode(file, max_pixels)
    except OSError as error:
        return ImageFacts(problem=f"cannot be read ({error.strerror})")
    except UnreadableImageError as error:
        return ImageFacts(problem=str(error))
    return ImageFacts(picture.width, picture.height, mode, kind, perceptual_hash(picture), round(spread(picture), 3), animated)


def perceptual_hash(picture: Image.Image) -> str:
    """64-bit perceptual hash (DCT) of a picture, as 16 hex digits."""
    import imagehash  # imports SciPy, so only where it is needed

    return str(imagehash.phash(picture))


def spread(picture: Image.Image) -> float:
    """The largest standard deviation of a colour channel, in levels of 0–255, on a copy of at most 64 × 64 pixels."""
    small = picture.resize((min(_PROBE_SIDE, picture.width), min(_PROBE_SIDE, picture.height)), Image.Resampling.BOX)
    return float(np.asarray(small, dtype=np.float64).reshape(-1, 3).std(axis=0).max())


def _decode(file: Any, max_pixels: int) -> tuple[Image.Image, str, str, bool]:
    """The picture, the file's mode and format, and whether it is animated."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            if (pixels := image.width * image.height) > max_pixels:
                problem = f"too large: {image.width} x {image.height} = {pixels:,} pixels, the limit is {max_pixels:,}"
                raise UnreadableImageError(problem)
            image.load()
            mode, kind = image.mode, str(image.format)
            return to_rgb(_upright(image)), mode, kind, _is_animated(image, kind)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image: its content matches no known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large: its header declares more than {HARD_MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise UnreadableImageError("too large for this machine's memory") from error
    except Exception as error:
        # On hostile bytes decoders raise anything: struct.error, SyntaxError, EOFError, ValueError, ...
        raise UnreadableImageError(f"damaged or truncated ({' '.join(str(error).split()) or type(error).__name__})") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Broken EXIF says nothing about the pixels: the picture is kept, unrotated.
        return image


def _is_animated(image: Image.Image, kind: str) -> bool:
    # Further frames of an MPO are previews or the other eye's view, those of a TIFF are pages.
    try:
        return kind in ("GIF", "WEBP", "PNG") and bool(getattr(image, "is_animated", False))
    except Exception:
        return False


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB: transparency on white, deep values scaled; UnreadableImageError if they are not finite."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_gray_to_rgb(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(canvas, layer).convert("RGB")
    return image.convert("RGB")


def _deep_gray_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImageError("contains non-finite values")
    top = float(values.max(initial=0.0))
    # The format does not say how many of its bits are used, so the smallest common range that holds the values is taken.
    ranges = (65535.0, 4294967295.0) if image.mode != "F" else (1.0, 255.0, 65535.0, 4294967295.0)
    full = next((limit for limit in ranges if top <= limit), top)
    gray = np.clip(np.rint(values * (255.0 / full)), 0, 255).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
