"""A stand-in for the Hugging Face Hub on loopback: it keeps the upload of a folder, and gives the files of one model."""

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.http_server import Call, http_server


@dataclass
class HubStandIn:
    """What it was asked. ``status`` other than 200 is its answer to everything from then on, and ``answer`` the text of it.

    ``model`` is the folder of the model that it gives, ``fetched`` what was downloaded of it, ``commit`` its newest commit. ``code``
    is the kind of a refusal, such as GatedRepo.
    """

    url: str = ""
    status: int = 200
    answer: str = ""
    code: str = ""
    model: Path | None = None
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    fetched: list[str] = field(default_factory=list)
    requests: list[tuple[str, str | None, bytes]] = field(default_factory=list)

    @property
    def created(self) -> dict[str, Any]:
        (body,) = [body for path, _, body in self.requests if path == "/api/repos/create"]
        return dict(json.loads(body))

    @property
    def committed(self) -> dict[str, bytes]:
        (body,) = [body for path, _, body in self.requests if "/commit/" in path]
        rows = [json.loads(line) for line in body.splitlines()]
        return {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}

    def respond(self, call: Call) -> Any:
        """What the hub answers; bytes come with the headers of a file."""
        if self.model and "/tree/" in call.path:
            files = {file: file.relative_to(self.model).as_posix() for file in sorted(self.model.rglob("*")) if file.is_file()}
            return [{"type": "file", "oid": name, "path": name, "size": file.stat().st_size} for file, name in files.items()]
        if self.model and "/resolve/" in call.path:
            commit, _, name = call.path.partition("/resolve/")[2].partition("/")
            self.fetched += [name] if call.method == "GET" else []
            return (self.model / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": commit}
        if "/revision/" in call.path:
            return {"id": "/".join(call.path.split("/")[3:5]), "sha": self.commit}
        if call.path == "/api/repos/create":
            return {"url": f"{self.url}/{call.json()['organization']}/{call.json()['name']}"}
        if "/preupload/" in call.path:
            return {"files": [{"path": row["path"], "uploadMode": "regular", "shouldIgnore": False} for row in call.json()["files"]]}
        if "/commit/" in call.path:
            owner, name = call.path.split("/")[3:5]
            return {"commitUrl": f"{self.url}/{owner}/{name}/commit/1", "commitOid": "1"}
        return {}


@contextlib.contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    """The stand-in, listening for as long as the block lasts."""
    hub = HubStandIn()

    def answer(call: Call) -> tuple[Any, ...]:
        if call.method == "POST":
            hub.requests.append((call.path, call.headers.get("Authorization"), call.body))
        if hub.status != 200:
            return hub.status, {"error": hub.answer}, {"X-Error-Code": hub.code} if hub.code else {}
        found = hub.respond(call)
        return (200, *found) if isinstance(found, tuple) else (200, found)

    with http_server(answer) as hub.url:
        yield hub
