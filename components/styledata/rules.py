"""The rules of a style set as data: a name, a severity, an expectation over the manifest's table, and its messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from components.core.config.rights import RightsRule
from components.core.images import EXTENSIONS
from components.core.rights import refused
from components.styledata.manifest import ImageEntry, Manifest
from components.styledata.near_duplicates import exact_duplicates, near_duplicates

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
"""In levels of 0–255; below this a picture is one flat colour to the eye and to the VAE."""
CAPTION_WORDS = 50
"""About as many words as fit into the 77 tokens of CLIP's text encoder along with the style's own words."""

TRAINING = ("style_ref", "aux_pool")
ALL = ("style_ref", "aux_pool", "reference")


@dataclass(frozen=True)
class Rule:
    """One rule: an expectation of Great Expectations over the rows whose ``kind`` is in ``kinds``.

    A kind is a split's name, ``undecodable`` (whatever the split) or ``ignored``. ``message`` says what the rule requires; ``reason``, a
    format string over the row's columns, says what is wrong with a failing row.
    """

    name: str
    severity: Severity
    kinds: tuple[str, ...]
    expectation: str
    arguments: Row
    message: str
    reason: str = ""


def table(manifest: Manifest, style_set: Path, rights: RightsRule | None = None) -> pandas.DataFrame:
    """One row per picture or ignored file, with everything that the rules check. A column that does not apply is null."""
    import pandas

    style, reference, pool = (manifest.usable(name) for name in ("style_ref", "reference", "aux_pool"))
    relations = {
        "exact_duplicate": exact_duplicates(style) | exact_duplicates(reference) | exact_duplicates(pool),
        "near_duplicate": near_duplicates(style_set, style),
        "exact_leak": exact_duplicates(style, reference) | exact_duplicates(pool, (*reference, *style)),
        "near_leak": near_duplicates(style_set, style, reference),
    }
    problems = refused(rights, ({"path": entry.path, **(entry.rights or {})} for entry in manifest.entries)) if rights else {}
    relations["rights"] = problems
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
        "animation": "is animated: only its first frame is used" if entry.animated else None,
        "uncaptioned": None if entry.caption else "has no caption",
        "caption_words": len(entry.caption.split()) if entry.caption else None,
        "role": role,
    }


_NOTHING = ImageEntry("", "", None, None, None, None, None, None, False, None, None, None, "style_ref", "nothing")


def _why_ignored(path: str) -> str:
    if PurePosixPath(path).suffix.lower() in EXTENSIONS:
        return "is outside style_ref/, aux_pool/ and reference/"
    return "is not a PNG, JPEG, WebP, BMP, TIFF or GIF file by its name"


def rules(
    manifest: Manifest, *, minimum_side: int, needs_roles: bool, captioned: bool = False, rights: RightsRule | None = None,
    least_style_ref: int = 0,
) -> list[Rule]:  # fmt: skip
    """All rules that apply, hard ones first. Poor quality of the held-out reference only warns: it spoils a score, not a model.

    Missing captions are not reported if pictures are ``captioned`` later. Rights are checked only if a rule for ``rights`` is given.
    ``least_style_ref`` is how many StyleRef images it takes to tell copies; 0 if the choice among candidates does not depend on them.
    """
    found = [*_picture_rules(minimum_side), *_count_rules(manifest), *_identity_rules(), *_caption_rules(captioned)]
    found += _role_rules(manifest, needs_roles)
    if least_style_ref:
        message = f"StyleRef has at least {least_style_ref} usable images, for a choice by copies (selection.score, selection.limits)"
        found.append(_count("style_ref_enough_to_select", "hard", "style_ref", least_style_ref, None, message))
    if rights is not None:
        message = "Every training image has the rights that the configuration requires (section rights)"
        found.append(_null("rights", "hard", TRAINING, "rights", message, "{rights}"))
    return sorted(found, key=lambda rule: rule.severity)


def _picture_rules(side: int) -> list[Rule]:
    half = -(-side // 2)
    small, long = "its shorter side is {short_side:.0f} px", "its aspect ratio is {aspect:.1f} to 1"
    flat = "its colours spread by {spread:.1f} of 255 levels"
    reference = ("reference",)
    return [
        _null("decodable", "hard", ("undecodable",), "problem", "Every image decodes", "{problem}"),
        _between("minimum_side", "hard", TRAINING, "short_side", half, None, f"Sides have at least {half} px, half the base's", small),
        _between("aspect_limit", "hard", TRAINING, "aspect", None, ASPECT_LIMIT, f"Aspect ratios are at most {ASPECT_LIMIT:g} to 1", long),
        _between("not_constant", "hard", TRAINING, "spread", MINIMUM_SPREAD, None, "No image is one flat colour", flat),
        _between("advised_side", "soft", ALL, "short_side", side, None, f"Sides have at least the base's {side} px", small),
        _between("advised_aspect", "soft", ALL, "aspect", None, ASPECT_ADVISED, f"Aspect ratios are at most {ASPECT_ADVISED:g} to 1", long),
        _between("reference_not_constant", "soft", reference, "spread", MINIMUM_SPREAD, None, "No reference is one flat colour", flat),
        _null("single_frame", "soft", ALL, "animation", "No image is animated", "{animation}"),
        _null("nothing_passed_over", "soft", ("ignored",), "passed_over", "Every file in the source is used", "{passed_over}"),
    ]


def _count_rules(manifest: Manifest) -> list[Rule]:
    low, high = ADVISED_COUNT
    no_reference = "A held-out reference is given; without one, FID and KID use the StyleRef images themselves"
    found = [
        _count("style_ref_count", "hard", "style_ref", MINIMUM_COUNT, None, f"StyleRef has at least {MINIMUM_COUNT} usable images"),
        _count("style_ref_advised_count", "soft", "style_ref", low, high, f"StyleRef has {low} to {high} images"),
        _count("reference_given", "soft", "reference", 1, None, no_reference),
    ]
    if manifest.split("aux_pool"):
        message = f"The Aux pool has at least {ADVISED_POOL} images"
        found.append(_count("aux_pool_advised_count", "soft", "aux_pool", ADVISED_POOL, None, message))
    return found


def _identity_rules() -> list[Rule]:
    style, pool, rest = ("style_ref",), ("aux_pool",), ("aux_pool", "reference")
    equal, near = "No two StyleRef files are equal", "No two StyleRef images look the same"
    leak, near_leak = "No StyleRef file is also in the reference", "No StyleRef image looks like one of the reference"
    return [
        _null("no_exact_duplicates", "hard", style, "exact_duplicate", equal, "equals {exact_duplicate}"),
        _null("no_leakage", "hard", style, "exact_leak", leak, "equals {exact_leak}"),
        _null("no_near_duplicates", "soft", style, "near_duplicate", near, "looks like {near_duplicate}"),
        _null("no_near_leakage", "soft", style, "near_leak", near_leak, "looks like {near_leak}"),
        _null("other_duplicates", "soft", rest, "exact_duplicate", "No other files are equal", "equals {exact_duplicate}"),
        _null("pool_is_separate", "soft", pool, "exact_leak", "No pool file is also in StyleRef or the reference", "equals {exact_leak}"),
    ]


def _caption_rules(captioned: bool) -> list[Rule]:
    present = "Every StyleRef image has a caption (text in metadata.jsonl)"
    short = f"Captions have at most {CAPTION_WORDS} words; the text encoder cuts off the rest"
    style = ("style_ref",)
    length = _between(
        "caption_length", "soft", style, "caption_words", None, CAPTION_WORDS, short, "its caption has {caption_words:.0f} words"
    )
    return [length] if captioned else [_null("captions_present", "soft", style, "uncaptioned", present, "{uncaptioned}"), length]


def _role_rules(manifest: Manifest, needs_roles: bool) -> list[Rule]:
    """Whether both roles are covered can be judged here only if metadata or folders name every role; the split finds the others later."""
    if any(entry.known_role[0] is None for entry in manifest.usable("style_ref")):
        return []
    wanted = {"column": "role", "value_set": ["character", "background"]}
    message = "StyleRef shows characters and backgrounds" + (", as the method needs" if needs_roles else "")
    severity: Severity = "hard" if needs_roles else "soft"
    return [Rule("role_coverage", severity, ("style_ref",), "ExpectColumnDistinctValuesToContainSet", wanted, message)]


def _null(name: str, severity: Severity, kinds: tuple[str, ...], column: str, message: str, reason: str) -> Rule:
    return Rule(name, severity, kinds, "ExpectColumnValuesToBeNull", {"column": column}, message, reason)


def _between(
    name: str, severity: Severity, kinds: tuple[str, ...], column: str, low: float | None, high: float | None, message: str, reason: str
) -> Rule:
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Rule(name, severity, kinds, "ExpectColumnValuesToBeBetween", arguments, message, reason)


def _count(name: str, severity: Severity, kind: str, low: int, high: int | None, message: str) -> Rule:
    return Rule(name, severity, (kind,), "ExpectTableRowCountToBeBetween", {"min_value": low, "max_value": high}, message)
