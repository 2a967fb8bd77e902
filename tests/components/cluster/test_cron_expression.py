from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from components.cluster.cron_expression import MACROS, next_times, parse_cron, zone
from components.core.errors import InputError

START = datetime(2026, 2, 27, 22, 58, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" 17 3 * * * ", ["02-28 03:17", "03-01 03:17"]), ("5,35 8-18/9 * * 1-5", ["03-02 08:05", "03-02 08:35"]),
        ("0 0 29 2 *", ["02-29 00:00", "02-29 00:00"]), ("10/20 * * * *", ["02-27 23:10", "02-27 23:30"]),
        ("0 6 * jan-mar SUN", ["03-01 06:00", "03-08 06:00"]), ("? ? ? * *", ["02-27 22:59", "02-27 23:00"]),
        # Either kind of day is enough, unless one of them starts with a star.
        ("0 0 1 * mon", ["03-01 00:00", "03-02 00:00"]), ("0 0 */10 * mon", ["05-11 00:00", "06-01 00:00"]),
        ("@daily", ["02-28 00:00", "03-01 00:00"]),
    ],
)  # fmt: skip
def test_times(text: str, wanted: list[str]) -> None:
    assert all(next_times(parse_cron(macro), 1) for macro in MACROS)
    assert [f"{moment:%m-%d %H:%M}" for moment in next_times(parse_cron(text), 2, after=START)] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "17 3 * *", "0 17 3 * * *", "60 3 * * *", "-1 3 * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 7", "0 0 * * 5-7",
        "0 0 * * fri-sun", "0 0 * * monday", "5-1 * * * *", "*/0 * * * *", "*-5 * * * *", "0 0 L * *", "0 0 * * 1#2", "H * * * *",
        "R * * * *", "a b c d e", "jan * * * *", "1,,2 * * * *", "0 0 31 2 *", "@dayly", "@every 1h", "CRON_TZ=UTC 0 0 * * *", "٣ * * * *",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--cron") as caught:
        parse_cron(text)
    assert "five fields" in caught.value.expected


def test_a_clock_that_changes() -> None:
    # In Berlin there is no half past two on the 29th of March 2026, and there are two on the 25th of October.
    for start, days in ((datetime(2026, 3, 28), "28+01:00 30+02:00 31+02:00"), (datetime(2026, 10, 24), "24+02:00 25+02:00 25+01:00")):
        times = next_times(parse_cron("30 2 * * *"), 3, after=start.replace(tzinfo=UTC), where=zone("Europe/Berlin"))
        assert [f"{time.isoformat()[8:10]}{time.isoformat()[19:]}" for time in times] == days.split()
        assert {(time.hour, time.minute) for time in times} == {(2, 30)}


def test_zones() -> None:
    assert zone(None) is zone("Etc/UTC") is zone("UTC") is UTC
    assert zone("Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    for name in ("Europe/Berlinn", "Local", "../etc/passwd", ""):
        with pytest.raises(InputError, match="--time-zone"):
            zone(name)
