"""Scores on resampled prompts and reference pictures, with the same draws for every model, so that differences are paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics import Array, mmd_replicates

VALUES = "values.safetensors"
_SETS = ("features", "reference")


@dataclass(frozen=True)
class PictureValues:
    """What a paired comparison needs from one model's N pictures: their prompts' ids, and arrays.

    The arrays are the ``features`` (N, d) and ``reference`` (M, d) of FID and KID, and the (N,) values of each score that is a mean over
    pictures.
    """

    prompts: list[str]
    arrays: Mapping[str, NDArray[Any]]

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder, as float32."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(array, np.float32) for name, array in self.arrays.items()}, folder / VALUES)


def replicates(folder: Path, prompts: Sequence[str], resamples: int, seed: int) -> dict[str, Array]:
    """``kid`` and every score that is a mean over pictures, each (B,), from a folder's values on B resamples of whole prompts.

    Models with the same prompts and seed get the same resampled prompts and, if their references are equally large, the same reference
    pictures. FID is left out: its bias depends on the number of distinct pictures, which resampling changes.
    """
    from safetensors.numpy import load_file

    return resampled(PictureValues(list(prompts), load_file(folder / VALUES)), resamples, seed)


def resampled(values: PictureValues, resamples: int, seed: int, *, same_reference: bool = False) -> dict[str, Array]:
    """:func:`replicates` from values in memory; with ``same_reference`` the reference is kept as it is instead of resampled."""
    arrays, prompts = {name: np.asarray(array, float) for name, array in values.arrays.items()}, values.prompts
    weights = prompt_weights(prompts, resamples, seed)
    count = len(arrays["reference"])
    reference = np.random.default_rng([seed, 1]).multinomial(count, np.full(count, 1 / count), size=resamples)
    if same_reference:
        reference = np.ones_like(reference)
    found = {"kid": mmd_replicates(arrays["features"], arrays["reference"], weights, reference.T.astype(float))}
    return found | {name: array @ weights / weights.sum(axis=0) for name, array in arrays.items() if name not in _SETS}


def prompt_weights(prompts: Sequence[str], resamples: int, seed: int) -> Array:
    """(N, B) counts of each picture's prompt, drawn over the sorted prompts so that they do not depend on the pictures' order."""
    names: NDArray[Any]
    names, group_of = np.unique(np.asarray(prompts), return_inverse=True)
    counts = np.random.default_rng([seed, 0]).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts.T.astype(float)[group_of]
