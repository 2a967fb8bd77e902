"""The families at a glance."""

from typing import Any

from components.art.concepts import read_dictionary
from components.art.drawings import read_family
from components.art.families import DICTIONARY, FAMILIES
from components.art.packages import presence_problem


def describe_families() -> list[dict[str, Any]]:
    """A row a family: the table's ``name``, ``title``, ``look``, ``package``, ``version``, ``license``, ``author`` and ``source``; whether
    it is ``here``; its ``pictures`` of known concepts (None where it is not here, or cannot be read without the dictionary), and the
    ``problem`` in that case.
    """
    dictionary = read_dictionary() if presence_problem(FAMILIES[DICTIONARY]) is None else None
    rows = []
    for family in FAMILIES.values():
        problem = presence_problem(family)
        pictures = len(read_family(family, dictionary)) if dictionary and problem is None else None
        facts = {key: getattr(family, key) for key in ("name", "title", "look", "package", "version", "license", "author", "source")}
        rows.append({**facts, "here": problem is None, "pictures": pictures, "problem": problem or (None if dictionary else "needs noto")})
    return rows
