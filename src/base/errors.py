# SPDX-License-Identifier: Apache-2.0
"""The one error that a user can cause, and the one way an entry script ends."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from .console import guard_standard_streams, warn
from .messages import one_line
from .program import PACKAGE, install_command
from .user_cache import settle_home

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


class UserError(Exception):
    """Something the user gave cannot work: a setting, an annotation, a checkpoint, an argument.

    The message names the file, the key, the value and what to do about it. It is always one line
    that can be printed (`one_line`): it may quote a library's message, or a file of any content.

    Args:
        message: the text; shown to the user as `error: <message>`.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message).strip()))


class DamagedFileError(UserError):
    """A file is not what it was when it was written; one that was written before may serve."""


def run_entry(main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Run an entry script's `main` on the command line and leave the process with its exit code.

    A `UserError` or a package that is not installed becomes one line on stderr and exit code 2,
    Ctrl-C exit code 130; every other exception is a defect of the program and keeps its traceback.

    Args:
        main: takes the arguments after the script's name; returns the exit code (None means 0).

    Raises:
        SystemExit: always, with the exit code.
    """
    guard_standard_streams()
    settle_home()
    try:
        code = main(sys.argv[1:]) or 0
    except UserError as error:
        warn(f"error: {error}")
        code = EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in (PACKAGE, "tests", ""):
            raise
        warn(
            f"error: the package {package} is not installed for {sys.executable}; run "
            f"`{install_command()}`, or start the interpreter that has it"
        )
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        warn("interrupted")
        code = EXIT_INTERRUPTED
    sys.exit(code)
