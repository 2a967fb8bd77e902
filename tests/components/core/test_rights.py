import re
from typing import Any

import pytest

from components.core.config import validate_model
from components.core.config.rights import RightsRule
from components.core.errors import ConfigError
from components.core.rights import attribution, canonical, check_rule, is_share_alike, problem_of, refused, summarize


def rule(*licenses: str, **more: Any) -> RightsRule:
    return validate_model(RightsRule, {"licenses": licenses, **more}, "rights")


def row(license_: str | None = None, **more: str) -> dict[str, str]:
    return {"path": "a.png", **({"license": license_} if license_ else {}), **more}


@pytest.mark.parametrize(
    ("asked", "given", "problem"),
    [
        (rule("CC-BY-4.0"), row("cc-by-4.0", author="Ann"), None),
        (rule("CC-BY-4.0"), row("CC-BY-4.0"), "requires an author"),
        (rule("CC-BY-4.0"), row(author="Ann"), "has no license"),
        (rule("CC-BY-4.0"), row("public domain"), "'public domain' is not an SPDX id"),
        (rule("CC-BY-4.0"), row("MIT", author="Ann"), r"MIT is not among those accepted \(CC-BY-4.0\)"),
        (rule("MIT"), row("MIT OR GPL-3.0-only", author="Ann"), None),
        (rule("MIT"), row("MIT AND CC-BY-4.0", author="Ann"), "is not among"),
        (rule("MIT", "CC-BY-4.0"), row("MIT AND CC-BY-4.0", author="Ann"), None),
        # What need not name anybody.
        (rule("any"), row("CC0-1.0"), None),
        (rule("any"), row("LicenseRef-contract-7"), None),
        (rule("LicenseRef-ours"), row("LicenseRef-theirs"), "is not among"),
        (rule("any"), row("CC-BY-SA-4.0", author="Ann"), None),
        (rule("any", share_alike="refuse"), row("CC-BY-SA-4.0", author="Ann"), "CC-BY-SA-4.0 is share-alike"),
        # One may choose the other licence.
        (rule("any", share_alike="refuse"), row("CC-BY-SA-4.0 OR MIT", author="Ann"), None),
        (rule("any", consent=True), row("CC0-1.0"), "has no consent"),
        (rule("any", consent=True), row("CC0-1.0", consent="mail of 2 May"), None),
        (rule("MIT", consent=True), row("CC0-1.0"), "is not among.*; has no consent"),
    ],
)
def test_what_a_rule_refuses(asked: RightsRule, given: dict[str, str], problem: str | None) -> None:
    found = problem_of(asked, given)
    assert found is None if problem is None else re.search(problem, str(found))


def test_all_are_named_at_once() -> None:
    rows = [{"path": f"{index}.png", **({"license": "CC0-1.0"} if index == 1 else {})} for index in range(30)]
    assert sorted(refused(rule("any"), rows)) == sorted(f"{index}.png" for index in range(30) if index != 1)


@pytest.mark.parametrize(
    ("license_", "expected"),
    [("CC-BY-SA-4.0", True), ("GPL-3.0-only WITH Classpath-exception-2.0", True), ("CC-BY-4.0", False), ("MIT AND GPL-2.0-only", True)],
)
def test_share_alike(license_: str, expected: bool) -> None:
    assert canonical(license_) == license_ and is_share_alike(license_) == expected


def test_the_text_names_everybody_once_and_what_is_missing() -> None:
    openmoji = {"license": "cc-by-sa-4.0", "author": "OpenMoji", "source": "https://openmoji.org"}
    rows = [{"path": f"{index}.png", **openmoji} for index in range(3)]
    rows += [{"path": "x.png", "license": "CC0-1.0", "consent": "secret"}, {"path": "y.png"}]
    text = attribution(rows, "styled")
    assert "- OpenMoji: 3 images, CC-BY-SA-4.0, https://openmoji.org\n" in text and "- author not named: 1 image, CC0-1.0\n" in text
    assert "Share-alike: CC-BY-SA-4.0." in text and "No licence is on record for y.png." in text and "secret" not in text
    assert summarize(rows) == {
        "licenses": ["CC-BY-SA-4.0", "CC0-1.0"],
        "authors": ["OpenMoji"],
        "share_alike": ["CC-BY-SA-4.0"],
        "without": ["y.png"],
    }
    assert "Share-alike" not in attribution(rows[3:4], "styled") and "No licence" not in attribution(rows[3:4], "styled")


def test_rules_that_make_no_sense_are_refused() -> None:
    for wrong in ({"consent": True}, {"share_alike": "refuse"}):
        with pytest.raises(ConfigError, match="list the accepted ones"):
            validate_model(RightsRule, wrong, "rights")
    check_rule(rule("any", "CC-BY-4.0", "LicenseRef-ours"), "rights.licenses")
    with pytest.raises(ConfigError, match=r"rights\.licenses: CC-BY, MIT OR CC0-1\.0: not an SPDX id.*expected ids such as"):
        check_rule(rule("CC-BY", "MIT", "MIT OR CC0-1.0"), "rights.licenses")
