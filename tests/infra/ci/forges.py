"""The few calls of GitHub's and GitLab's APIs that our script makes, answered on loopback as the real ones answer."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Call, http_server

TOKEN = "a-token"
BOT, SOMEBODY = 7, 8


@dataclass
class Forge:
    """Comments and uploads that were made; ``writes`` are the methods of writing calls, in their order."""

    address: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    def add(self, body: str, author: int = SOMEBODY) -> dict[str, Any]:
        kind = "Bot" if author == BOT else "User"
        row = {"id": len(self.comments) + 1, "body": body, "user": {"type": kind}, "author": {"id": author}}
        self.comments.append(row)
        return row

    def answer(self, call: Call) -> Any:
        method, path, query, body = call.method, call.path, call.query, call.body
        comments = r"/repos/team/styles/issues/12/comments|/projects/5/merge_requests/12/notes"
        if method == "GET" and re.fullmatch(comments, path):
            size, number = int(query["per_page"][0]), int(query["page"][0])
            return self.comments[(number - 1) * size : number * size]
        if method == "GET" and path == "/user":
            return {"id": BOT}
        if method == "GET" and path == "/projects/5/repository/commits/abc/merge_requests":
            return [{"iid": 9, "state": "opened"}, {"iid": 12, "state": "merged"}]
        self.writes.append(method)
        if method == "POST" and re.fullmatch(comments, path):
            return self.add(json.loads(body)["body"], BOT)
        if method == "POST" and path == "/projects/5/uploads":
            self.uploads.append(body)
            return {"url": f"/uploads/{len(self.uploads)}/grid.png"}
        one = re.fullmatch(r"/repos/team/styles/issues/comments/(\d+)|/projects/5/merge_requests/12/notes/(\d+)", path)
        if one and method == ("PATCH" if one[1] else "PUT"):
            row = self.comments[int(one[1] or one[2]) - 1]
            row["body"] = json.loads(body)["body"]
            return row
        return None

    def github(self) -> dict[str, str]:
        return {"GITHUB_API_URL": self.address, "GITHUB_REPOSITORY": "team/styles", "GITHUB_ACTOR": "robot", "GITHUB_RUN_ID": "77",
                "GITHUB_RUN_ATTEMPT": "1", "GITHUB_SERVER_URL": "https://forge.example.org"}  # fmt: skip

    def gitlab(self) -> dict[str, str]:
        return {"GITLAB_CI": "true", "CI_API_V4_URL": self.address, "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "12",
                "CI_JOB_URL": "https://forge.example.org/jobs/1", "GITLAB_TOKEN": TOKEN, "CI_COMMIT_SHA": "abc"}  # fmt: skip


@contextlib.contextmanager
def serve_forge() -> Iterator[Forge]:
    forge = Forge()

    def answered(call: Call) -> tuple[int, Any]:
        if call.headers.get("Authorization") != f"Bearer {TOKEN}" and call.headers.get("PRIVATE-TOKEN") != TOKEN:
            return 401, None
        found = forge.answer(call)
        return 404 if found is None else 200, found

    with http_server(answered) as forge.address:
        yield forge
