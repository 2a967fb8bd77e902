"""What an embedded base is trained on: a world, that is pictures with captions and labels, and what there is to tell apart in them."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RenderedSet:
    """Pictures as one array (N, 64, 64, 3) uint8, with captions, full descriptions without a look, and labels (N, classes)."""

    pixels: NDArray[np.uint8]
    captions: list[str]
    descriptions: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """A prompt, and what a picture of it should show: the index of a label by the name of its class."""

    prompt: str
    truth: Mapping[str, int]


@dataclass(frozen=True)
class World:
    """Where the pictures of a base, of its evaluator and of its probe come from.

    ``classes`` holds the labels of a picture: the columns of :attr:`RenderedSet.labels` in order, each with its names. ``look`` is the
    class that holds looks, among them the ``styles``, which no base sees.

    ``render(purpose, count, workers)`` renders pictures. The purposes ``train`` and ``qualified`` are for the base, ``evaluator`` for
    evaluator and probe; any other name gives pictures that none of them has seen. ``sets`` says how many pictures each of the three has;
    of those in ``mirrored`` half are mirrored.

    ``corpus`` yields texts for a tokenizer. ``naming(rng, description, look)`` is a caption that names a look. ``attributes`` are what
    the evaluator's heads predict, with the number of names of each, and ``attribute_table(data)`` their indices (N, attributes), -100
    where one does not apply.

    ``questions(count)`` asks a base for pictures in its looks; ``style_questions(template, count)`` asks a personalized model, where
    ``template`` holds ``{prompt}``.
    """

    classes: Mapping[str, tuple[str, ...]]
    look: str
    styles: tuple[str, ...]
    sets: Mapping[str, int]
    mirrored: frozenset[str]
    render: Callable[[str, int, int], RenderedSet]
    corpus: Callable[[], Iterator[str]]
    naming: Callable[[random.Random, str, str], str]
    attributes: Mapping[str, int] = field(repr=False)
    attribute_table: Callable[[RenderedSet], NDArray[np.int64]]
    questions: Callable[[int], list[Question]]
    style_questions: Callable[[str, int], list[Question]]

    def looks_of(self, data: RenderedSet) -> list[str]:
        """The names of the looks of N pictures whose looks are all labels."""
        names = self.classes[self.look]
        return [names[label] for label in data.labels[:, list(self.classes).index(self.look)]]
