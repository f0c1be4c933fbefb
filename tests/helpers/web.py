# SPDX-License-Identifier: Apache-2.0
"""A server in a thread, on a free port of loopback, and requests to it."""

import contextlib
import http.client
import json
import socket
import threading

import numpy as np

from src.images.views import View
from src.inference import Found
from src.serving.app import build_app
from src.serving.engine import Engine
from src.serving.limits import Limits
from src.serving.server import LOOPBACK_NAMES, Server, bound_socket
from tests.helpers.data_helpers import canvas_format

CANVAS = (64, 96)
WAIT = 60.0  # seconds, on a busy machine


class ByRed:
    """Finds a box whose score is the picture's red, so that answers can be told apart.

    Args:
        before: called with each batch's size, in the thread of the batches.
    """

    class_names = ("cat", "dog")

    def __init__(self, before=lambda size: None):
        self.views = (View(canvas_format(*CANVAS)),)
        self._before = before

    def detect_inputs(self, inputs):
        ((images, meta),) = inputs
        self._before(len(images))
        reds = images[:, 0, 0, 0] * 58.395 + 123.675
        box = np.float32([[1, 2, 30, 40]])
        return [Found(box, np.float32([red / 255]), np.int32([1])) for red in reds]


class Site:
    """A running server.

    Attributes:
        port: where it listens.
        engine: what it looks with.
    """

    def __init__(self, port, engine):
        self.port, self.engine = port, engine

    def ask(self, method, path, body=None, headers=None):
        """Send a request; return status and what the JSON or the text of the answer holds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers["content-type"] == "application/json"
            return answer.status, json.loads(text) if is_json else text

    def predict(self, data, query=""):
        """Ask what is in a picture."""
        return self.ask("POST", f"/predict{query}", data, {"Content-Type": "image/png"})

    def connect(self):
        """Open a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), WAIT)


@contextlib.contextmanager
def served(detector, *, size=4, limits=None, max_pixels=10_000, page="<!DOCTYPE html>"):
    """Yield the `Site` of a detector."""
    limits = limits or Limits()
    engine = Engine(detector, size, max_pixels)
    engine.compile()
    app = build_app(engine, limits, page, hosts=LOOPBACK_NAMES)
    with bound_socket("127.0.0.1", 0) as bound, running(Server, app, limits, bound) as port:
        yield Site(port, engine)
    engine.close()


@contextlib.contextmanager
def running(kind, app, limits, bound):
    """Let a `Server` run in a thread; yield its port."""
    ready = threading.Event()
    server = kind(app, limits, ready.set)
    thread = threading.Thread(target=server.serve_on, args=(bound,))
    thread.start()
    try:
        assert ready.wait(WAIT)
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()
