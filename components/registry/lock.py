"""A lock that allows one promotion at a time, however the registry is reached: tickets numbered by the registry's own database.

A process that wants to promote draws a ticket, which is a new version of a registered model that exists for nothing else. The
database numbers the versions consecutively, whether it is reached as a file, over a connection or through MLflow's server, and the
lowest open ticket holds the lock. A lock file or a database's advisory lock would not do: processes that go through the server and
processes that open its database would not see each other's locks.

A dead holder is passed over at once if its process ran on this machine, and any other holder when its ticket has been the lowest
for ``LEASE`` seconds by the waiting process's own clock, so that no clocks need to agree. Before each write, the holder checks that
its ticket still exists.
"""

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from components.core.errors import ServiceUnreachable
from components.registry.tracking import Tracking, passing_over, public_uri

SUFFIX = ".tickets"
"""Appended to a model's name, this names the registered model that holds its tickets."""
KIND_TAG = "styleforge.kind"
KIND = "tickets"
LEASE = 60.0
"""Seconds for which a ticket may stay the lowest; the work under the lock takes one or two."""
WAIT = 600.0
"""Seconds after which a waiting process gives up."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """A place in the queue."""

    tracking: Tracking
    queue: str
    number: int

    def check(self) -> None:
        """Raise ServiceUnreachable if another process has taken over the lock because this one stalled for too long."""
        if self.number not in _open_tickets(self.tracking, self.queue):
            raise ServiceUnreachable(
                f"lock {self.queue} at {public_uri(self.tracking.uri)}", "was lost: this process stalled for too long",
                remedy="nothing was changed; run the same command again",
            )  # fmt: skip


@contextlib.contextmanager
def lock(tracking: Tracking, name: str, *, lease: float = LEASE, wait: float = WAIT) -> Iterator[Ticket]:
    """Hold the lock of ``name``; check the ticket before each write.

    Another process's ticket is passed over after being the lowest for ``lease`` seconds; ServiceUnreachable after waiting ``wait`` seconds.
    """
    queue = name + SUFFIX
    ticket = Ticket(tracking, queue, _draw(tracking, queue))
    try:
        _await_turn(ticket, lease, wait)
        yield ticket
    finally:
        with contextlib.suppress(Exception):
            _discard(tracking, queue, ticket.number)


def is_queue(tags: dict[str, str]) -> bool:
    """Whether a registered model with these tags only holds tickets."""
    return tags.get(KIND_TAG) == KIND


def _draw(tracking: Tracking, queue: str) -> int:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        # Fails if the model exists already, which is fine.
        tracking.client.create_registered_model(queue, tags={KIND_TAG: KIND}, description="Tickets of promotions; safe to delete at rest.")
    return int(_retrying()(tracking.client.create_model_version, queue, "styleforge://tickets/promotion", tags=_owner()).version)


def _retrying() -> Retrying:
    """Retries for writes that the database refuses when many processes write at once."""
    from mlflow.exceptions import MlflowException

    def busy(error: BaseException) -> bool:
        return isinstance(error, MlflowException) and any(
            word in str(error)
            for word in ("Giving up after", "database is locked", "deadlock", "could not serialize", "IntegrityError", "UNIQUE")
        )

    return Retrying(retry=retry_if_exception(busy), wait=wait_random_exponential(0.02, max=1.0), stop=stop_after_delay(60), reraise=True)


def _await_turn(ticket: Ticket, lease: float, wait: float) -> None:
    deadline = time.monotonic() + wait
    lowest, since = None, time.monotonic()
    pause = 0.02
    while True:
        tickets = _open_tickets(ticket.tracking, ticket.queue)
        if ticket.number not in tickets:
            ticket.check()
        first = min(tickets)
        if first == ticket.number:
            return
        if first != lowest:
            lowest, since, pause = first, time.monotonic(), 0.02
        if _is_dead(tickets[first]) or time.monotonic() - since > lease:
            _logger.warning("skipping ticket %d of %s, whose holder is gone", first, ticket.queue)
            _discard(ticket.tracking, ticket.queue, first)
            continue
        if time.monotonic() > deadline:
            raise ServiceUnreachable(
                f"lock {ticket.queue} at {public_uri(ticket.tracking.uri)}", f"others have held it for {wait:.0f} s",
                expected="one promotion at a time", remedy="run the same command again later",
            )  # fmt: skip
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def _open_tickets(tracking: Tracking, queue: str) -> dict[int, dict[str, str]]:
    """Number and tags of each open ticket."""
    return {int(version.version): dict(version.tags) for version in tracking.versions(queue)}


def _discard(tracking: Tracking, queue: str, number: int) -> None:
    with passing_over("RESOURCE_DOES_NOT_EXIST"):  # Another process was quicker.
        _retrying()(tracking.client.delete_model_version, queue, str(number))


def _owner() -> dict[str, str]:
    process = psutil.Process()
    return {
        "styleforge.space": _process_space() or "", "styleforge.pid": str(process.pid),
        "styleforge.started": repr(process.create_time()), "styleforge.host": socket.gethostname(),
    }  # fmt: skip


def _process_space() -> str | None:
    """Identifies the space in which process ids are unique (boot and PID namespace); None if it cannot be determined."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _is_dead(tags: dict[str, str]) -> bool:
    """Whether a ticket's process ran in this process's PID space and no longer exists."""
    space = _process_space()
    if space is None or tags.get("styleforge.space") != space or not tags.get("styleforge.pid", "").isdigit():
        return False
    try:
        return repr(psutil.Process(int(tags["styleforge.pid"])).create_time()) != tags.get("styleforge.started")
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
