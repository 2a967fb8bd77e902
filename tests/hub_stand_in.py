"""A stand-in for the Hugging Face Hub on loopback: it keeps the upload of a folder, and gives the files of one model."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


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
        """The body of the request that made the repository."""
        (body,) = [body for path, _, body in self.requests if path == "/api/repos/create"]
        return dict(json.loads(body))

    @property
    def committed(self) -> dict[str, bytes]:
        """The files of the one commit."""
        (body,) = [body for path, _, body in self.requests if "/commit/" in path]
        rows = [json.loads(line) for line in body.splitlines()]
        return {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}


@contextlib.contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    """The stand-in, listening for as long as the block lasts."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if hub.model and "/tree/" in self.path:
                files = sorted(file for file in hub.model.rglob("*") if file.is_file())
                names = {file: file.relative_to(hub.model).as_posix() for file in files}
                self._answer([{"type": "file", "oid": name, "path": name, "size": file.stat().st_size} for file, name in names.items()])
            elif hub.model and "/resolve/" in self.path:
                commit, _, name = self.path.partition("/resolve/")[2].partition("/")
                if self.command == "GET":
                    hub.fetched.append(name)
                self._send((hub.model / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": commit})
            elif "/revision/" in self.path:
                self._answer({"id": "/".join(self.path.split("/")[3:5]), "sha": hub.commit})
            else:
                self._answer({})

        def do_POST(self) -> None:
            body = self._body()
            hub.requests.append((self.path, self.headers.get("Authorization"), body))
            if self.path == "/api/repos/create":
                row = json.loads(body)
                self._answer({"url": f"{hub.url}/{row['organization']}/{row['name']}"})
            elif "/preupload/" in self.path:
                files = [{"path": row["path"], "uploadMode": "regular", "shouldIgnore": False} for row in json.loads(body)["files"]]
                self._answer({"files": files})
            elif "/commit/" in self.path:
                owner, name = self.path.split("/")[3:5]
                self._answer({"commitUrl": f"{hub.url}/{owner}/{name}/commit/1", "commitOid": "1"})
            else:
                self._answer({})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _answer(self, value: Any) -> None:
            self._send(json.dumps(value if hub.status == 200 else {"error": hub.answer}).encode(), {"Content-Type": "application/json"})

        def _send(self, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(hub.status)
            refusal = {"X-Error-Code": hub.code} if hub.code else {}
            for name, value in {**headers, **refusal, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
