# SPDX-License-Identifier: Apache-2.0
"""The command `serve`: a detector behind HTTP."""

from collections.abc import Sequence

from ..backends.choosing import choose_runtime
from ..base.arguments import own_parser, within
from ..base.errors import UserError
from ..base.program import install_command
from ..model_utils.config import load_config

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
    parser = own_parser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=within(0, 65_535), default=8000)
    parser.add_argument("--min_score", type=within(0, 1, float), default=0.5)
    parser.add_argument("--max_bytes", type=within(1, _MOST_BYTES), default=20_000_000)
    parser.add_argument("--queue", type=within(1, _LONGEST_QUEUE), default=64)
    parser.add_argument("--timeout", type=within(0.1, _LONGEST_WAIT, float), default=60.0)
    own, rest = parser.parse_known_args(argv)
    config = load_config(rest, description=DESCRIPTION, program="predict")
    try:
        from ..serving.limits import Limits
        from ..serving.run import ServeOptions, serve
        from ..serving.server import bound_socket
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise UserError(
            f"serve needs the package {error.name}: {install_command('serve')}"
        ) from None
    limits = Limits(max_bytes=own.max_bytes, queue=own.queue, timeout=own.timeout)
    with bound_socket(own.host, own.port) as bound:
        config = choose_runtime(config)
        return serve(config, bound, ServeOptions(limits, own.min_score))
