"""Rights of training images: what a licence requires, what a rule refuses, and the attribution text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.core.config.rights import RightsRule
from components.core.errors import ConfigError

FIELDS = ("license", "author", "consent", "source")
"""The fields of a row of ``metadata.jsonl`` on an image's rights, each a text."""
ANY = "any"
_SHARE_ALIKE = ("CC-BY-SA-", "CC-BY-NC-SA-", "GPL-", "AGPL-", "LGPL-", "GFDL-", "ODbL-", "LAL-", "EUPL-")
_NO_NAME = ("CC0-", "CC-PDM-", "LicenseRef-", "Unlicense", "0BSD", "MIT-0", "WTFPL")
"""Licences that do not require naming the author; a contract of one's own (``LicenseRef-``) says elsewhere whether it does."""
_LISTED = 20

Row = Mapping[str, Any]
"""An image: its ``path``, and those of :data:`FIELDS` that are known."""


def canonical(license_: str) -> str | None:
    """An SPDX id or expression in its canonical spelling; None if it is not one."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(license_))
    except InvalidLicenseExpression:
        return None


def check_rule(rule: RightsRule, where: str) -> None:
    """Raise ConfigError for a licence in the rule that is not an SPDX id."""
    wrong = [name for name in rule.licenses if name != ANY and ((known := canonical(name)) is None or " " in known)]
    if wrong:
        raise ConfigError(
            where, f"{', '.join(wrong)}: not an SPDX id",
            expected=f"ids such as CC-BY-4.0, `LicenseRef-...` for a contract of your own, or {ANY}", remedy="see https://spdx.org/licenses",
        )  # fmt: skip


def is_share_alike(license_: str) -> bool:
    """Whether every alternative that the licence offers requires what is made from the image to be under the same licence."""
    return all(any(part.startswith(_SHARE_ALIKE) for part in _ids(way)) for way in _ways(license_))


def problem_of(rule: RightsRule, row: Row) -> str | None:
    """Why the rule refuses an image; None if it may be trained on."""
    problems = [_license_problem(rule, row)]
    if rule.consent and not row.get("consent"):
        problems.append("has no consent")
    return "; ".join(filter(None, problems)) or None


def refused(rule: RightsRule, rows: Iterable[Row]) -> dict[str, str]:
    """The reasons why a rule refuses images, by the image's path."""
    found = ((str(row["path"]), problem_of(rule, row)) for row in rows)
    return {path: problem for path, problem in found if problem}


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """``licenses``, ``authors`` and ``share_alike`` (sorted), and ``without``, the paths of images that name no licence."""
    licenses = {canonical(row["license"]) or str(row["license"]) for row in rows if row.get("license")}
    return {
        "licenses": sorted(licenses), "authors": sorted({str(row["author"]) for row in rows if row.get("author")}),
        "share_alike": sorted(name for name in licenses if is_share_alike(name)),
        "without": [str(row["path"]) for row in rows if not row.get("license")],
    }  # fmt: skip


def attribution(rows: Sequence[Row], title: str) -> str:
    """The attribution that licences require: a line per author, licence and source, then share-alike licences and images without one."""
    groups: dict[tuple[str, str, str], int] = {}
    for row in rows:
        if row.get("license"):
            key = (str(row.get("author") or ""), canonical(row["license"]) or str(row["license"]), str(row.get("source") or ""))
            groups[key] = groups.get(key, 0) + 1
    lines = [f"Images that {title} learned from", ""]
    for (author, license_, source), count in sorted(groups.items()):
        images = "1 image" if count == 1 else f"{count} images"
        lines.append(f"- {author or 'author not named'}: {images}, {license_}" + (f", {source}" if source else ""))
    found = summarize(rows)
    if found["share_alike"]:
        lines += [
            "", f"Share-alike: {', '.join(found['share_alike'])}. What is adapted from these images is shared under the same licence.",
            "Whether a trained model counts as adapted from them is unsettled: ask before you publish it under another licence.",
        ]  # fmt: skip
    if without := found["without"]:
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        lines += ["", f"No licence is on record for {', '.join(without[:_LISTED])}{more}."]
    return "\n".join(lines) + "\n"


def _license_problem(rule: RightsRule, row: Row) -> str | None:
    named = row.get("license")
    if not named:
        return "has no license"
    license_ = canonical(str(named))
    if license_ is None:
        return f"its license {named!r} is not an SPDX id"
    allowed = {canonical(name) for name in rule.licenses}
    ways = [way for way in _ways(license_) if ANY in rule.licenses or all(part in allowed for part in _ids(way))]
    if not ways:
        return f"its license {license_} is not among those accepted ({', '.join(rule.licenses)})"
    if rule.share_alike == "refuse":
        ways = [way for way in ways if not is_share_alike(way)]
        if not ways:
            return f"its license {license_} is share-alike"
    if not row.get("author") and all(not part.startswith(_NO_NAME) for way in ways for part in _ids(way)):
        return f"its license {license_} requires an author, and none is named"
    return None


def _ways(license_: str) -> list[str]:
    """The alternatives that an expression offers (``OR``); one with brackets is taken whole."""
    return [license_] if "(" in license_ else license_.split(" OR ")


def _ids(way: str) -> list[str]:
    """The licences that apply together in one alternative (``AND``), without their exceptions (``WITH``)."""
    return [part.partition(" WITH ")[0] for part in way.strip("()").split(" AND ")]
