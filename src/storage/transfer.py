# SPDX-License-Identifier: Apache-2.0
"""Whole folders from and to object storage: what fails is tried again, what is there is kept."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ..base.errors import UserError
from ..base.files import remove_leftovers, replacing, write_json
from ..base.foreign_files import read_json
from .object_store import Item, NonRetryableError, Store, open_store

ATTEMPTS = 6
FIRST_PAUSE = 0.5  # seconds; doubles up to LONGEST_PAUSE
LONGEST_PAUSE = 8.0
_AT_A_TIME = 8
_MARKER = ".copied.json"
UNPACKED = ".unpacked.json"  # the archives in a folder that were unpacked
_LARGEST_MARKER = 1 << 30  # bytes
_T = TypeVar("_T")


def download(url: str, folder: Path, key: str, *, keep: bool = False) -> int:
    """Copy everything below a URL into a folder, except what is there already.

    Every file comes under a temporary name and is checked for its size (and checksum, where the
    store tells it). What a killed process has left half copied goes.

    Args:
        url: of an object, or of a folder of them.
        folder: made when missing.
        key: of the configuration, for errors.
        keep: leave files that exist as they are, whatever they hold.

    Returns:
        How many files were copied.

    Raises:
        UserError: an object's name cannot be a file's here, there is too little space, or a file
            could not be copied in `ATTEMPTS` attempts.
    """
    store = open_store(url, key)
    items = repeated(store.list, f"{url}: cannot be listed", key)
    for name in (_MARKER, UNPACKED):  # this program's own notes
        items.pop(name, None)
    known = read_marker(folder / _MARKER)
    wanted = {
        name: item for name, item in items.items() if not _is_there(folder, name, item, known, keep)
    }
    targets = _targets(folder, wanted, url)
    for place in {target.parent for target in targets.values()}:
        remove_leftovers(place)
    _require_space(folder, sum(item.size for item in wanted.values()), url, key)
    came = items.keys() - wanted.keys()

    def fetch(name: str) -> None:
        _fetch(store, url, name, wanted[name], targets[name], key)
        came.add(name)

    try:
        _for_each(fetch, list(wanted), stop_early=True)
    finally:  # so that the next start need not copy them again
        known.update({name: [items[name].size, items[name].tag] for name in came})
        with contextlib.suppress(OSError):
            write_json(folder / _MARKER, known, indent=None)
    return len(wanted)


def _fetch(store: Store, url: str, name: str, item: Item, target: Path, key: str) -> None:
    """Copy one object, whole or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{url}: {name} cannot be downloaded ({target.parent}: {error.strerror}); an object "
            "may not have the name of another one's folder"
        ) from None

    def once() -> None:
        # There may be a hundred thousand: not each is waited for.
        with replacing(target, sync=False) as part:
            store.get(name, part)
            size = part.stat().st_size
            if size != item.size:
                raise OSError(f"{size} of {item.size} bytes came")

    repeated(once, f"{url}: {name} cannot be downloaded", key)


class Uploader:
    """Sends a folder's files to a URL, each again only when it has changed.

    Hidden files (half-written ones) are left out.

    Args:
        folder, url: from where, where to.
        key: of the configuration, for errors.
    """

    def __init__(self, folder: Path, url: str, key: str) -> None:
        self.folder, self.url, self.key = folder, url, key
        self._sent: dict[str, tuple[int, int]] = {}

    def take_as_sent(self) -> None:
        """Leave out what the folder holds now, unless it changes."""
        for name in self._all():
            with contextlib.suppress(OSError):
                status = (self.folder / name).stat()
                self._sent[name] = (status.st_size, status.st_mtime_ns)

    def upload(self, names: Iterable[str] | None = None) -> int:
        """Send what has changed since the last time.

        Args:
            names: of the files, relative to the folder; all by default.

        Returns:
            How many files were sent.

        Raises:
            UserError: a file could not be sent in `ATTEMPTS` attempts; the others were sent.
        """
        store = open_store(self.url, self.key)
        changed = {}
        for name in self._all() if names is None else names:
            try:
                status = (self.folder / name).stat()
            except OSError:  # removed meanwhile, as old checkpoints are
                continue
            if self._sent.get(name) != (status.st_size, status.st_mtime_ns):
                changed[name] = (status.st_size, status.st_mtime_ns)

        def send(name: str) -> None:
            path = self.folder / name

            def once() -> None:
                if path.exists():
                    store.put(path, name)

            repeated(once, f"{path}: cannot be uploaded to {self.url}", self.key)
            self._sent[name] = changed[name]

        _for_each(send, list(changed))
        return len(changed)

    def _all(self) -> list[str]:
        found = []
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                found.append(name.as_posix())
        return found


def repeated(once: Callable[[], _T], problem: str, key: str) -> _T:
    """Call something until it does not fail, at most `ATTEMPTS` times.

    Args:
        once: what is called; its result is returned.
        problem: what did not work, for errors.
        key: of the configuration, for errors.

    Raises:
        UserError: it failed every time, or for a reason that will stay.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return once()
        except UserError:
            raise
        except NonRetryableError as error:
            raise UserError(f"{problem} ({error}); correct {key} or the credentials") from error
        except Exception as error:  # the libraries have many kinds for a line that breaks
            if attempt == ATTEMPTS:
                raise UserError(
                    f"{problem} ({type(error).__name__}: {error}) after {ATTEMPTS} attempts; look "
                    f"at the network, the free space and {key}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("unreachable")


def _for_each(work: Callable[[str], None], names: list[str], *, stop_early: bool = False) -> None:
    """Do it for all names, a few at a time; then raise what went wrong first.

    Args:
        stop_early: begin nothing more once something went wrong: each has its attempts and pauses,
            and a full disk fails them all.
    """
    errors: list[Exception] = []

    def guarded(name: str) -> None:
        if errors and stop_early:
            return
        try:
            work(name)
        except Exception as error:
            errors.append(error)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for name in names:
            pool.submit(guarded, name)
    if errors:
        raise errors[0]


def _is_there(folder: Path, name: str, item: Item, known: dict[str, list[Any]], keep: bool) -> bool:
    try:
        size = (folder / name).stat().st_size
    except (OSError, ValueError):  # ValueError: a name that `_inside` refuses
        return False
    return keep or (size == item.size and known.get(name) == [item.size, item.tag])


def _targets(folder: Path, names: Iterable[str], url: str) -> dict[str, Path]:
    """Where every object goes."""
    targets: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for name in names:
        path = targets[name] = _inside(folder, name, url)
        other = taken.setdefault(path, name)
        if other != name:
            raise UserError(
                f"{url}: the objects {other!r} and {name!r} would be one file {path}; rename one"
            )
    return targets


def _inside(folder: Path, name: str, url: str) -> Path:
    """The path of an object in a folder; object names may be anything."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        raise UserError(f"{url}: the object {name!r} would be outside the folder; rename it")
    path = folder.joinpath(*parts)
    try:
        os.fsencode(path)
        inside = path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, half a surrogate pair
        raise UserError(f"{url}: the object {name!r} cannot be a file here ({error})") from None
    if not inside:
        raise UserError(f"{path}: a link leads out of {folder}; remove it")
    return path


def _require_space(folder: Path, needed: int, url: str, key: str) -> None:
    free = shutil.disk_usage(folder).free if folder.exists() else needed
    if needed > free:
        raise UserError(
            f"{url}: has {needed / 1e9:.1f} GB to copy, and {folder} has room for "
            f"{free / 1e9:.1f} GB; free some space or correct {key}"
        )


def read_marker(path: Path) -> dict[str, list[Any]]:
    """Return what this program has noted beside the files that it copied or unpacked.

    Args:
        path: of the note; need not exist.
    """
    try:
        known = read_json(path, _LARGEST_MARKER)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
