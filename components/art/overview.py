"""The families at a glance."""

from typing import Any

from components.art.concepts import read_dictionary
from components.art.drawings import read_family
from components.art.families import DICTIONARY, FAMILIES
from components.art.packages import presence_problem


def describe_families() -> list[dict[str, Any]]:
    """Describe each family in one row.

    A row has the table's ``name``, ``title``, ``look``, ``package``, ``version``, ``license``, ``author`` and ``source``; ``here``,
    whether its package is present; ``pictures``, how many drawings of known concepts it has (None if the package or the dictionary
    is missing); and ``problem``, the reason in that case.
    """
    dictionary = read_dictionary() if presence_problem(FAMILIES[DICTIONARY]) is None else None
    rows = []
    for family in FAMILIES.values():
        problem = presence_problem(family)
        pictures = len(read_family(family, dictionary)) if dictionary and problem is None else None
        facts = {key: getattr(family, key) for key in ("name", "title", "look", "package", "version", "license", "author", "source")}
        rows.append({**facts, "here": problem is None, "pictures": pictures, "problem": problem or (None if dictionary else "needs noto")})
    return rows
