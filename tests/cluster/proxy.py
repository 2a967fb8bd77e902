"""A proxy in front of a server: closed, it drops who is inside and lets nobody in, as a network that fails does."""

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Proxy(socketserver.ThreadingTCPServer):
    """Listens on ``host``, and passes connections on to ``target`` (host, port) while it is open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, target: tuple[str, int]) -> None:
        super().__init__((host, 0), _Connection)
        self.target, self.closed = target, threading.Event()
        self.url = f"http://{host}:{self.server_address[1]}"


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        if self.server.closed.is_set():
            return
        with contextlib.suppress(OSError), socket.create_connection(self.server.target, 10) as inner:
            ends = {self.request: inner, inner: self.request}
            while not self.server.closed.is_set():
                for source in select.select([*ends], [], [], 0.5)[0]:
                    data = source.recv(2**16)
                    if not data:
                        return
                    ends[source].sendall(data)


@contextlib.contextmanager
def proxy_to(url: str, host: str) -> Iterator[Proxy]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    with Proxy(host, (parts.hostname, parts.port)) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.closed.set()
        proxy.shutdown()
