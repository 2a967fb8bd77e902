"""What lines and areas there are, read without a network."""

import numpy as np
from PIL import Image

from components.evaluation.extractors.factory import make_extractor
from components.evaluation.metrics import Bootstrap
from components.evaluation.style_reading import read_style_and_content
from components.pocket.render import render
from components.pocket.scenes import random_scene

TEXTURE, LOOK = make_extractor("texture", "test"), make_extractor("look", "test")


def grey(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def test_a_flat_image_has_the_floor_everywhere_and_is_flat_on_all_levels() -> None:
    (row,) = TEXTURE.encode_images([grey(np.full((256, 256), 128))])
    levels = row.reshape(6, 10)
    np.testing.assert_allclose(levels[:, :9], np.log(1e-3), atol=1e-4)
    np.testing.assert_array_equal(levels[:, 9], 1.0)


def test_stripes_by_hand() -> None:
    """One-pixel stripes of 0 and 255: all of the band is on the finest level, across and not down; coarser levels are flat."""
    (row,) = TEXTURE.encode_images([grey(np.tile([0, 255], (256, 128)))])
    levels = row.reshape(6, 10)
    # Each pixel is half a unit off the mean of its block; neighbours across differ by one, neighbours down by nothing.
    np.testing.assert_allclose(levels[0, [0, 3]], np.log(0.501), atol=1e-5)
    np.testing.assert_allclose(levels[0, [6, 7, 8]], np.log([1.001, 0.001, 1.001]), atol=1e-5)
    assert levels[0, 9] == 0 and (levels[1:, 9] == 1).all()


def test_turning_an_image_swaps_across_and_down_alone() -> None:
    image = render(5, "ink drawing").image
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    one, other = (row.reshape(6, 10) for row in TEXTURE.encode_images([image, turned]))
    np.testing.assert_allclose(one[:, :6], other[:, :6], atol=0.02)  # PIL rounds to 8 bits after each direction
    np.testing.assert_allclose(one[:, 6], other[:, 7], atol=0.02)


def test_the_look_is_texture_and_colours() -> None:
    images = [render(seed).image for seed in range(3)]
    look = LOOK.encode_images(images)
    np.testing.assert_array_equal(look[:, :60], TEXTURE.encode_images(images))
    np.testing.assert_allclose((look[:, 60:] ** 2).sum(axis=1), 1.0, atol=1e-6)
    assert look.dtype == np.float32 and LOOK.encode_images([]).shape == (0, 124)


def test_it_reads_the_style_whatever_is_shown() -> None:
    import random

    styles = ("photo", "ink drawing", "watercolor", "poster")
    images = [render(100 * n + k, style, scene=random_scene(random.Random(n))).image for k, style in enumerate(styles) for n in range(20)]
    reading = read_style_and_content(TEXTURE.encode_images(images), np.repeat(styles, 20), list(range(20)) * 4, Bootstrap(100))
    assert reading.reads == "style" and reading.style.low > 0.6  # chance: 0.25
