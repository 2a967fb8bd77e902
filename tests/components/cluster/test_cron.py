"""Cron expressions: what Kubernetes would refuse is refused, and the times are those of another implementation."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from components.cluster.cron import MACROS, next_times, parse_cron, zone
from components.core.errors import InputError

START = datetime(2026, 2, 27, 22, 58, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "17 3 * * *", "*/15 * * * *", "0 0 1 1 *", "5,35 8-18/2 * * 1-5", "0 12 * * SUN", "30 4 1,15 * 5", "0 0 29 2 *", "10/20 * * * *",
        "0 6 * jan-mar mon", "0 0 */10 * *", "? ? ? * *", *(macro for macro in MACROS),
    ],
)  # fmt: skip
def test_times_are_those_of_croniter(text: str) -> None:
    # What croniter does not know, or reads in another way: ?, and a start without an end.
    other = croniter(MACROS.get(text, text).replace("?", "*").replace("10/20", "10-59/20"), START)
    wanted = [other.get_next(datetime) for _ in range(20 if "29 2" not in text else 3)]
    assert next_times(parse_cron(text), len(wanted), after=START) == wanted


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "0 fields"), ("17 3 * *", "4 fields"), ("0 17 3 * * *", "6 fields"), ("60 3 * * *", "'60'"), ("-1 3 * * *", "'-1'"),
        ("0 24 * * *", "'24'"), ("0 0 0 * *", "'0'"), ("0 0 * 13 *", "'13'"), ("0 0 * * 7", "'7'"), ("0 0 * * monday", "'monday'"),
        ("5-1 * * * *", "'5-1'"), ("*/0 * * * *", "'*/0'"), ("*-5 * * * *", "'*-5'"), ("0 0 L * *", "'L'"), ("0 0 * * 1#2", "'1#2'"),
        ("a b c d e", "'a'"), ("1,,2 * * * *", "''"), ("0 0 31 2 *", "never comes"), ("@dayly", "1 field"), ("@every 1h", "2 fields"),
        ("CRON_TZ=UTC 0 0 * * *", "6 fields"), ("٣ * * * *", "'٣'"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, named: str) -> None:
    with pytest.raises(InputError, match="--cron") as caught:
        parse_cron(text)
    assert named in caught.value.problem and "five fields" in caught.value.expected


def test_a_clock_that_changes() -> None:
    berlin = zone("Europe/Berlin")
    # On the 29th of March 2026 there is no half past two.
    times = next_times(parse_cron("30 2 * * *"), 3, after=datetime(2026, 3, 28, tzinfo=UTC), where=berlin)
    assert [moment.isoformat() for moment in times] == [
        "2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00",
    ]  # fmt: skip


def test_zones() -> None:
    assert zone(None) is zone("Etc/UTC") is zone("UTC") is UTC
    assert zone("Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    for name in ("Europe/Berlinn", "Local", "../etc/passwd", ""):
        with pytest.raises(InputError, match="--time-zone"):
            zone(name)
