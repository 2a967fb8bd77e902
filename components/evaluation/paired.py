"""From the images of a run to paired truth: who drew which concept, and the features that a yardstick needs of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation import truth
from components.evaluation.extraction import FeatureTable, extract
from components.evaluation.extractors.base import Extractor
from components.evaluation.features import Extractors
from components.evaluation.yardstick import Yardstick


def add_truth(
    yardstick: Yardstick, prompts: Mapping[str, str], concepts: truth.Concepts, reference: Sequence[Path], base: Sequence[Path],
    extractors: Extractors, table: FeatureTable, batch_size: int,
) -> None:  # fmt: skip
    """Add paired truth to a yardstick, or a note on why there is none.

    Args:
        prompts: the prompts by id, without identifier tokens.
        concepts: what the reference's images and StyleRef's show, and other artists' images.
        table: holds the features of ``reference`` and ``base``. Of other artists' images only those of paired concepts are read.
    """
    used: dict[str, Extractor] = {name: extractors.measures.get(key, extractors.clip) for name, key in truth.MEASURES.items()}
    pairs, left_out = truth.pair_unseen(prompts, concepts)
    features = {name: table.of(extractor, reference) for name, extractor in used.items()}
    yardstick.add_truth(features, table.of(used["truth_lines"], base), pairs)
    if left_out:
        what, them = ("1 concept is", "it") if left_out == 1 else (f"{left_out} concepts are", "them")
        yardstick.notes.append(f"truth: {what} left out: StyleRef shows how the artist draws {them}")
    if not (both := truth.drawn_by_both(pairs, concepts)):
        return
    theirs = extract([path for _, paths in both for path in paths], list({item.id: item for item in used.values()}.values()), batch_size)
    yardstick.add_other_artists(
        {name: [theirs.of(extractor, paths) for _, paths in both] for name, extractor in used.items()}, [places for places, _ in both]
    )
