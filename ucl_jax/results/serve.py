"""Serves the page about runs to browsers of this machine, and makes it anew when the results of a run change."""

import http.server
import os
import pathlib
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from http import HTTPStatus

from ucl_jax import cli
from ucl_jax.errors import UsageError


class LivePage:
    """A page that follows files.

    Attributes:
      text: its HTML.
      stamp: changes whenever the text does.
    """

    def __init__(self, files: Callable[[], Sequence[pathlib.Path]], make: Callable[[str], str]):
        """Makes the page.

        Args:
          files: returns the files that the page is made of.
          make: returns the HTML, given the stamp.

        Raises:
          UsageError: that of `make`.
        """
        self._files, self._make, self._lock = files, make, threading.Lock()
        self.stamp = self._seen = self._now()
        self.text = make(self.stamp)

    def refresh(self) -> None:
        """Makes the page anew if a file has changed or come; if that fails it warns, and the page stays as it was."""
        with self._lock:
            now = self._now()
            if now == self._seen:
                return
            self._seen = now
            try:
                self.text = self._make(now)
            except UsageError as error:
                cli.warn(error)
            else:
                self.stamp = now

    def _now(self) -> str:
        """Returns a number, as text, for the files and the times at which they were written."""
        written = [(path, path.stat().st_mtime_ns) for path in self._files() if path.exists()]
        return str(hash(tuple(written)))


def serve(page: LivePage, ports: Sequence[int]) -> None:
    """Serves a page at the first free one of some ports of 127.0.0.1, until KeyboardInterrupt. Prints the address.

    The page is at /, its stamp at /stamp. If there is a screen, a browser is opened. The port 0 stands for any that is
    free.

    Raises:
      UsageError: none of the ports is free.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page.refresh()
            content = {"/": page.text, "/stamp": page.stamp}.get(self.path)
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            data = content.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"text/{'html' if self.path == '/' else 'plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            """Prints nothing: a browser asks every two seconds."""

    for port in ports:
        try:
            # Each connection has a thread, because browsers keep connections open on which they ask nothing.
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
            break
        except OSError as error:
            failed = error
    else:
        raise UsageError(f"cannot serve at port {port}: {failed.strerror}; give another, --serve=PORT") from failed
    with server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"page: {address}, made anew while runs go on; Ctrl-C ends it", flush=True)
        if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            webbrowser.open(address)
        server.serve_forever()
