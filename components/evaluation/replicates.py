"""Scores on resampled prompts and reference pictures: the same draws for every model, so that differences between models are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.features import Features
from components.evaluation.metrics import Array, kid_replicates
from components.evaluation.scoring import PictureValues

VALUES = "values.safetensors"
_ARRAYS = ("clip_t", "clip_i", "features", "reference")


def value_arrays(values: PictureValues) -> dict[str, Features]:
    """The arrays of a model's pictures as float32, to be saved: ``clip_t`` (N,), ``clip_i`` (N,), ``features``, ``reference``."""
    return {name: np.ascontiguousarray(getattr(values, name), np.float32) for name in _ARRAYS}


def value_replicates(arrays: Mapping[str, Any], prompts: Sequence[str], resamples: int, seed: int) -> dict[str, Array]:
    """KID, CLIP-T and CLIP-I on B resamples.

    Args:
        arrays: of :func:`value_arrays`.
        prompts: (N,) prompt ids of the pictures; whole prompts are drawn.
        resamples: B.
        seed: models with the same prompts and seed get the same prompts, and with as large a reference the same reference pictures.

    Returns:
        ``kid``, ``clip_t``, ``clip_i``, each (B,). FID has none: its bias depends on the number of distinct pictures, which
        resampling changes.
    """
    values = {name: np.asarray(arrays[name], float) for name in _ARRAYS}
    weights = _prompt_weights(prompts, resamples, seed)
    count = len(values["reference"])
    reference = np.random.default_rng([seed, 1]).multinomial(count, np.full(count, 1 / count), size=resamples)
    found = {"kid": kid_replicates(values["features"], values["reference"], weights, reference.T.astype(float))}
    return found | {name: values[name] @ weights / weights.sum(axis=0) for name in ("clip_t", "clip_i")}


def _prompt_weights(prompts: Sequence[str], resamples: int, seed: int) -> Array:
    """(N, B) counts of each picture's prompt; drawn over the sorted prompts, so they do not depend on the pictures' order."""
    names: NDArray[Any]
    names, member = np.unique(np.asarray(prompts), return_inverse=True)
    counts = np.random.default_rng([seed, 0]).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts.T.astype(float)[member]
