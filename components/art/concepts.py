"""What the drawings show: concepts by name, with a role and words; the same for all families.

The dictionary is Noto's: its names are Unicode's, with code points, categories and older names. A family's drawing shows the concept
whose name it bears, hyphens aside. Left out are symbols, flags, clock faces, and variants of drawings that are included: skin tones,
a man or a woman in place of a person, who kisses whom, and mirrored ones.
"""

import re
from dataclasses import dataclass

from components.art.families import DICTIONARY, FAMILIES
from components.art.packages import folder_of, read_object, require
from components.core.errors import InputError

_LEFT_OUT = re.compile(r"skin-tone|^(?:(?:wo)?m[ae]n|family|kiss|couple-with-heart)-|-facing-right$|-(oclock|thirty)$")
_BODY = (
    r"^(?!.*\b(man|woman|person|men|women|people)\b).*\b(anatomical|arm|backhand|biceps|bone|brain|bust|busts|ears?|eyes?|fingers?|"
    r"fingerprint|fist|foot|footprints|gesture|hands?|handshake|horns|index|leg|lips?|lungs|mouth|nails?|nail-polish|nose|palms?|salute|"
    r"selfie|thumbs?|tongue|tooth)\b"
)
_FACE = r"alien|cat|face|ghost|goblin|head|laughing|monkey|ogre|poo|robot|skull|struck"
_PLANT = (
    r"blossom|bouquet|cactus|clover|coral|feather|\w*flower|herb|hibiscus|hyacinth|leaf|lotus|microbe|mushroom|nest|nose|plant|prints|rose|"
    r"rosette|seedling|shamrock|sheaf|shell|tree|tulip|web|wing"
)
_PLACE = (
    r"bank|beach|bridge|building|camping|castle|church|cityscape|cloud|desert|factory|fog|foggy|fountain|garden|hospital|hot-springs|"
    r"hotel|house|houses|hut|island|kaaba|landslide|lighthouse|milky-way|mosque|motorway|mount|mountains?|night|office|park|"
    r"railway-track|rainbow|school|shrine|stadium|store|sunrise|sunset|synagogue|temple|tent|tornado|tower|volcano|water-wave"
)
_ROLES = (
    ("People & Body", _BODY, "thing"),
    ("People & Body", "", "character"),
    ("Smileys & Emotion", rf"\b({_FACE})\b", "character"),
    ("Smileys & Emotion", "", "thing"),
    ("Animals & Nature", rf"\b({_PLANT})\b", "thing"),
    ("Animals & Nature", "", "character"),
    ("Travel & Places", rf"\b({_PLACE})\b", "background"),
    ("Travel & Places", "", "thing"),
    ("Activities", "", "thing"),
    ("Food & Drink", "", "thing"),
    ("Objects", "", "thing"),
)
"""Category, pattern of names and role; the first row that matches applies."""


@dataclass(frozen=True)
class Concept:
    """Something that drawings show. ``name`` is Unicode's, with hyphens; ``role`` is a role of style sets."""

    name: str
    role: str

    @property
    def words(self) -> str:
        """The name as a caption."""
        return self.name.replace("-", " ")


@dataclass(frozen=True)
class Dictionary:
    """Concepts by name, by older name and by code points (hex with hyphens, without variation selectors)."""

    by_name: dict[str, Concept]
    by_alias: dict[str, Concept]
    by_code: dict[str, Concept]

    def named(self, name: str) -> Concept | None:
        """The concept that a family calls ``name``, hyphens aside; None if there is none."""
        key = name.replace("-", "")
        return self.by_name.get(key) or self.by_alias.get(key)


def read_dictionary() -> Dictionary:
    """Read the concepts of all families.

    Raises:
        InputError: the package of the family that holds them is missing or cannot be read.
    """
    family = FAMILIES[DICTIONARY]
    require([family])
    folder = folder_of(family)
    names = read_object(folder / "metadata.json").get("categories")
    codes = read_object(folder / "chars.json")
    aliases = read_object(folder / "icons.json").get("aliases", {})
    if not isinstance(names, dict):
        raise InputError(str(folder / "metadata.json"), "has no categories", expected="names by category")
    concepts = {
        name: Concept(name, role)
        for category, listed in names.items()
        for name in listed
        if not _LEFT_OUT.search(name) and (role := role_of(name, category)) is not None
    }
    by_name = {name.replace("-", ""): concept for name, concept in concepts.items()}
    by_alias = {alias.replace("-", ""): concepts[row["parent"]] for alias, row in aliases.items() if row["parent"] in concepts}
    return Dictionary(by_name, by_alias, {plain_code(code): concepts[name] for code, name in codes.items() if name in concepts})


def role_of(name: str, category: str) -> str | None:
    """The role of a name in a category: ``character``, ``background`` or ``thing``; None if its category is left out."""
    return next((role for known, pattern, role in _ROLES if category == known and re.search(pattern, name)), None)


def plain_code(code: str) -> str:
    """Code points in lower case without the variation selector, which some families write and others do not."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")
