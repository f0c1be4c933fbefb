# SPDX-License-Identifier: Apache-2.0
"""The command line of the small programs."""

import argparse
from typing import NoReturn

from .errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser that complains with a `UserError`: one line instead of the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint.

        Args:
            message: what argparse finds wrong.
        """
        raise UserError(f"command line: {message}; see --help")
