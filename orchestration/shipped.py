"""What runs with the shipped configurations take of a GPU, as planned when they were made: a table, for an answer at once."""

from dataclasses import dataclass
from functools import cache

from components.core.paths import REPOSITORY

TABLE = REPOSITORY / "orchestration" / "shipped.tsv"


@dataclass(frozen=True)
class Shipped:
    """A shipped configuration, with ``settings`` changed (``a.b=value``), and the bytes that it takes at most."""

    configuration: str
    settings: tuple[str, ...]
    size: int


@cache
def shipped() -> tuple[Shipped, ...]:
    """The rows of the table, in its order: of each configuration as it is, and then with less and less memory."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    return tuple(Shipped(name, tuple(settings.split()), int(size)) for name, settings, size in rows)


def fitting(usable: int) -> dict[str, Shipped | None]:
    """Of each configuration the first row that fits into ``usable`` bytes; None where none does."""
    found: dict[str, Shipped | None] = {row.configuration: None for row in shipped()}
    for row in shipped():
        if row.size <= usable and found[row.configuration] is None:
            found[row.configuration] = row
    return found
