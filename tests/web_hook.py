"""A real HTTP server on loopback that keeps what is posted to it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Call, http_server


@dataclass
class Hook:
    url: str = ""
    messages: list[Any] = field(default_factory=list)
    status: int = 200
    delay: float = 0.0

    def answer(self, call: Call) -> tuple[int, str]:
        self.messages.append((call.headers["Content-Type"], call.json()))
        time.sleep(self.delay)
        return self.status, ""


@contextlib.contextmanager
def web_hook() -> Iterator[Hook]:
    hook = Hook()
    with http_server(hook.answer) as url:
        hook.url = f"{url}/services/secret-part"
        yield hook
