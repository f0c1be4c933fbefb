# SPDX-License-Identifier: Apache-2.0
"""Who is still there when ranks wait for each other in vain: files that they touch meanwhile."""

import contextlib
from pathlib import Path


class LifeSigns:
    """The file `.waits_<rank>` of each rank in the run's folder, there only during a long wait.

    Args:
        folder: of the run; on servers that do not share it only their own ranks are seen.
        rank, world_size: of this process.
    """

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        self.world_size = world_size
        self.files = [folder / f".waits_{r}" for r in range(world_size)]
        self.own = self.files[rank]

    def give(self) -> None:
        """Say that this process lives, and waits or is at work."""
        with contextlib.suppress(OSError):
            self.own.touch()

    def end(self) -> None:
        """Take this process's sign away."""
        with contextlib.suppress(OSError):
            self.own.unlink(missing_ok=True)

    def missing(self, seconds: float) -> list[int]:
        """The ranks that have given no sign within so many seconds, by the clock of the files.

        Args:
            seconds: how old the newest sign may be.
        """
        try:
            now = self.own.stat().st_mtime
        except OSError:
            return []
        return [rank for rank, file in enumerate(self.files) if _time_of(file) < now - seconds]


def _time_of(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return float("-inf")
