"""A precomputed table of the GPU memory that the shipped configurations need, so that no planning is necessary."""

from dataclasses import dataclass
from functools import cache

from components.core.paths import REPOSITORY

TABLE = REPOSITORY / "orchestration" / "shipped.tsv"


@dataclass(frozen=True)
class Shipped:
    """A shipped configuration with any changed ``settings`` (``a.b=value``), and the most GPU memory that it needs, in bytes."""

    configuration: str
    settings: tuple[str, ...]
    size: int


@cache
def shipped() -> tuple[Shipped, ...]:
    """Return the rows of the table in order: each configuration unchanged, then with settings that need less and less memory."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    return tuple(Shipped(name, tuple(settings.split()), int(size)) for name, settings, size in rows)


def fitting(usable: int) -> dict[str, Shipped | None]:
    """Return, for each configuration, the first row that fits into ``usable`` bytes; None if no row fits."""
    found: dict[str, Shipped | None] = {row.configuration: None for row in shipped()}
    for row in shipped():
        if row.size <= usable and found[row.configuration] is None:
            found[row.configuration] = row
    return found
