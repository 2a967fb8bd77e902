"""Cron expressions as Kubernetes reads them: checked before they are sent, and the times at which they fire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from components.core.errors import InputError

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
UTC_NAMES = ("Etc/UTC", "UTC")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Kubernetes knows no Sunday 7.
_FIELDS = (
    ("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of the month", 1, 31, ()), ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)  # fmt: skip
_PART = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")
# February the 29th may be eight years away.
_HORIZON = timedelta(days=9 * 366)


@dataclass(frozen=True)
class Cron:
    """A checked expression; ``text`` is what the user wrote, the sets hold the values of each field."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def fires_on(self, day: date) -> bool:
        """Whether there is a time on that day. Where both kinds of day are restricted, one of them is enough."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either_day else of_month and of_week)


def parse_cron(text: str) -> Cron:
    """Check an expression of five fields, or one such as ``@daily``.

    Raises:
        InputError: it is none, or names a time that never comes, such as the 31st of February.
    """
    where = f"--cron {text!r}"
    expected = f"five fields (minute hour day month weekday) such as '17 3 * * *', or {', '.join(MACROS)}"
    fields = MACROS.get(text.strip(), text).split()
    if len(fields) != len(_FIELDS):
        raise InputError(where, f"has {len(fields)} field{'s' * (len(fields) != 1)}", expected=expected)
    try:
        sets = [_values(field, *rule) for field, rule in zip(fields, _FIELDS, strict=True)]
    except ValueError as error:
        raise InputError(where, str(error), expected=expected) from error
    minutes, hours, days, months, weekdays = sets
    starred = [field.startswith(("*", "?")) for field in fields]
    cron = Cron(text.strip(), minutes, hours, days, months, weekdays, not starred[2] and not starred[4])
    if not next_times(cron, 1):
        raise InputError(where, "names a time that never comes", expected=expected)
    return cron


def _values(field: str, name: str, low: int, high: int, words: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match["first"] in "*?" and match["last"]):
            raise ValueError(f"{part!r} is no {name}")
        if match["first"] in "*?":
            first, last = low, high
        else:
            first = _number(match["first"], name, low, high, words)
            # As in Kubernetes, 5/10 is from the fifth on.
            last = _number(match["last"], name, low, high, words) if match["last"] else high if match["step"] else first
        step = int(match["step"] or 1)
        if step < 1 or first > last:
            raise ValueError(f"{part!r} is no {name}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, words: tuple[str, ...]) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + low
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ValueError(f"{text!r} is no {name} ({low} to {high})")
    return int(text)


def zone(name: str | None) -> tzinfo:
    """A time zone by its name in the IANA database; None is UTC.

    Raises:
        InputError: there is none of that name.
    """
    if name is None or name in UTC_NAMES:
        return UTC
    try:
        # Kubernetes refuses it: there it would be the control plane's.
        if name == "Local":
            raise ValueError
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"--time-zone {name}", "no such time zone", expected="a name such as Etc/UTC or Europe/Berlin") from error


def next_times(cron: Cron, count: int, *, after: datetime | None = None, where: tzinfo = UTC) -> list[datetime]:
    """The next ``count`` times, in the zone ``where``. Local times that a change of the clock skips are left out."""
    after = (after or datetime.now(UTC)).astimezone(where)
    return list(islice(_times(cron, after, where), count))


def _times(cron: Cron, after: datetime, where: tzinfo) -> Iterator[datetime]:
    day, end = after.date(), after.date() + _HORIZON
    while day < end:
        if cron.fires_on(day):
            for hour in sorted(cron.hours):
                for minute in sorted(cron.minutes):
                    moment = datetime.combine(day, time(hour, minute), where)
                    exists = moment.astimezone(UTC).astimezone(where).replace(tzinfo=None) == moment.replace(tzinfo=None)
                    if exists and moment > after:
                        yield moment
                        end = day + _HORIZON
        day += timedelta(days=1)
