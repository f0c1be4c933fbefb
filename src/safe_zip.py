# SPDX-License-Identifier: Apache-2.0
"""Unpack a zip file that somebody else made: nothing outside the folder, no link, no bomb."""

import lzma
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from src.errors import UserError

# JPEGs and MindRecords hardly shrink, COCO's JSON to a fifth; a bomb has a thousand and more.
LARGEST_RATIO = 100
SMALL = 64 * 2**20  # bytes that may come out of any archive, whatever the ratio
MOST_ENTRIES = 2_000_000
_PIECE = 2**20


def unzip(archive: Path, folder: Path) -> int:
    """Unpack into a folder that exists; each file whole or not at all.

    Everything is checked before the first byte is written.

    Returns:
        How many files were written.

    Raises:
        UserError: a damaged file, an encrypted one, or one that wants to do harm.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not _is_rubbish(entry)]
            targets = _check(archive, entries, folder)
            for entry, target in zip(entries, targets, strict=True):
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    _write(opened, entry, target)
    except (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError
    ) as error:  # fmt: skip
        raise UserError(f"{archive}: is no whole zip file ({error}); upload it again") from None
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {folder} ({error})") from None
    return sum(not entry.is_dir() for entry in entries)


def _is_rubbish(entry: zipfile.ZipInfo) -> bool:
    """What macOS adds."""
    return entry.filename.startswith("__MACOSX/")


def _check(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> list[Path]:
    """Return where the entries belong, or refuse the archive."""
    if len(entries) > MOST_ENTRIES:
        raise UserError(f"{archive}: has {len(entries)} entries, more than {MOST_ENTRIES}")
    packed, unpacked = archive.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > max(SMALL, LARGEST_RATIO * packed):
        raise UserError(
            f"{archive}: {packed} bytes would become {unpacked}, more than {LARGEST_RATIO} times "
            "as many; this looks like a zip bomb and is not unpacked"
        )
    free = shutil.disk_usage(folder).free
    if unpacked > free:
        raise UserError(
            f"{archive}: needs {unpacked} bytes in {folder}, which has {free}; free some space"
        )
    targets = [_target(archive, entry, folder) for entry in entries]
    for entry, target in zip(entries, targets, strict=True):
        _refuse_links(target, folder, is_folder=entry.is_dir())
    return targets


def _target(archive: Path, entry: zipfile.ZipInfo, folder: Path) -> Path:
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    is_strange = ".." in parts or "\0" in name or not (parts or entry.is_dir())
    if name.startswith("/") or is_strange or ":" in (parts[:1] or ("",))[0]:
        problem = f"the entry {entry.filename!r} leads outside the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = f"the entry {entry.filename!r} is a link or a device"
    elif entry.flag_bits & 1:
        problem = f"the entry {entry.filename!r} is encrypted"
    else:
        return folder.joinpath(*parts)
    raise UserError(f"{archive}: {problem}; nothing is unpacked, make the archive anew")


def _refuse_links(target: Path, folder: Path, *, is_folder: bool) -> None:
    """Make sure that no link that is in the folder already leads out of it."""
    place = target if is_folder else target.parent
    is_link = target.is_symlink() and not is_folder
    if is_link or not place.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{target}: a link leads out of {folder}; remove it")


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with opened.open(entry) as source, open(part, "wb") as file:
            shutil.copyfileobj(source, file, _PIECE)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
