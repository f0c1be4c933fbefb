# SPDX-License-Identifier: Apache-2.0
"""The command `serve`: a detector behind HTTP."""

from collections.abc import Sequence

from ..base.arguments import ArgumentParser
from ..base.errors import UserError
from ..model_utils.config import load_config
from ..model_utils.device_adapter import choose_device

DESCRIPTION = """\
Serve a detector over HTTP: a page to drop a picture on, /predict and /health.

--host HOST          address or name to listen on (default: 127.0.0.1, this machine alone)
--port PORT          (default: 8000; 0: one that is free)
--min_score SCORE    detections below are left out where a request does not say (default: 0.5)
--max_bytes N        of a picture (default: 20000000); max_image_pixels bounds its pixels, here
                     25000000 unless it is given
--queue N            requests that are read or wait at once; more are refused (default: 64)
--timeout SECONDS    within which a request is answered (default: 60)

Waiting requests are looked at together, test_batch_size at a time. All other keys:"""

_MOST_BYTES, _LONGEST_QUEUE, _LONGEST_WAIT = 2**30, 10_000, 86_400.0
_PACKAGES = ("fastapi", "multipart", "starlette", "uvicorn")


def main(argv: Sequence[str]) -> int:
    """Serve as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--min_score", type=float, default=0.5)
    parser.add_argument("--max_bytes", type=int, default=20_000_000)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--timeout", type=float, default=60.0)
    own, rest = parser.parse_known_args(argv)
    for name, low, high in (
        ("port", 0, 65_535),
        ("min_score", 0.0, 1.0),
        ("max_bytes", 1, _MOST_BYTES),
        ("queue", 1, _LONGEST_QUEUE),
        ("timeout", 0.1, _LONGEST_WAIT),
    ):
        if not low <= getattr(own, name) <= high:
            raise UserError(
                f"command line: --{name} {getattr(own, name)} is not between {low} and {high}"
            )
    config = load_config(rest, description=DESCRIPTION, program="predict")
    try:
        from ..serving.limits import Limits
        from ..serving.run import ServeOptions, serve
        from ..serving.server import bound_socket
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise UserError(
            f"serve needs the package {error.name}: python -m pip install "
            "'faster-rcnn-mindspore[serve]', or in a checkout '.[serve]'"
        ) from None
    limits = Limits(max_bytes=own.max_bytes, queue=own.queue, timeout=own.timeout)
    with bound_socket(own.host, own.port) as bound:
        config = choose_device(config)
        return serve(config, bound, ServeOptions(limits, own.min_score))
