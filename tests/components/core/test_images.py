import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.errors import InputError
from components.core.images import inspect_image, load_rgb, spread
from tests.components.styledata.helpers import encoded, picture, png_header_bomb

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def save(tmp_path: Path, data: bytes, name: str = "a.png") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    data = encoded(picture(1, 48, 32), kind)
    path = save(tmp_path, data)
    image = load_rgb(path)
    assert (image.mode, image.size) == ("RGB", (48, 32))
    assert np.abs(np.asarray(image, float) - np.asarray(picture(1, 48, 32), float)).mean() < 8
    facts = inspect_image(path)
    assert (facts.width, facts.height, facts.format, facts.animated, facts.problem) == (48, 32, kind, False, None)
    assert inspect_image(data) == facts


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), "blue")
    wide.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    path = save(tmp_path, encoded(wide, "JPEG", exif=exif, quality=95), "a.jpg")
    upright = load_rgb(path)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 200 and upright.getpixel((10, 35))[2] > 200
    facts = inspect_image(path)
    assert (facts.width, facts.height) == (20, 40)


def test_broken_exif_does_not_spoil_the_picture(tmp_path: Path) -> None:
    path = save(tmp_path, encoded(picture(1), "JPEG", exif=b"Exif\0\0nonsense that is no TIFF at all"), "a.jpg")
    assert load_rgb(path).size == (64, 64)


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 1))
    for x, alpha in enumerate((0, 64, 128, 255)):
        image.putpixel((x, 0), (200, 0, 0, alpha))
    got = np.asarray(load_rgb(save(tmp_path, encoded(image, "PNG"))))[0]
    for pixel, alpha in zip(got, (0, 64, 128, 255), strict=True):
        share = alpha / 255
        assert np.abs(pixel - np.array([200 * share + 255 * (1 - share), 255 * (1 - share), 255 * (1 - share)])).max() <= 1


def two(mode: str, first: Any, second: Any) -> Image.Image:
    image = Image.new(mode, (2, 1), first)
    image.putpixel((1, 0), second)
    return image


@pytest.mark.parametrize(
    ("image", "options", "pixels"),
    [
        (two("1", 1, 0), {}, [(255,) * 3, (0,) * 3]),
        (two("L", 77, 78), {}, [(77,) * 3, (78,) * 3]),
        (two("RGB", (1, 2, 3), (9, 9, 9)), {}, [(1, 2, 3), (9, 9, 9)]),
        (two("RGB", (1, 2, 3), (9, 9, 9)), {"transparency": (1, 2, 3)}, [(255,) * 3, (9, 9, 9)]),
        (two("L", 77, 78).convert("P"), {"transparency": 77}, [(255,) * 3, (78,) * 3]),
        (two("LA", (0, 0), (5, 255)), {}, [(255,) * 3, (5,) * 3]),
    ],
)
def test_each_mode_becomes_rgb_on_white(tmp_path: Path, image: Image.Image, options: dict[str, Any], pixels: list[Any]) -> None:
    found = load_rgb(save(tmp_path, encoded(image, "PNG", **options)))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    image = load_rgb(save(tmp_path, encoded(Image.fromarray(values), kind)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (np.asarray(image)[..., :1] == np.asarray(image)).all()


def test_float_tiff_and_values_that_are_not_finite(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    image = load_rgb(save(tmp_path, encoded(Image.fromarray(values), "TIFF"), "a.tif"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(InputError, match="non-finite"):
        load_rgb(save(tmp_path, encoded(Image.fromarray(values * np.nan), "TIFF"), "b.tif"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), kind))
    assert np.abs(np.asarray(load_rgb(path), float) - np.array([0, 255, 255])).max() <= 4
    assert inspect_image(path).mode == "CMYK"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animated_gives_its_first_frame(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    path = save(tmp_path, encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(np.asarray(load_rgb(path), float) - np.array([255, 0, 0])).max() <= 4
    assert inspect_image(path).animated


def test_a_phones_jpeg_with_a_preview_is_not_animated(tmp_path: Path) -> None:
    path = save(tmp_path, encoded(picture(1), "MPO", save_all=True, append_images=[picture(2)]), "a.jpg")
    facts = inspect_image(path)
    assert (facts.format, facts.animated, facts.problem) == ("MPO", False, None)
    assert np.abs(np.asarray(load_rgb(path), float) - np.asarray(picture(1), float)).mean() < 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_files_are_named(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), kind)
    path = save(tmp_path, data[: int(len(data) * share)], "cut." + kind.lower())
    with pytest.raises(InputError, match=r"cut\.") as caught:
        load_rgb(path)
    assert caught.value.exit_code == 2
    assert inspect_image(path).problem


def test_text_named_png_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"words\.png: not an image"):
        load_rgb(save(tmp_path, b"hello, I am no picture\n", "words.png"))
    with pytest.raises(InputError, match=r"gone\.png"):
        load_rgb(tmp_path / "gone.png")
    assert "cannot be read" in str(inspect_image(tmp_path / "gone.png").problem)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_header_bombs_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Image.Image) -> None:
        raise AssertionError("decoded")

    huge_bmp = bytearray(encoded(picture(1), "BMP"))
    huge_bmp[18:26] = struct.pack("<ii", 20_000, 20_000)
    small = encoded(picture(1, 100, 100), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    for data in (png_header_bomb(), png_header_bomb(12_000, 12_000), bytes(huge_bmp)):
        with pytest.raises(InputError, match="too large"):
            load_rgb(save(tmp_path, data))
    with pytest.raises(InputError, match="100 x 100 = 10,000 pixels, the limit is 9,999"):
        load_rgb(save(tmp_path, small), 9_999)


@settings(max_examples=75, deadline=None)
@given(kind=st.sampled_from(KINDS), cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_hostile_bytes_never_raise_anything_else(kind: str, cuts: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(picture(3, 24, 24), kind))
    for place, value in cuts:
        data[int(place * (len(data) - 1))] = value
    facts = inspect_image(bytes(data), 10_000)
    assert facts.problem or (facts.width and facts.height and len(facts.phash or "") == 16)


def test_spread_by_hand() -> None:
    halves = Image.new("RGB", (64, 64), (10, 0, 0))
    halves.paste((30, 0, 0), (0, 0, 32, 64))
    assert spread(halves) == pytest.approx(10.0)
    assert spread(Image.new("RGB", (500, 300), "gray")) == 0.0
