"""Cron expressions as Kubernetes reads them: croniter's, without the forms that Kubernetes refuses and the times that it skips."""

import re
from datetime import UTC, datetime, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from components.core.errors import InputError

MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
UTC_NAMES = ("Etc/UTC", "UTC")
_PART = re.compile(r"([*?]|\d+|[a-z]{3})(?:-(\d+|[a-z]{3}))?(/\d+)?", re.ASCII | re.IGNORECASE)


def parse_cron(text: str) -> str:
    """Return the stripped expression if Kubernetes is certain to accept it: five fields, or a macro such as ``@daily``.

    InputError for any other form, and for a time that never comes, such as the 31st of February.
    """
    from croniter import CroniterError

    cron = text.strip()
    try:
        if cron not in MACROS:
            _check_fields(cron)
        next_times(cron, 1)
    except (CroniterError, ValueError) as error:
        raise InputError(
            f"--cron {text!r}", f"is not a schedule: {error}",
            expected=f"five fields (minute hour day month weekday) such as '17 3 * * *', or {', '.join(MACROS)}",
        ) from error  # fmt: skip
    return cron


def _check_fields(cron: str) -> None:
    """Refuse what croniter accepts and Kubernetes does not: seconds, Sunday as 7, ranges that wrap, and extensions (L, #, H, R)."""
    from croniter import croniter

    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields")
    for field, words in zip(fields, croniter.ALPHACONV, strict=False):
        for part in field.split(","):
            match = _PART.fullmatch(part)
            numbers = [int(words.get(end.lower(), end)) for end in match.group(1, 2) if end and end not in "*?"] if match else []
            if not match or numbers != sorted(numbers) or (field is fields[4] and 7 in numbers):
                raise ValueError(f"{part!r} cannot be read")


def zone(name: str | None) -> tzinfo:
    """A time zone by its IANA name, or UTC for None; InputError for an unknown name."""
    if name is None or name in UTC_NAMES:
        return UTC
    try:
        # Kubernetes refuses this name, which would mean the control plane's zone.
        if name == "Local":
            raise ValueError
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"--time-zone {name}", "no such time zone", expected="a name such as Etc/UTC or Europe/Berlin") from error


def next_times(cron: str, count: int, *, after: datetime | None = None, where: tzinfo = UTC) -> list[datetime]:
    """The next ``count`` times of a checked expression, in the zone ``where``, without local times that a clock change skips."""
    from croniter import croniter

    # croniter accepts ? only for days; Kubernetes reads it as * everywhere. If either day field starts with *, both must match.
    times = croniter(cron.replace("?", "*"), (after or datetime.now(UTC)).astimezone(where), ret_type=datetime, implement_cron_bug=True)
    minutes, hours = (set(range(60)) if found == ["*"] else set(found) for found in times.expanded[:2])
    # croniter moves a skipped time to the end of the gap, but Kubernetes starts nothing then.
    return list(islice((moment for moment in times if moment.minute in minutes and moment.hour in hours), count))
