"""How pictures are made, measured without a network: their palettes, and statistics of tone, edges, grain and light."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling
from scipy import ndimage, sparse

from components.evaluation.metrics import Array

SIDE = 128
"""Pictures are first resized to a square of this side, in pixels, so that scales are comparable."""
_LEVELS = 64
_COMMON = 0.01
"""Share of the inked pixels above which a colour belongs to the palette."""
_PAPER = 250
"""A pixel counts as blank paper if all its channels are above this level."""
_QUANTILES = (10, 25, 50, 75, 90)


def square(image: Image) -> NDArray[np.uint8]:
    """The picture as (SIDE, SIDE, 3) RGB."""
    image = image.convert("RGB")
    return np.asarray(image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE), Resampling.BICUBIC), np.uint8)


def palette_likeness(pictures: Sequence[NDArray[np.uint8]]) -> Array:
    """(N, N) cosines of the sets of colours that pictures use: 1 for the same palette, 0 if no colour is shared.

    An artist who draws with flat colours takes them from a palette: of pictograms by eight artists, 97 in 100 share most of their colours
    with another one by the same artist.
    """
    palettes = [_palette(picture) for picture in pictures]
    rows = np.repeat(np.arange(len(palettes)), [len(palette) for palette in palettes])
    used = sparse.csr_array((np.ones(len(rows), np.float32), (rows, np.concatenate(palettes))), shape=(len(palettes), _LEVELS**3))
    size = np.sqrt(np.maximum([len(palette) for palette in palettes], 1))
    return np.asarray((used @ used.T).toarray() / np.outer(size, size), float)


def _palette(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    inked = picture[~(picture > _PAPER).all(axis=-1)].astype(int) * _LEVELS // 256
    codes, counts = np.unique((inked[:, 0] * _LEVELS + inked[:, 1]) * _LEVELS + inked[:, 2], return_counts=True)
    return np.asarray(codes[counts > _COMMON * max(len(inked), 1)])


def shading(pictures: Sequence[NDArray[np.uint8]]) -> Array:
    """(N,) share of neighbouring pixels that differ: near 0 for flat drawings, near 1 for photographs."""
    return np.array([1 - np.mean(_flat(picture.astype(np.float32) / 255)) for picture in pictures])


def _flat(rgb: Array) -> list[float]:
    """Shares of neighbours, across and down, that are equal up to rounding."""
    return [float((np.abs(np.diff(rgb, axis=axis)).max(-1) < 1.5 / 255).mean()) for axis in (1, 0)]


def brushwork(pictures: Sequence[NDArray[np.uint8]]) -> Array:
    """(N, d) statistics of squares from :func:`square`: tone and colour, detail by scale, edges and what lies on them, grain, light."""
    return np.stack([np.concatenate([part(*_channels(picture)) for part in _PARTS]) for picture in pictures])


def _channels(picture: NDArray[np.uint8]) -> tuple[Array, Array]:
    """RGB and luminance, 0 to 1."""
    rgb = picture.astype(np.float32) / 255
    return rgb, rgb @ np.array([0.299, 0.587, 0.114], np.float32)


def _tones(rgb: Array, grey: Array) -> Array:
    saturation = rgb.max(-1) - rgb.min(-1)
    red, blue = rgb[..., 0] - grey, rgb[..., 2] - grey
    means = [value for channel in (grey, saturation, red, blue) for value in (channel.mean(), channel.std())]
    return np.array([*np.percentile(grey, _QUANTILES), *np.percentile(saturation, _QUANTILES), *means])


def _details(rgb: Array, grey: Array) -> Array:
    """Strength and peakedness of the detail in each of four octaves, in luminance and two colour differences."""
    found = []
    for channel in (grey, rgb[..., 0] - grey, rgb[..., 2] - grey):
        rest = channel
        for _ in range(4):
            blurred = ndimage.gaussian_filter(rest, 1.0)
            detail = rest - blurred
            strength, deviation = np.abs(detail).mean() + 1e-4, detail.std() + 1e-4
            found += [np.log(strength), np.log(deviation / strength)]
            if channel is grey:
                scaled = detail / deviation
                found += [np.clip((scaled**3).mean(), -5, 5), np.log1p((scaled**4).mean())]
            rest = blurred[::2, ::2]
    return np.array(found)


def _edges(rgb: Array, grey: Array) -> Array:
    """Edges at three widths: how strong they are, whether they run one way, and whether they are darker and duller than the rest."""
    saturation = rgb.max(-1) - rgb.min(-1)
    found = []
    for width in (0.7, 1.5, 3.0):
        across, down = (ndimage.gaussian_filter(grey, width, order=order) for order in ((0, 1), (1, 0)))
        strength = np.hypot(across, down)
        found += list(np.log(np.percentile(strength, (25, 50, 75, 90, 97)) + 1e-3))
        weight, angle = strength / (strength.sum() + 1e-6), np.arctan2(down, across)
        found += [abs((weight * np.exp(1j * turns * angle)).sum()) for turns in (2, 4)]
        edge = strength > np.percentile(strength, 85)
        # A picture without any edge has nothing to compare.
        found += [channel[edge].mean() - channel[~edge].mean() if edge.any() else 0.0 for channel in (grey, saturation)]
    return np.array(found)


def _surfaces(rgb: Array, grey: Array) -> Array:
    """How much is flat, how many colours there are, how alike neighbours are, and where the light comes from."""
    counts = np.bincount(((rgb * 7.99).astype(int) @ np.array([64, 8, 1])).ravel(), minlength=512) / SIDE**2
    used = counts[counts > 0]
    found = [*_flat(rgb), np.log(1e-3 + (np.abs(np.diff(rgb, axis=1)).max(-1) > 0.2).mean())]
    found += [-(used * np.log(used)).sum(), np.log(len(used))]
    centred = grey - grey.mean()
    variance = (centred**2).mean() + 1e-5
    for lag in (1, 2, 4, 8):
        found += [(centred[:, lag:] * centred[:, :-lag]).mean() / variance, (centred[lag:] * centred[:-lag]).mean() / variance]
    ramp = np.linspace(-1, 1, SIDE)
    return np.array([*found, (grey * ramp[None]).mean(), (grey * ramp[:, None]).mean()])


_PARTS = (_tones, _details, _edges, _surfaces)
