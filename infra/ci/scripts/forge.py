#!/usr/bin/env python3
"""What GitHub and GitLab are told over their APIs. Python alone: the jobs that comment install nothing, and run nothing of a pull request.

``forge.py comment RESULTS`` creates or updates one comment on the pull request, from the ``summary.md`` and ``grid.png`` in each
folder of RESULTS. ``forge.py merge-request`` prints the number of the merge request that a GitLab commit came from.

Environment variables for GitHub: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN, PULL_REQUEST, and PICTURES, the base URL of the
grids. For GitLab: CI_API_V4_URL, CI_PROJECT_ID, CI_MERGE_REQUEST_IID or CI_COMMIT_SHA, and GITLAB_TOKEN (a project access token with
scope api). The exit code is 0, 2 (bad input) or 4 (the forge does not answer, or refuses).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

MARKER = "<!-- styleforge: this comment is written anew by each run -->"
# Both forges refuse longer texts (GitHub: 65,536 characters).
LONGEST = 60_000
SECONDS = 30


class Refused(Exception):
    """The forge does not answer, or refuses the request."""


class GitHub:
    """Comments of a pull request on GitHub."""

    def __init__(self) -> None:
        self._base = f"{need('GITHUB_API_URL')}/repos/{need('GITHUB_REPOSITORY')}"
        self._number = int(need("PULL_REQUEST"))
        self._headers = {"Authorization": f"Bearer {need('GITHUB_TOKEN')}", "Accept": "application/vnd.github+json"}

    def picture(self, name: str, file: Path) -> str:
        """Return the address of a style's grid, which another script has pushed."""
        return f"{need('PICTURES').rstrip('/')}/{quote(name)}/{file.name}"

    def find(self) -> int | None:
        """Return our comment's id, or None; only bot comments count, since anybody could write the marker into a comment."""
        for comment in pages(f"{self._base}/issues/{self._number}/comments", self._headers):
            if comment["user"]["type"] == "Bot" and comment["body"].startswith(MARKER):
                return int(comment["id"])
        return None

    def write(self, body: str, found: int | None) -> None:
        """Update the comment with id ``found``, or create it if that is None."""
        where = f"issues/{self._number}/comments" if found is None else f"issues/comments/{found}"
        call("POST" if found is None else "PATCH", f"{self._base}/{where}", self._headers, {"body": body})


class GitLab:
    """Notes of a merge request on GitLab."""

    def __init__(self) -> None:
        self._api = need("CI_API_V4_URL")
        self._project = f"{self._api}/projects/{quote(need('CI_PROJECT_ID'), safe='')}"
        self._headers = {"PRIVATE-TOKEN": need("GITLAB_TOKEN")}

    def picture(self, name: str, file: Path) -> str:
        """Upload a grid to the project; return its address."""
        boundary = secrets.token_hex(16)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}.png"\r\nContent-Type: image/png\r\n\r\n'
        data = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return str(call("POST", f"{self._project}/uploads", self._headers | kind, data)["url"])

    def _notes(self) -> str:
        return f"{self._project}/merge_requests/{int(need('CI_MERGE_REQUEST_IID'))}/notes"

    def find(self) -> int | None:
        """Return the id of our note, which has the marker and was written by the token's account; None if there is none."""
        me = call("GET", f"{self._api}/user", self._headers)["id"]
        for note in pages(self._notes(), self._headers):
            if note["author"]["id"] == me and note["body"].startswith(MARKER):
                return int(note["id"])
        return None

    def write(self, body: str, found: int | None) -> None:
        """Update the note with id ``found``, or create it if that is None."""
        where = self._notes() if found is None else f"{self._notes()}/{found}"
        call("POST" if found is None else "PUT", where, self._headers, {"body": body})

    def merge_request(self) -> str:
        """Return the number of the merged merge request that brought in CI_COMMIT_SHA; empty if there is none."""
        found = call("GET", f"{self._project}/repository/commits/{quote(need('CI_COMMIT_SHA'))}/merge_requests", self._headers)
        return next((str(item["iid"]) for item in found if item["state"] == "merged"), "")


def need(name: str) -> str:
    """Return a required environment variable.

    Raises:
        ValueError: it is unset or empty.
    """
    value = os.environ.get(name, "")
    if not value:
        raise ValueError(f"{name} is not set")
    return value


def call(method: str, url: str, headers: dict[str, str], data: Any = None) -> Any:
    """Call the API and return the JSON of its answer; ``data`` is sent unchanged if it is bytes, else as JSON.

    Raises:
        Refused: there is no answer, the answer is not JSON, or its status is 400 or above.
    """
    if data is not None and not isinstance(data, bytes):
        headers, data = headers | {"Content-Type": "application/json"}, json.dumps(data).encode()
    request = urllib.request.Request(url, data=data, headers=headers | {"User-Agent": "styleforge-ci"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"{method} {url}: {error.code} {error.read(300).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise Refused(f"{method} {url}: {error}") from error


def pages(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """Yield all items of a paginated list."""
    number = 1
    while items := call("GET", f"{url}?per_page=100&page={number}", headers):
        yield from items
        number += 1


def comment_body(results: Path, forge: GitHub | GitLab) -> str:
    """Build the comment: one section for each style, with its grid at an address that the forge can show.

    Raises:
        ValueError: no style has a summary.
    """
    sections = []
    for summary in sorted(results.glob("*/summary.md")):
        text, grid = summary.read_text(encoding="utf-8"), summary.with_name("grid.png")
        if grid.is_file():
            text = text.replace("](grid.png)", f"]({forge.picture(summary.parent.name, grid)})", 1)
        sections.append(text.strip())
    if not sections:
        raise ValueError(f"{results}: no subfolder has a summary.md")
    body = "\n\n".join([MARKER, "## StyleForge", *sections])
    return body if len(body) <= LONGEST else body[:LONGEST] + "\n\n… cut off: the rest is in the job's log and files."


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("comment").add_argument("results", type=Path)
    tasks.add_parser("merge-request")
    arguments = parser.parse_args()
    try:
        if arguments.task == "merge-request":
            print(GitLab().merge_request())
            return 0
        forge: GitHub | GitLab = GitLab() if os.environ.get("GITLAB_CI") else GitHub()
        body = comment_body(arguments.results, forge)
        forge.write(body, forge.find())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
