# SPDX-License-Identifier: Apache-2.0
"""Where this project keeps what it can make again, and what counts as the user's home folder."""

import contextlib
import os
import pwd
from pathlib import Path

_XDG = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MPLCONFIGDIR")
_NOWHERE = "/dev/null"  # not even root can make a folder there


def user_cache() -> Path | None:
    """Return the project's folder in $XDG_CACHE_HOME or ~/.cache; it need not exist.

    None for a user without a home folder.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    home = home_folder()
    base = Path(root) if _is_place(root) else home and home / ".cache"
    return base / "faster_rcnn_mindspore" if base else None


def home_folder() -> Path | None:
    """Return $HOME, or where that is empty, relative, `/` or not there, the system's entry.

    None where that is no better.
    """
    candidates = [os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):  # a container's user may have no entry
        candidates.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return next((Path(c) for c in candidates if _is_place(c) and os.path.isdir(c)), None)


def settle_home() -> None:
    """Keep `~` and every library of this process from taking `/` or the current folder for a home.

    An empty HOME means `/` to Python, a relative one the current folder. HOME becomes
    `home_folder()`, or a place where nothing can be; relative folders of the XDG kind are void.
    """
    for name in _XDG:
        if name in os.environ and not _is_place(os.environ[name]):
            del os.environ[name]
    os.environ["HOME"] = str(home_folder() or _NOWHERE)


def _is_place(path: str) -> bool:
    """Say whether a path is a whole one, below `/`."""
    return os.path.isabs(path) and os.path.normpath(path) not in ("/", "//")
