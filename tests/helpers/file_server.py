# SPDX-License-Identifier: Apache-2.0
"""A server of files on loopback that can be told to fail in the ways that servers do."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file, and how it is sent.

    Attributes:
        content: of the file.
        tag: its ETag; "" for none.
        breaks: bytes after which the answers to the first, second, ... request end; then all comes.
        statuses: of the first, second, ... request; then 200.
        ranges: whether it sends parts.
        length: whether it says how much comes.
        head_seconds, piece_seconds: pauses before the answer, and between pieces of it.
        piece: bytes of a piece.
        location: where it leads instead.
        headers: more of them.
    """

    content: bytes = b""
    tag: str = '"one"'
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    length: bool = True
    head_seconds: float = 0.0
    piece_seconds: float = 0.0
    piece: int = 2**16
    location: str = ""
    headers: dict = field(default_factory=dict)


class Site:
    """A running server.

    Attributes:
        url: of its root, without a slash.
        files: path -> `Served`.
        requests: (path, headers) of all that it was asked, in their order.
        methods: those of the requests.
        ignores_conditions: sends a part whatever the file was when the first one was asked for.
    """

    def __init__(self, scheme, port):
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.files, self.requests, self.methods = {}, [], []
        self.closing = threading.Event()
        self.ignores_conditions = False

    def ranges(self):
        """Return the Range header of each request; None where there was none."""
        return [headers.get("Range") for _, headers in self.requests]


@contextlib.contextmanager
def file_server(context=None):
    """Yield a `Site`.

    Args:
        context: an `ssl.SSLContext` for https.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_CONNECT(self):
            site.methods.append(f"CONNECT {self.path}")
            self.send_error(502)

        def do_GET(self):
            site.methods.append("GET")
            site.requests.append((self.path, dict(self.headers)))
            with contextlib.suppress(OSError):
                _answer(self, site)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Site("https" if context else "http", server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler, site):
    served = site.files.get(handler.path)
    if served is None:
        handler.send_error(404)
        return
    site.closing.wait(served.head_seconds)
    status = served.statuses.pop(0) if served.statuses else 302 if served.location else 200
    if status not in (200, 302):
        handler.send_error(status)
        return
    start = _start(handler, served, site)
    body = served.content[start:]
    if start:
        status = 206
    handler.send_response(status)
    if start:
        whole = len(served.content)
        handler.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
    if served.location:
        handler.send_header("Location", served.location)
    if served.tag:
        handler.send_header("ETag", served.tag)
    if served.length:
        handler.send_header("Content-Length", str(len(body)))
    for name, value in served.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    most = served.breaks.pop(0) if served.breaks else len(body)
    for place in range(0, min(most, len(body)), served.piece):
        handler.wfile.write(body[place : min(place + served.piece, most)])
        if site.closing.wait(served.piece_seconds):
            return


def _start(handler, served, site):
    """Where the answer begins: not at 0 where the rest of the same file is asked for."""
    wanted = handler.headers.get("Range", "")
    condition = handler.headers.get("If-Range", served.tag)
    if site.ignores_conditions:
        condition = served.tag
    if not served.ranges or not wanted.startswith("bytes=") or condition != served.tag:
        return 0
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    return start if start < len(served.content) else 0


def wait_until(condition, seconds=30.0):
    """Wait until a condition is true; fail when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
