"""Pairs for a blind page, chosen by what the images are said to show and never by how they look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.content import derive_seed
from components.core.errors import InputError
from components.evaluation.truth import content_words

_ROLES = {"people": "character", "people in places": "character", "backgrounds": "background", "things": "thing"}
"""The role of what prompts of each category show."""
_CONCEPT, _ROLE, _CHANCE = 2.0, 0.25, 1e-3
"""Weights of a shared concept and a shared role next to captions (0 to 1), and of the random numbers that break ties."""


@dataclass(frozen=True)
class Candidate:
    """An image that may go into a pair. ``text`` is its caption or prompt, ``number`` distinguishes several images of one prompt."""

    path: Path
    text: str = ""
    role: str | None = None
    concept: str | None = None
    prompt_id: str = ""
    number: int = 0


@dataclass(frozen=True)
class Pair:
    """Two images, and what they were matched by: ``prompt``, ``concept``, ``caption``, ``role`` or ``chance``."""

    first: Candidate
    second: Candidate
    matched_by: str


def role_of_category(category: str) -> str | None:
    """The role of what prompts of a category show; None for a category that the built-in banks do not have."""
    return _ROLES.get(category)


def match_artist(artist: Sequence[Candidate], drawn: Sequence[Candidate], count: int, seed: int) -> list[Pair]:
    """At most ``count`` pairs of an artist's image and a drawn one, each image in one pair at most, the best matches first.

    A shared concept counts most, then shared words of caption and prompt (Jaccard), then a shared role; what is left is paired at
    random. Only one image per prompt takes part. The matching has the greatest sum (Kuhn 1955); ``seed`` breaks ties.
    """
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(derive_seed(seed, "blind", "pairs"))
    ours = list({candidate.text: candidate for candidate in sorted(drawn, key=lambda item: -item.number)}.values())
    likeness = np.array([[_likeness(theirs, mine) for mine in ours] for theirs in artist]) + rng.uniform(
        0, _CHANCE, (len(artist), len(ours))
    )
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    best = sorted(zip(rows, columns, strict=True), key=lambda place: -likeness[place])[:count]
    return [Pair(artist[row], ours[column], _reason(artist[row], ours[column])) for row, column in best]


def match_models(first: Sequence[Candidate], second: Sequence[Candidate], count: int, seed: int) -> list[Pair]:
    """At most ``count`` pairs of two models' images of the same prompt, chosen at random by ``seed``; InputError if no prompt is shared."""
    theirs = {(candidate.text, candidate.number): candidate for candidate in second}
    shared = sorted(
        (mine for mine in first if (mine.text, mine.number) in theirs), key=lambda item: (item.number, item.prompt_id, item.text)
    )
    if not shared:
        raise InputError(
            "blind", "the two have no prompt in common", expected="images of the same prompts",
            remedy="use runs with the same sampling.bank, or draw the same prompts with `styleforge sample`",
        )  # fmt: skip
    rng = np.random.default_rng(derive_seed(seed, "blind", "prompts"))
    order = rng.permutation(len(shared))
    # A prompt is used a second time only if there are not enough of them.
    chosen = sorted(order, key=lambda place: shared[place].number)[:count]
    return [Pair(shared[place], theirs[shared[place].text, shared[place].number], "prompt") for place in chosen]


def matches(pairs: Sequence[Pair]) -> Mapping[str, int]:
    """Number of pairs by ``matched_by``."""
    reasons = [pair.matched_by for pair in pairs]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _likeness(theirs: Candidate, mine: Candidate) -> float:
    score = _CONCEPT if _same_concept(theirs, mine) else 0.0
    score += _ROLE if theirs.role and theirs.role == mine.role else 0.0
    return score + _overlap(theirs.text, mine.text)


def _same_concept(theirs: Candidate, mine: Candidate) -> bool:
    """Whether both show the same concept: both name it, or the artist's concept is all that the prompt says."""
    words = content_words(theirs.concept)
    return bool(words) and words == (content_words(mine.concept) or content_words(mine.text))


def _overlap(first: str, second: str) -> float:
    one, two = content_words(first), content_words(second)
    return len(one & two) / len(one | two) if one | two else 0.0


def _reason(theirs: Candidate, mine: Candidate) -> str:
    if _same_concept(theirs, mine):
        return "concept"
    if _overlap(theirs.text, mine.text):
        return "caption"
    return "role" if theirs.role and theirs.role == mine.role else "chance"
