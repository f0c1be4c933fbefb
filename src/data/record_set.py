# SPDX-License-Identifier: Apache-2.0
"""A converted split, opened: what of it is current, and what of it is damaged."""

import contextlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.file_names import find_images
from ..base.files import write_json
from ..base.foreign_files import read_json
from ..base.messages import counted, short
from ..base.one_at_a_time import beside
from .record_index import FINGERPRINT, current_fingerprint, find_file_damage, read_index
from .records import AnnotationReport, ImageRecord
from .source import DataSource
from .stored_records import StoredRecords

_LARGEST_MARK = 1 << 16  # bytes


@dataclass(frozen=True)
class MindRecordSet:
    """A complete record set. Everything but the images themselves is in memory.

    Attributes:
        path: its folder.
        files: the MindRecord files, in order; row i of all of them together is image i.
        fingerprint: changes with the source, the classes and the settings.
        image_ids: ids as in the annotation file (int or str), in record order.
        records: boxes, labels and names of every image, in record order.
        sizes: (N, 2) int32, height and width of the images as a viewer shows them, pixels.
        checksums: (N,) uint32, CRC-32 of the images' bytes.
        class_names: without the background.
        anno_path: the annotation file it was made from.
        content: digest of its annotations when they were read.
        report: what was found while converting.
    """

    path: str
    files: tuple[str, ...]
    fingerprint: str
    image_ids: tuple[int | str, ...]
    records: Sequence[ImageRecord] = field(repr=False)
    sizes: np.ndarray = field(repr=False)
    checksums: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    anno_path: str
    content: str
    report: AnnotationReport = field(repr=False)

    @property
    def num_images(self) -> int:
        """How many images it holds."""
        return len(self.image_ids)

    @property
    def image_paths(self) -> tuple[str, ...]:
        """Absolute paths of the source images."""
        return tuple(record.image_path for record in self.records)

    def check_unchanged(self) -> None:
        """Make sure that the folder still holds what this object describes.

        Raises:
            UserError: another process has replaced or removed the records meanwhile.
        """
        if current_fingerprint(self.path) != self.fingerprint:
            raise UserError(
                f"the records in {self.path} were replaced or removed while they were in use; "
                "start again, and give runs on changing data their own mindrecord_dir"
            )

    def damage_of(self, row: int, image: np.ndarray, *truth: np.ndarray) -> str | None:
        """Compare a record that was read with what was converted.

        Args:
            row: its place, as it says itself.
            image: the encoded image, (bytes,) uint8.
            truth: (N, 4) boxes, (N,) labels and crowd flags, as far as they were read; an image
                without boxes has one of label 0 at 0.

        Returns:
            What is damaged, None if nothing is.
        """
        if not 0 <= row < self.num_images:
            return f"a record has the number {row}"
        record = self.records[row]
        known: Sequence[np.ndarray] = (record.boxes, record.labels, record.crowd)
        if not len(record.labels):
            known = np.zeros((1, 4)), np.zeros(1), np.zeros(1)
        if zlib.crc32(image.data) == self.checksums[row] and all(map(np.array_equal, truth, known)):
            return None
        return f"record {row}, of image {short(record.file_name)}, is not what was converted"

    def damaged(self, what: str) -> UserError:
        """Leave a mark beside the set, so that the next start converts anew; return the error.

        Args:
            what: the damage, in words.
        """
        text = f"the records in {self.path} are damaged ({what})"
        try:
            write_json(_mark(self.path), {"fingerprint": self.fingerprint, "message": what})
        except OSError:
            return UserError(f"{text}; delete the folder and start again")
        return UserError(f"{text}; start again, which converts them anew")


def open_alone(folder: str) -> MindRecordSet:
    """Open a record set without its source, to look at its records.

    Args:
        folder: of the set.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    index = read_index(folder)
    damage = find_file_damage(folder, index["files"])
    if damage:
        raise ValueError(damage)
    return _make_set(folder, "", index["report"]["source"], index)


def _others(folder: str) -> str:
    """What is to be said of the sets of the same file that are beside a set."""
    parent, name = os.path.split(folder)
    alike = f"{name.rpartition('-')[0]}-"
    with contextlib.suppress(OSError):
        for other in sorted(os.listdir(parent)):
            if other.startswith(alike) and other != name:
                return (
                    f" (beside it is {other}, of other settings or an earlier version of this "
                    "program; delete it if nothing uses it)"
                )
    return ""


def open_set(
    folder: str, source: DataSource, content: str
) -> tuple[MindRecordSet | None, str, bool]:
    """Open a record set if it is complete and still matches its source.

    Args:
        folder: of the set.
        source: what the set should have been made from, and how.
        content: digest of the annotation file.

    Returns:
        The set, "" and False; or None, why not, and whether it is damaged.

    Raises:
        UserError: it may not be read.
    """
    if not os.path.lexists(folder):
        return None, f"no records in {folder} yet{_others(folder)}", False
    try:
        index, damage = _read_whole(folder, source)
    except PermissionError as error:
        raise UserError(
            f"{error.filename or folder} belongs to another user and cannot be read; let its owner "
            "chmod it, or set mindrecord_dir to a folder of your own"
        ) from None
    if index is None:
        return None, f"the records in {folder} are damaged ({damage})", True
    if index["content"] != content:
        return None, f"{source.anno_path} has changed since its records were made", False
    made_from = index["made_from"]
    current = stat_images(find_images(source.image_dir, made_from))
    changed = np.flatnonzero((current != index["source_stats"]).any(axis=1))
    # Records hold all of their images: they may have been brought here without them.
    if changed.size and (current[:, 0] >= 0).any():
        return (
            None,
            (
                f"{counted(changed.size, 'image has', 'images have')} changed since their records "
                f"were made (first: {made_from[changed[0]]})"
            ),
            False,
        )
    return _make_set(folder, source.image_dir, source.anno_path, index), "", False


def _read_whole(folder: str, source: DataSource) -> tuple[dict[str, Any] | None, str]:
    """The index of a set that is whole; otherwise None and what is damaged."""
    if not os.path.isdir(folder):
        return None, "it is no folder"
    try:
        index = read_index(folder)
        if index["settings"] != source.settings():
            return None, "they were made with other settings, or by another version"
        damage = find_file_damage(folder, index["files"]) or _found_before(
            folder, index["fingerprint"]
        )
    except PermissionError:
        raise
    except OSError as error:
        name = os.path.basename(error.filename or "") or FINGERPRINT
        return None, f"{name}: {error.strerror}"
    except Exception as error:  # whatever a file of other bytes provokes
        return None, str(error) or type(error).__name__
    return (None, damage) if damage else (index, "")


def _mark(folder: str) -> str:
    return beside(folder, "damaged")


def _found_before(folder: str, fingerprint: str) -> str | None:
    """What a run has found damaged of the set with this fingerprint."""
    try:
        mark = read_json(_mark(folder), _LARGEST_MARK)
        return str(mark["message"]) if mark["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_damage(folder: str) -> None:
    """Take away the mark of a set that has been converted anew.

    Args:
        folder: of the set.
    """
    with contextlib.suppress(OSError):
        os.remove(_mark(folder))


def _make_set(folder: str, image_dir: str, anno_path: str, index: dict[str, Any]) -> MindRecordSet:
    return MindRecordSet(
        path=folder,
        files=tuple(os.path.join(folder, n) for n in index["files"] if not n.endswith(".db")),
        fingerprint=index["fingerprint"],
        image_ids=tuple(index["image_ids"]),
        records=StoredRecords(image_dir, index),
        sizes=index["sizes"],
        checksums=index["checksums"],
        class_names=tuple(index["settings"]["class_names"]),
        anno_path=anno_path,
        content=index["content"],
        report=AnnotationReport(**index["report"]),
    )


def stat_images(paths: Sequence[str]) -> np.ndarray:
    """Return the state of N files, to notice later that one has changed.

    Args:
        paths: of the files.

    Returns:
        (N, 2) int64: size in bytes and modification time in ns; -1 for a missing file.
    """
    return np.array([_stat(path) for path in paths], np.int64).reshape(-1, 2)


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns
