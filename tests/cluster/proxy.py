"""A proxy in front of a server: closed, it drops who is inside and lets nobody in, as a network that fails does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Proxy:
    """Passes connections on to ``target`` (host, port) while it is open.

    Args:
        host: address to listen on.
        target: where connections go.
    """

    def __init__(self, host: str, target: tuple[str, int]) -> None:
        self.target = target
        self.closed = threading.Event()
        self._listener = socket.create_server((host, 0), backlog=128)
        self._open: set[socket.socket] = set()
        self.url = f"http://{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
            except OSError:
                return
            if self.closed.is_set():
                outer.close()
                continue
            try:
                inner = socket.create_connection(self.target, 10)
            except OSError:
                outer.close()
                continue
            for source, sink in ((outer, inner), (inner, outer)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            source.settimeout(0.5)
            while not self.closed.is_set():
                try:
                    data = source.recv(2**16)
                except TimeoutError:
                    continue
                if not data:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()

    def remove(self) -> None:
        self.closed.set()
        self._listener.close()


@contextlib.contextmanager
def proxy_to(url: str, host: str) -> Iterator[Proxy]:
    """A proxy for the server behind ``url``."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    proxy = Proxy(host, (parts.hostname, parts.port))
    try:
        yield proxy
    finally:
        proxy.remove()
