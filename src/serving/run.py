# SPDX-License-Identifier: Apache-2.0
"""A checkpoint becomes a server."""

import socket
from dataclasses import dataclass, field

from ..base.messages import one_line
from ..base.progress import Display
from ..inference import Detector
from ..model_utils.config import Config
from .app import DEFAULT_MIN_SCORE, build_app
from .engine import Engine
from .limits import DEFAULT_MAX_PIXELS, Limits
from .page import upload_page
from .server import LOOPBACK_NAMES, Server, address_of, is_loopback


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve.

    Attributes:
        limits: of requests and connections.
        min_score: detections below are left out where a request does not say.
    """

    limits: Limits = field(default_factory=Limits)
    min_score: float = DEFAULT_MIN_SCORE


def serve(config: Config, bound: socket.socket, options: ServeOptions) -> int:
    """Open a detector, compile its graphs, and answer requests until Ctrl-C.

    Args:
        config: uses checkpoint_path, test_batch_size, max_image_pixels (25 million unless it is
            given) and what the network is made of.
        bound: of `bound_socket`.
        options: what is wanted.

    Returns:
        The exit code.

    Raises:
        UserError: no checkpoint, or one that does not fit.
    """
    detector = Detector.from_config(config)
    for line in detector.notes:
        print(one_line(line))
    max_pixels = detector.config.max_image_pixels
    if not config.is_given("max_image_pixels"):
        max_pixels = min(max_pixels, DEFAULT_MAX_PIXELS)
    engine = Engine(detector, detector.config.test_batch_size, max_pixels)
    with Display().compiling():
        engine.compile()
    page = upload_page(engine.class_names, options.limits.max_bytes, options.min_score)
    hosts = LOOPBACK_NAMES if is_loopback(bound) else None
    app = build_app(engine, options.limits, page, min_score=options.min_score, hosts=hosts)
    if hosts is None:
        print(
            "note: whoever reaches this address can use the detector; there is no password. Put a "
            "proxy with one before it"
        )
    address = address_of(bound)
    try:
        Server(
            app, options.limits, lambda: print(f"serving on {address} (Ctrl-C ends it)", flush=True)
        ).serve_on(bound)
    finally:
        engine.close()
    return 0
