# SPDX-License-Identifier: Apache-2.0
"""Unpack a zip file that somebody else made: nothing outside the folder, no link, no bomb."""

import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from zipfile import _ECD_SIZE, _EndRecData  # type: ignore[attr-defined]

from ..base.errors import UserError
from ..base.files import remove_leftovers, replacing
from ..base.messages import shown

# JPEGs and MindRecords hardly shrink, COCO's JSON to a fifth; a bomb has a thousand and more.
LARGEST_RATIO = 100
SMALL = 64 * 2**20  # bytes that may come out of any archive, whatever the ratio
LARGEST_LIST = 48 * 2**20  # bytes of the list of entries: some 500,000 files
DEEPEST = 64  # folders
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_PIECE = 2**20
_SMALL_PIECE = 2**12
_LONGEST_NAME = 255  # bytes, of most file systems
# What the standard library raises for files that are not what they should be.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    RuntimeError,
    IndexError,
    KeyError,
    OverflowError,
)


def open_zip(archive: Path) -> zipfile.ZipFile:
    """Open a zip file whose list of entries is of a size that can be read.

    Args:
        archive: the file.

    Raises:
        zipfile.BadZipFile: it is none, or its list is too long.
        OSError: it cannot be read.
    """
    try:
        if not archive.is_file():  # a pipe would be waited for
            raise zipfile.BadZipFile("it is no file")
        with open(archive, "rb") as file:
            # zipfile reads the whole list; how long it is stands at the file's end.
            end = _EndRecData(file)
        if end and end[_ECD_SIZE] > LARGEST_LIST:
            raise zipfile.BadZipFile(f"a list of entries of {end[_ECD_SIZE]} bytes")
        return zipfile.ZipFile(archive)
    except DAMAGE as error:
        raise zipfile.BadZipFile(shown(error)) from None


def unzip(archive: Path, folder: Path) -> int:
    """Unpack into a folder that exists; each file whole or not at all.

    Everything is checked before the first byte is written. What a killed process has left half
    unpacked goes.

    Args:
        archive: the zip file.
        folder: files that are in it already are replaced.

    Returns:
        How many files were written.

    Raises:
        UserError: a damaged file, an encrypted one, or one that wants to do harm.
    """
    try:
        with open_zip(archive) as opened:
            entries = [entry for entry in opened.infolist() if not _is_rubbish(entry)]
            names = _check(archive, entries, folder)
            for place in {(folder / name).parent for name in names}:
                remove_leftovers(place)
            for entry, name in zip(entries, names, strict=True):
                if _is_folder(entry):
                    (folder / name).mkdir(parents=True, exist_ok=True)
                else:
                    _write(opened, entry, folder / name)
    except DAMAGE as error:
        reason = shown(error)
        raise UserError(f"{archive}: is no whole zip file ({reason}); upload it again") from None
    except OSError as error:
        reason = ": ".join(filter(None, (error.strerror, shown(error.filename or ""))))
        raise UserError(
            f"{archive}: cannot be unpacked into {folder} ({reason or shown(error)})"
        ) from None
    return sum(not _is_folder(entry) for entry in entries)


def _is_rubbish(entry: zipfile.ZipInfo) -> bool:
    """What macOS adds."""
    return entry.filename.startswith("__MACOSX/") or f"/{entry.filename}".endswith("/Icon\r")


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith(("/", "\\"))


def _check(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> list[str]:
    """Return where the entries belong, or refuse the archive."""
    # The file may have holes, and entries may share their bytes.
    packed = min(archive.stat().st_size, sum(entry.compress_size for entry in entries))
    unpacked = sum(entry.file_size for entry in entries)
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
    names = [_place(archive, entry) for entry in entries]
    _refuse_clashes(archive, entries, names)
    _refuse_what_is_there(entries, names, folder)
    return names


def _place(archive: Path, entry: zipfile.ZipInfo) -> str:
    """Return where an entry belongs, from the folder on: no link yet, nothing but plain names."""
    # What the file says: the standard library has cut the name at a NUL.
    name = entry.orig_filename.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    kind = stat.S_IFMT(entry.external_attr >> 16)
    is_outside = name.startswith("/") or ".." in parts or ":" in (parts[:1] or ("",))[0]
    longest = max((len(os.fsencode(part)) for part in parts), default=0)
    if not parts and not _is_folder(entry):
        problem = "has no file name"
    elif _CONTROL(name):
        problem = "has control characters in its name"
    elif is_outside:
        problem = "leads outside the folder"
    elif longest > _LONGEST_NAME or len(parts) > DEEPEST:
        problem = f"has a name of more than {_LONGEST_NAME} bytes or {DEEPEST} folders"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is a link or a device"
    elif entry.flag_bits & 1:
        problem = "is encrypted"
    else:
        return "/".join(parts)
    raise _refused(archive, entry, problem)


def _refused(archive: Path, entry: zipfile.ZipInfo, problem: str) -> UserError:
    return UserError(
        f"{archive}: the entry '{shown(entry.orig_filename)}' {problem}; nothing is unpacked, make "
        "the archive anew"
    )


def _refuse_clashes(archive: Path, entries: list[zipfile.ZipInfo], names: list[str]) -> None:
    """Refuse two entries of one name, and a file with others below it."""
    files: set[str] = set()
    folders = {""}
    for entry, name in zip(entries, names, strict=True):
        if name in files:
            raise _refused(archive, entry, "is in it twice")
        if not _is_folder(entry):
            files.add(name)
        above = name if _is_folder(entry) else name.rpartition("/")[0]
        while above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    for entry, name in zip(entries, names, strict=True):
        if name in files and name in folders:
            raise _refused(archive, entry, "is a file, and a folder for others")


def _refuse_what_is_there(entries: list[zipfile.ZipInfo], names: list[str], folder: Path) -> None:
    """Make sure that nothing is in the way, above all no link that leads out of the folder."""
    real = folder.resolve()
    known = {"": True}

    def is_there(name: str) -> bool:
        """Say whether a folder is there; refuse what is none."""
        if name not in known:
            path = folder / name
            known[name] = is_there(name.rpartition("/")[0]) and os.path.lexists(path)
            if known[name] and not path.resolve().is_relative_to(real):
                raise UserError(f"{shown(path, 300)}: a link leads out of {folder}; remove it")
            if known[name] and not path.is_dir():
                raise UserError(f"{shown(path, 300)}: is in the way of what is unpacked; remove it")
        return known[name]

    for entry, name in zip(entries, names, strict=True):
        if _is_folder(entry):
            is_there(name)
        elif is_there(name.rpartition("/")[0]):
            path = folder / name
            if path.is_symlink():
                raise UserError(f"{shown(path, 300)}: a link leads out of {folder}; remove it")
            if path.is_dir():
                raise UserError(f"{shown(path, 300)}: is in the way of what is unpacked; remove it")


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    # Other methods than deflate give all that a piece holds at once: thousands of times as much.
    bounded = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    # There may be a hundred thousand: not each is waited for.
    with (
        replacing(target, sync=False) as part,
        opened.open(entry) as source,
        open(part, "wb") as file,
    ):
        shutil.copyfileobj(source, file, _PIECE if bounded else _SMALL_PIECE)
