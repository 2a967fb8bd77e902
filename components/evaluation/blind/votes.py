"""Evaluates people's answers to a blind page: a rate with its interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.content import derive_seed
from components.core.errors import InputError, Problems
from components.evaluation.blind.page import KEY, QUESTIONS, ROLES
from components.evaluation.metrics import Array

CONFIDENCE, RESAMPLES = 0.95, 4000
_SAVED = "a file that the page saved by “Save answers”"


@dataclass(frozen=True)
class Answers:
    """One person's answers: ``choices`` maps the number of a pair to the chosen side, ``left`` or ``right``."""

    file: Path
    person: str
    name: str
    choices: Mapping[int, str]


def read_key(file: Path) -> dict[str, Any]:
    """Read a page's key; InputError if the file is not one."""
    key = _read_object(file, f"the {KEY} that lies beside the page")
    try:
        pairs = {int(row["pair"]): {row["left"], row["right"]} for row in key["pairs"]}
        whole = pairs and key["kind"] in QUESTIONS and all(sides == set(ROLES[key["kind"]]) for sides in pairs.values())
        if whole and isinstance(key["page"], str) and isinstance(key["sources"], dict):
            return key
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError(str(file), "is not the key of a blind page", expected=f"the {KEY} that lies beside the page")


def read_answers(key: Mapping[str, Any], files: Sequence[Path]) -> list[Answers]:
    """Read the answers in ``files`` to the page of ``key``; a single InputError reports everything that is wrong with them."""
    problems = Problems()
    found: list[Answers] = []
    pairs = {int(row["pair"]) for row in key["pairs"]}
    for file in files:
        with problems.collect():
            answers = _answers(file, str(key["page"]), pairs)
            if twin := next((other for other in found if other.person == answers.person), None):
                problem = f"is by the same person as {twin.file}"
                raise InputError(str(file), problem, expected="one file per person", remedy="give only the later of the two")
            found.append(answers)
    problems.raise_all()
    return found


def score_votes(key: Mapping[str, Any], answers: Sequence[Answers]) -> dict[str, Any]:
    """How often the model's image was taken for the artist's, or model ``a`` was preferred to ``b``: percent, with a 95 % interval.

    Guessing gives 50 %. With one person the interval is Wilson's (1927), with pairs taken as independent. With several, both people and
    pairs are resampled, crossed (the pigeonhole bootstrap, Owen 2007), and the interval is never narrower than Wilson's of all answers,
    since a few people who all agree leave no spread to resample. It holds for people and pairs like these.

    Returns:
        ``kind``, ``page``, ``rate`` (``value``, ``low``, ``high``, and ``n``, the number of answers), ``people``, ``pairs`` (those
        answered), ``interval`` (``wilson`` or ``bootstrap``), ``confidence``, ``by_person`` and ``by_match`` (value and n each).
    """
    hit = ROLES[key["kind"]][1 if key["kind"] == "artist" else 0]
    rows = {int(row["pair"]): row for row in key["pairs"]}
    numbers = sorted(rows)
    # NaN where a person has not answered.
    table = np.array([[_hit(rows[number], person.choices.get(number), hit) for number in numbers] for person in answers])
    asked = ~np.isnan(table)
    by_match: dict[str, list[int]] = {}
    for place, number in enumerate(numbers):
        by_match.setdefault(str(rows[number].get("matched_by", "")), []).append(place)
    low, high = _interval(table)
    return {
        "kind": key["kind"], "page": key["page"],
        "rate": {"value": 100 * float(np.nanmean(table)), "low": 100 * low, "high": 100 * high, "n": int(asked.sum())},
        "people": len(answers), "pairs": int(asked.any(axis=0).sum()), "interval": "wilson" if len(answers) == 1 else "bootstrap",
        "confidence": CONFIDENCE,
        "by_person": [
            {"person": person.name or person.person, **_rate(row)} for person, row in zip(answers, table, strict=True)
        ],
        "by_match": {reason: _rate(table[:, places]) for reason, places in by_match.items()},
    }  # fmt: skip


def wilson(hits: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval (1927) of a proportion, ``hits`` of ``n``."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    rate = hits / n
    centre, reach = rate + z * z / (2 * n), z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, float((centre - reach) / (1 + z * z / n))), min(1.0, float((centre + reach) / (1 + z * z / n)))


def _interval(table: Array) -> tuple[float, float]:
    """Ends of the interval of a (people, pairs) table of 0 and 1, NaN where there is no answer."""
    asked = ~np.isnan(table)
    low, high = wilson(float(np.nansum(table)), int(asked.sum()))
    people, pairs = table.shape
    if people == 1:
        return low, high
    rng = np.random.default_rng(derive_seed(0, "votes"))
    drawn_people = rng.multinomial(people, np.full(people, 1 / people), RESAMPLES)
    drawn_pairs = rng.multinomial(pairs, np.full(pairs, 1 / pairs), RESAMPLES)
    hits = np.einsum("bp,pq,bq->b", drawn_people, np.nan_to_num(table), drawn_pairs, optimize=True)
    totals = np.einsum("bp,pq,bq->b", drawn_people, asked.astype(float), drawn_pairs, optimize=True)
    tail = (1 - CONFIDENCE) / 2
    bootstrap = np.quantile(hits[totals > 0] / totals[totals > 0], [tail, 1 - tail])
    return min(low, float(bootstrap[0])), max(high, float(bootstrap[1]))


def _hit(row: Mapping[str, Any], choice: str | None, hit: str) -> float:
    return float("nan") if choice is None else float(row[choice] == hit)


def _rate(table: Array) -> dict[str, Any]:
    """Percent of hits and number of answers; a value of None where there are none."""
    n = int((~np.isnan(table)).sum())
    return {"value": 100 * float(np.nanmean(table)) if n else None, "n": n}


def _answers(file: Path, page: str, pairs: set[int]) -> Answers:
    data = _read_object(file, _SAVED)
    if not isinstance(data.get("page"), str) or not isinstance(data.get("person"), str) or not isinstance(data.get("answers"), list):
        raise InputError(str(file), "holds no answers to a blind page", expected=_SAVED)
    if data["page"] != page:
        raise InputError(
            str(file), f"answers another page ({data['page']})", expected=f"answers to {page}", remedy="score it with that page's own key"
        )
    choices: dict[int, str] = {}
    for place, row in enumerate(data["answers"], 1):
        where = f"{file}, answer {place}"
        pair, choice = (row.get("pair"), row.get("choice")) if isinstance(row, dict) else (None, None)
        if type(pair) is not int or choice not in ("left", "right"):
            raise InputError(where, f"is {json.dumps(row, ensure_ascii=False)[:80]}", expected='such as {"pair": 0, "choice": "left"}')
        if pair not in pairs:
            raise InputError(where, f"is about pair {pair}, which is not in the key", expected=f"one of its {len(pairs)} pairs")
        if pair in choices:
            raise InputError(where, f"is the second about pair {pair}", expected="one answer per pair")
        choices[pair] = str(choice)
    if not choices:
        raise InputError(str(file), "holds no answer yet", expected="at least one", remedy="leave it out")
    return Answers(file, data["person"], str(data.get("name") or "").strip(), choices)


def _read_object(file: Path, expected: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(file), f"cannot be read ({error.strerror})", expected=expected) from error
    except (ValueError, RecursionError) as error:
        raise InputError(str(file), f"is not JSON ({' '.join(str(error).split())[:80]})", expected=expected) from error
    if not isinstance(data, dict):
        raise InputError(str(file), f"holds a JSON {type(data).__name__}", expected=expected)
    return data
