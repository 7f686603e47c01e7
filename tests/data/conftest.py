"""Serves files over the loopback interface, for tests of downloads."""

import http.server
import threading
from collections.abc import Iterator

import pytest


class Server(http.server.ThreadingHTTPServer):
    """A server of this machine.

    files: name -> content.
    share: the part of each file that it sends before it breaks off; 1 sends all.
    silent: whether it says nothing more, instead of breaking off.
    asked: the names of the files that were asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.share, self.silent, self.ended = 1.0, False, threading.Event()
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        server.asked.append(name)
        if name not in server.files:
            return self.send_error(404)
        content = server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(server.share * len(content))])
        self.wfile.flush()
        if server.silent:
            server.ended.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.ended.set()
        running.shutdown()
