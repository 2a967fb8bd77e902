"""The rules of a style set as data: a name, a severity, an expectation over the manifest's table, and how to say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from components.styledata.images import EXTENSIONS
from components.styledata.likeness import exact_duplicates, near_duplicates
from components.styledata.manifest import ImageEntry, Manifest

if TYPE_CHECKING:
    import pandas

Severity = Literal["hard", "soft"]
Row = dict[str, Any]

MINIMUM_COUNT = 3
ADVISED_COUNT = (15, 20)
ADVISED_POOL = 15
ASPECT_LIMIT = 4.0
ASPECT_ADVISED = 2.0
MINIMUM_SPREAD = 2.0
"""Levels of 0–255: below this the picture is one flat colour to the eye and to the VAE."""
CAPTION_WORDS = 50
"""About what fits into the 77 tokens of CLIP's text encoder beside the style's own words."""

TRAINING = ("style_ref", "aux_pool")
ALL = ("style_ref", "aux_pool", "reference")


@dataclass(frozen=True)
class Rule:
    """One rule.

    ``expectation`` is the name of a Great Expectations class and ``arguments`` its keywords; it sees only the rows whose
    ``kind`` is in ``kinds``: a split's name, ``undecodable`` (whatever the split) or ``ignored``. ``message`` says what was
    wanted; ``reason`` says of a failing row what is wrong with it.
    """

    name: str
    severity: Severity
    kinds: tuple[str, ...]
    expectation: str
    arguments: Row
    message: str
    reason: Callable[[Row], str] | None = None


def table(manifest: Manifest, style_set: Path) -> pandas.DataFrame:
    """One row a picture or ignored file, with all that the rules look at. A column that does not apply holds null."""
    import pandas

    style, reference, pool = (manifest.usable(name) for name in ("style_ref", "reference", "aux_pool"))
    relations = {
        "exact_duplicate": exact_duplicates(style) | exact_duplicates(reference) | exact_duplicates(pool),
        "near_duplicate": near_duplicates(style_set, style),
        "exact_leak": exact_duplicates(style, reference) | exact_duplicates(pool, (*reference, *style)),
        "near_leak": near_duplicates(style_set, style, reference),
    }
    rows = [_row(entry) | {name: found.get(entry.path) for name, found in relations.items()} for entry in manifest.entries]
    rows += [{"path": path, "kind": "ignored", "passed_over": _why_ignored(path)} for path in manifest.ignored]
    columns = [*_row(_NOTHING), *relations, "passed_over"]
    return pandas.DataFrame([{name: row.get(name) for name in columns} for row in rows], columns=columns)


def _row(entry: ImageEntry) -> Row:
    sides = sorted((entry.width or 0, entry.height or 0)) if entry.problem is None else (None, None)
    role, _ = entry.known_role
    return {
        "path": entry.path,
        "kind": entry.split if entry.problem is None else "undecodable",
        "problem": entry.problem,
        "short_side": sides[0],
        "aspect": sides[1] / sides[0] if sides[0] and sides[1] else None,
        "spread": entry.spread,
        "animated": entry.animated,
        "caption": entry.caption,
        "caption_words": len(entry.caption.split()) if entry.caption else None,
        "role": role,
    }


_NOTHING = ImageEntry("", "", None, None, None, None, None, None, False, None, None, "style_ref", "nothing")


def _why_ignored(path: str) -> str:
    if PurePosixPath(path).suffix.lower() in EXTENSIONS:
        return "lies outside of style_ref/, aux_pool/ and reference/"
    return "is not a PNG, JPEG, WebP, BMP, TIFF or GIF file by its name"


def rules(manifest: Manifest, *, minimum_side: int, needs_roles: bool) -> list[Rule]:
    """All rules that apply, hard ones first. ``minimum_side`` is the base's resolution in pixels.

    Hard rules on a picture's quality cover what is trained on (StyleRef and the Aux pool); the held-out reference only
    warns, since it spoils a score and not a model.
    """
    found = [*_picture_rules(minimum_side), *_count_rules(manifest), *_identity_rules(), *_caption_rules(), *_role_rules(manifest, needs_roles)]
    return sorted(found, key=lambda rule: rule.severity)


def _picture_rules(resolution: int) -> list[Rule]:
    between, half = "ExpectColumnValuesToBeBetween", -(-resolution // 2)
    side: Callable[[Row], str] = lambda row: f"its shorter side is {row['short_side']:.0f} px"  # noqa: E731
    aspect: Callable[[Row], str] = lambda row: f"its sides are as {row['aspect']:.1f} to 1"  # noqa: E731
    flat: Callable[[Row], str] = lambda row: f"its colours spread by {row['spread']:.1f} of 255 levels only"  # noqa: E731
    return [
        Rule("decodable", "hard", ("undecodable",), "ExpectColumnValuesToBeNull", {"column": "problem"}, "Every picture decodes", lambda row: row["problem"]),
        Rule("minimum_side", "hard", TRAINING, between, {"column": "short_side", "min_value": half}, f"The shorter side is at least {half} px, half the base's resolution", side),
        Rule("aspect_limit", "hard", TRAINING, between, {"column": "aspect", "max_value": ASPECT_LIMIT}, f"The sides are at most as {ASPECT_LIMIT:g} to 1", aspect),
        Rule("not_constant", "hard", TRAINING, between, {"column": "spread", "min_value": MINIMUM_SPREAD}, "No picture is one flat colour", flat),
        Rule("advised_side", "soft", ALL, between, {"column": "short_side", "min_value": resolution}, f"The shorter side is at least {resolution} px, the base's resolution", side),
        Rule("advised_aspect", "soft", ALL, between, {"column": "aspect", "max_value": ASPECT_ADVISED}, f"The sides are at most as {ASPECT_ADVISED:g} to 1; more is cropped away", aspect),
        Rule("reference_not_constant", "soft", ("reference",), between, {"column": "spread", "min_value": MINIMUM_SPREAD}, "No reference picture is one flat colour", flat),
        Rule("single_frame", "soft", ALL, "ExpectColumnValuesToBeInSet", {"column": "animated", "value_set": [False]}, "No picture is animated", lambda row: "only its first frame is used"),
        Rule("nothing_passed_over", "soft", ("ignored",), "ExpectColumnValuesToBeNull", {"column": "passed_over"}, "Every file in the source is used", lambda row: row["passed_over"]),
    ]


def _count_rules(manifest: Manifest) -> list[Rule]:
    low, high = ADVISED_COUNT
    count = "ExpectTableRowCountToBeBetween"
    found = [
        Rule("style_ref_count", "hard", ("style_ref",), count, {"min_value": MINIMUM_COUNT}, f"There are at least {MINIMUM_COUNT} usable StyleRef pictures"),
        Rule("style_ref_advised_count", "soft", ("style_ref",), count, {"min_value": low, "max_value": high}, f"There are {low} to {high} StyleRef pictures"),
        Rule("reference_given", "soft", ("reference",), count, {"min_value": 1}, "There is a held-out reference; without one FID and KID rest on the StyleRef pictures themselves"),
    ]
    if manifest.split("aux_pool"):
        found.append(Rule("aux_pool_advised_count", "soft", ("aux_pool",), count, {"min_value": ADVISED_POOL}, f"There are at least {ADVISED_POOL} pictures to curate from"))
    return found


def _identity_rules() -> list[Rule]:
    null = "ExpectColumnValuesToBeNull"
    return [
        Rule("no_exact_duplicates", "hard", ("style_ref",), null, {"column": "exact_duplicate"}, "No two StyleRef files are equal", lambda row: f"equals {row['exact_duplicate']}"),
        Rule("no_leakage", "hard", ("style_ref",), null, {"column": "exact_leak"}, "No StyleRef picture is also in the held-out reference", lambda row: f"equals {row['exact_leak']}"),
        Rule("no_near_duplicates", "soft", ("style_ref",), null, {"column": "near_duplicate"}, "No two StyleRef pictures look the same", lambda row: f"looks like {row['near_duplicate']}"),
        Rule("no_near_leakage", "soft", ("style_ref",), null, {"column": "near_leak"}, "No StyleRef picture looks like one of the held-out reference", lambda row: f"looks like {row['near_leak']}"),
        Rule("other_duplicates", "soft", ("aux_pool", "reference"), null, {"column": "exact_duplicate"}, "No two files of the pool, or of the reference, are equal", lambda row: f"equals {row['exact_duplicate']}"),
        Rule("pool_is_separate", "soft", ("aux_pool",), null, {"column": "exact_leak"}, "No pool picture is also a StyleRef or reference picture", lambda row: f"equals {row['exact_leak']}"),
    ]


def _caption_rules() -> list[Rule]:
    return [
        Rule("captions_present", "soft", ("style_ref",), "ExpectColumnValuesToNotBeNull", {"column": "caption"}, "Every StyleRef picture has a caption (text in metadata.jsonl)", lambda row: "has no caption"),
        Rule("caption_length", "soft", ("style_ref",), "ExpectColumnValuesToBeBetween", {"column": "caption_words", "max_value": CAPTION_WORDS}, f"Captions have at most {CAPTION_WORDS} words; the text encoder cuts the rest", lambda row: f"has {row['caption_words']:.0f} words"),
    ]


def _role_rules(manifest: Manifest, needs_roles: bool) -> list[Rule]:
    """Coverage can be judged here only if metadata or folders name every role; else the split finds the rest."""
    if any(entry.known_role[0] is None for entry in manifest.usable("style_ref")):
        return []
    wanted = {"column": "role", "value_set": ["character", "background"]}
    message = "StyleRef shows both characters and backgrounds" + (", as the method needs" if needs_roles else "")
    return [Rule("role_coverage", "hard" if needs_roles else "soft", ("style_ref",), "ExpectColumnDistinctValuesToContainSet", wanted, message)]
