# SPDX-License-Identifier: Apache-2.0
"""An S3 server (moto's) for loopback that can be told to fail: python s3_server.py PORT_FILE.

PUT /__faults__?every=N lets each N-th request fail: in turns with 503, with half of the answer, and
with a closed line; but no object's three times in a row, as chance would have it now and then.
N = 0: none, -1: each with 503. GET /__faults__ gives the number of requests and
of failures.
"""

import collections
import json
import os
import socket
import sys
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Faulty:
    """WSGI middleware."""

    def __init__(self, app):
        self.app = app
        self.every = self.requests = self.failures = 0
        self.in_a_row = collections.Counter()  # failures by path

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/__faults__":
            if environ["REQUEST_METHOD"] == "PUT":
                self.every = int(parse_qs(environ["QUERY_STRING"])["every"][0])
                self.requests = self.failures = 0
                self.in_a_row.clear()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([self.requests, self.failures]).encode()]
        self.requests += 1
        path = environ["PATH_INFO"]
        is_due = self.every and self.requests % self.every == 0
        if not is_due or (self.every > 0 and self.in_a_row[path] == 2):
            self.in_a_row[path] = 0
            return self.app(environ, start_response)
        self.failures += 1
        self.in_a_row[path] += 1
        if self.failures % 3 == 1 or self.every < 0:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        if self.failures % 3 == 2:
            body = b"".join(self.app(environ, start_response))  # with the whole length in the head
            return [body[: len(body) // 2]]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []


if __name__ == "__main__":
    server = make_server(
        "127.0.0.1", 0, Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True
    )
    with open(sys.argv[1] + ".part", "w") as file:
        file.write(str(server.port))
    os.replace(sys.argv[1] + ".part", sys.argv[1])
    server.serve_forever()
