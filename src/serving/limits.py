# SPDX-License-Identifier: Apache-2.0
"""What a client may ask of the server."""

from dataclasses import dataclass

DEFAULT_MAX_PIXELS = 25_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each with an answer for who goes beyond.

    Attributes:
        max_bytes: of a picture (413).
        queue: requests that are being read or wait for their answer (503).
        timeout: seconds from a request to its answer (504).
        read_timeout: seconds in which a request's body must have come (408), and its head (the
            connection is closed).
        connections: that are open at once; more are closed.
    """

    max_bytes: int = 20_000_000
    queue: int = 64
    timeout: float = 60.0
    read_timeout: float = 20.0
    connections: int = 500
