# SPDX-License-Identifier: Apache-2.0
"""Who may read what is written: as the user's umask has it, also where a library is stricter."""

import os
import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")
_LOCK = threading.Lock()


def take_usual_mode(path: str | os.PathLike[str]) -> None:
    """Give a file the mode of one that `open` would have made: MindSpore's and mkstemp's are
    for their owner only.

    Raises:
        OSError: it cannot be done.
    """
    os.chmod(path, 0o666 & ~_umask())


def _umask() -> int:
    try:
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    with _LOCK:  # asking means setting
        umask = os.umask(0o077)
        os.umask(umask)
    return umask
