# SPDX-License-Identifier: Apache-2.0
"""One run in a folder: every rank holds `.train_<rank>.lock` in it for as long as it lives.

So a folder is free when all ranks of the run before have gone, on whichever servers they are, and
however they were started.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import BaseFileLock

from ..base.errors import UserError
from ..base.folder_lock import Busy, holder_of, take

if TYPE_CHECKING:
    from .ranks import Ranks

_held: dict[str, BaseFileLock] = {}  # by the path: a process may train twice in one folder


def hold_run_folder(folder: Path, ranks: "Ranks") -> None:
    """Take the folder for this run, before anything is changed in it; all ranks call this.

    The folder is made when there is none. `released_at_the_end` gives it back, or the end of the
    process.

    Args:
        folder: the run's output folder.
        ranks: the processes of the run; gets the folder.

    Raises:
        UserError: on every rank: another run is at work in the folder, or it cannot be used.
    """
    # All are here: no rank still has to pass a launcher that looks for locks of an earlier run.
    ranks.barrier()
    problem = _take(folder, 0) if ranks.rank == 0 else ""
    problem = ranks.broadcast(problem)
    if not problem and ranks.rank:
        problem = _take(folder, ranks.rank)
    problem = next(filter(None, ranks.all_gather(problem)), "")
    if problem:
        _release(remove=False)
        raise UserError(problem)
    ranks.folder = folder


def rank_at_work(folder: Path) -> str:
    """What is to be said when a rank of a run is at work in a folder; "" when none is.

    Args:
        folder: a run's; may be missing.
    """
    for path in sorted(folder.glob(".train_*.lock")):
        if str(path) not in _held and (holder := holder_of(path)):
            return busy_line(folder, holder)
    return ""


def busy_line(folder: Path, holder: str) -> str:
    """The one line for a folder that another run uses.

    Args:
        folder: the run's.
        holder: who holds it, as `holder_of` says.
    """
    return (
        f"{folder}: another run is at work in it ({holder}); wait until it has ended, or choose "
        "another output_dir"
    )


@contextlib.contextmanager
def released_at_the_end() -> Iterator[None]:
    """Give the folder back after the `with` block; a run that could not begin leaves no trace."""
    try:
        yield
    except UserError:
        _release(remove=True)
        raise
    finally:
        _release(remove=False)


def _take(folder: Path, rank: int) -> str:
    """Hold a rank's lock; rank 0 also looks for those that outlive their run. Returns what is
    wrong."""
    path = folder / f".train_{rank}.lock"
    if str(path) in _held:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(path)
    except Busy as busy:
        return busy_line(folder, busy.holder)
    except OSError as error:
        return f"{folder}: cannot be used ({error.strerror or error}); choose another output_dir"
    if lock is None:
        return ""
    _held[str(path)] = lock
    return rank_at_work(folder) if rank == 0 else ""


def _release(*, remove: bool) -> None:
    """`remove`: the lock's file too, while it is held, so that nobody can have it by then."""
    while _held:
        path, lock = _held.popitem()
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
        lock.release()
