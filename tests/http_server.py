"""An HTTP server on loopback whose answers a function gives."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@contextlib.contextmanager
def http_server(answer: Callable[[Call], tuple[Any, ...]], date: Callable[[], str | None] = lambda: None) -> Iterator[str]:
    """The server's URL. ``answer`` gives a status, what is sent (bytes and text as they are, all else as JSON), and maybe headers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date() or super().date_time_string(timestamp)

        def log_message(self, *args: Any) -> None:
            pass

        def _read(self, length: str | None) -> bytes:
            return self.rfile.read(int(length or 0))

        def _chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._read(self.headers["Content-Length"])
            status, content, *headers = answer(Call(self.command, parts.path, parse_qs(parts.query), self.headers, body))
            data = content.encode() if isinstance(content, str) else content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            known = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            for name, value in known.items() | (headers[0].items() if headers else set()):
                self.send_header(name, value)
            self.end_headers()
            # Whoever asked may be gone.
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(b"" if self.command == "HEAD" else data)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
