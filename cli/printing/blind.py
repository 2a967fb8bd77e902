"""How blind pages and their answers look to people."""

from collections.abc import Mapping
from typing import Any

from cli.printing.scores import print_table, say

_MATCHED = {"prompt": "by prompt", "concept": "by concept", "caption": "by caption", "role": "by role", "chance": "by chance"}


def print_page(result: Mapping[str, Any]) -> None:
    """Where the page and its key are, and how the pairs were matched."""
    how = ", ".join(f"{count} {_MATCHED[reason]}" for reason, count in result["matched_by"].items())
    say(f"page  {result['page']}", f"key   {result['key']} (do not show it to those who answer)", f"{result['pairs']} pairs: {how}")


def print_votes(result: Mapping[str, Any]) -> None:
    """The rate with its interval, each person's, and what it means."""
    rate, name = result["rate"], {role: source.get("model") or source["name"] for role, source in result["sources"].items()}
    rows = [[row["person"], f"{row['value']:.0f} %", str(row["n"])] for row in result["by_person"]]
    print_table(("person", {"artist": "taken in"}.get(result["kind"], "prefers the first"), "answers"), rows)
    what = {
        "artist": f"{name.get('model')}: taken for the artist's",
        "style": f"{name.get('a')}: found more in the style than {name.get('b')}",
        "like": f"{name.get('a')}: liked better than {name.get('b')}",
    }[result["kind"]]
    figures = f"{rate['value']:.1f} % ({rate['low']:.1f} to {rate['high']:.1f})"
    say(f"{what}: {figures}, {rate['n']} answers on {result['pairs']} pairs by {_people(result['people'])}; {_meaning(result)}")
    if result["logged"]:
        say(f"logged with {result['logged']}")


def _people(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def _meaning(result: Mapping[str, Any]) -> str:
    low, high = result["rate"]["low"], result["rate"]["high"]
    if low <= 50 <= high:
        return "50 % is what guessing gives, so people may be guessing" if result["kind"] == "artist" else "undecided"
    if result["kind"] == "artist":
        return "people tell them apart" if high < 50 else "people take the model's for the artist's more often than not"
    return "the first is preferred" if low > 50 else "the second is preferred"
