"""Who made which version the champion, when and why: entries on the registered model, numbered without gaps."""

import getpass
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from components.registry.tracking import Tracking, service_errors

PREFIX = "styleforge.history."
Action = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Entry:
    """One move of an alias. ``state`` is ``begun`` until the alias has moved, and ``interrupted`` if it never did.

    ``before`` is the version that held the alias until then, ``gate`` the verdict, ``source`` the development version that was copied,
    ``ci`` the CI run's URL.
    """

    number: int
    action: Action
    alias: str
    version: str
    before: str | None
    who: str
    when: str
    reason: str
    forced: bool = False
    gate: str | None = None
    source: str | None = None
    ci: str | None = None
    state: Literal["begun", "done", "interrupted"] = "begun"


def read_history(tracking: Tracking, name: str) -> list[Entry]:
    """The entries of a registered model, oldest first; one left at ``begun`` is returned as ``done`` or ``interrupted``."""
    with service_errors(tracking.uri):
        model = tracking.client.get_registered_model(name)
    entries = _entries(dict(model.tags))
    return [_settled(entry, _holder(dict(model.aliases), entry.alias)) if entry.state == "begun" else entry for entry in entries]


def begin(tracking: Tracking, name: str, **facts: Any) -> Entry:
    """Write the next entry, in state ``begun``, after settling those that were interrupted; call it under the lock."""
    model = tracking.client.get_registered_model(name)
    entries = _entries(dict(model.tags))
    for entry in entries:
        if entry.state == "begun":
            _write(tracking, name, _settled(entry, _holder(dict(model.aliases), entry.alias)))
    entry = Entry(number=(entries[-1].number if entries else 0) + 1, **facts)
    _write(tracking, name, entry)
    return entry


def finish(tracking: Tracking, name: str, entry: Entry) -> Entry:
    """Mark an entry done: its alias has moved."""
    done = replace(entry, state="done")
    _write(tracking, name, done)
    return done


def version_before(entries: Sequence[Entry], alias: str) -> str | None:
    """The version that a rollback of ``alias`` returns to, or None: promotions are pushed onto a stack, and rollbacks pop them."""
    pile: list[str] = []
    for entry in entries:
        if entry.alias != alias or entry.state != "done":
            continue
        if not pile and entry.before is not None:
            pile.append(entry.before)  # It got the alias by other means.
        if entry.action == "rollback" and entry.version in pile:
            while pile[-1] != entry.version:
                pile.pop()
        elif not pile or pile[-1] != entry.version:
            pile.append(entry.version)
    return pile[-2] if len(pile) > 1 else None


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def author(environment: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """Who acts (the CI user, else the local user), and the URL of the CI run, if there is one."""
    env = os.environ if environment is None else environment
    if env.get("GITHUB_RUN_ID"):
        place = (
            f"{env.get('GITHUB_SERVER_URL', 'https://github.com')}/{env.get('GITHUB_REPOSITORY', '')}/actions/runs/{env['GITHUB_RUN_ID']}"
        )
        return env.get("GITHUB_TRIGGERING_ACTOR") or env.get("GITHUB_ACTOR") or "github", place
    if env.get("GITLAB_CI"):
        return env.get("GITLAB_USER_LOGIN") or "gitlab", env.get("CI_JOB_URL")
    if env.get("BUILD_URL"):
        return env.get("BUILD_USER_ID") or "jenkins", env["BUILD_URL"]
    try:
        return getpass.getuser(), None
    except (KeyError, OSError):
        return f"uid {os.getuid()}", None


def _entries(tags: Mapping[str, str]) -> list[Entry]:
    rows = [json.loads(value) for key, value in tags.items() if key.startswith(PREFIX)]
    return [Entry(**row) for row in sorted(rows, key=lambda row: int(row["number"]))]


def _write(tracking: Tracking, name: str, entry: Entry) -> None:
    text = json.dumps(asdict(entry), ensure_ascii=False)
    tracking.client.set_registered_model_tag(name, f"{PREFIX}{entry.number:06d}", text)


def _holder(aliases: Mapping[str, Any], alias: str) -> str | None:
    return str(aliases[alias]) if alias in aliases else None


def _settled(entry: Entry, holder: str | None) -> Entry:
    """Settle an entry whose process died: ``done`` if its alias had moved, else ``interrupted``."""
    return replace(entry, state="done" if holder == entry.version else "interrupted")
