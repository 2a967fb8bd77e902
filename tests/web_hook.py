"""A real HTTP server on loopback that keeps what is posted to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """Its address, what came, and how it answers."""

    url: str
    messages: list[Any] = field(default_factory=list)
    status: int = 200
    delay: float = 0.0


@contextlib.contextmanager
def web_hook() -> Iterator[Hook]:
    """Run the server while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.messages.append((self.headers["Content-Type"], json.loads(body)))
            time.sleep(hook.delay)
            with contextlib.suppress(OSError):
                self.send_response(hook.status)
                self.end_headers()

        def log_message(self, *parts: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Hook(f"http://127.0.0.1:{server.server_port}/services/secret-part")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
