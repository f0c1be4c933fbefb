# SPDX-License-Identifier: Apache-2.0
"""The index of a record set: what it was made from and holds, all but the images.

A set may lie in a folder that others share, or have been damaged, so nothing of what is read is
used before its form has been checked.
"""

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from typing import Any

import numpy as np

from ..base.digests import parts_digest
from ..base.foreign_files import read_bounded, read_json
from .records import FINDINGS, AnnotationReport, ImageRecord

INDEX, FINGERPRINT = "index.npz", "fingerprint.json"
_LARGEST_INDEX = 1 << 30  # bytes; a million images with ten boxes each take a quarter
_LARGEST_FINGERPRINT = 1 << 22  # bytes; all class names are in it
_LISTED, _MOST_LISTED = b"PK\x01\x02", 64  # an array in the file's list of arrays
_FILE_NAME = re.compile(r"(train|val)\.mindrecord[0-9]{1,6}(\.db)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Array -> its type and its shape, where N is the number of images, S of source images, B of boxes.
_ARRAYS: dict[str, tuple[Any, tuple[str | int, ...]]] = {
    "sizes": (np.int32, ("N", 2)),
    "checksums": (np.uint32, ("N",)),
    "source_stats": (np.int64, ("S", 2)),
    "offsets": (np.int64, ("N+1",)),
    "boxes": (np.float32, ("B", 4)),
    "labels": (np.int32, ("B",)),
    "crowd": (np.bool_, ("B",)),
}


def write_index(
    folder: str, described: Mapping[str, Any], records: Sequence[ImageRecord], **arrays: np.ndarray
) -> None:
    """Write the index of a record set, its fingerprint file excepted.

    Args:
        folder: of the record set; exists.
        described: what JSON can hold; see `read_index`.
        records: the images' boxes.
        arrays: sizes, checksums and source_stats.
    """
    counts = [len(record.labels) for record in records]
    np.savez(
        os.path.join(folder, INDEX),
        described=np.frombuffer(json.dumps(described).encode("utf-8"), np.uint8),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([record.boxes for record in records]).astype(np.float32),
        labels=np.concatenate([record.labels for record in records]).astype(np.int32),
        crowd=np.concatenate([record.crowd for record in records]).astype(bool),
        **arrays,
    )


def read_index(folder: str) -> dict[str, Any]:
    """Read and check the index of a record set.

    Args:
        folder: of the set.

    Returns:
        settings: what the records depend on besides their source; content: digest of the annotation
        file; fingerprint; made_from: names of all source images; image_ids and file_names of the
        records; files: name -> {size, parts, digest} (see `record_frame`); report: the fields of an
        `AnnotationReport`; and the arrays of `_ARRAYS`.

    Raises:
        ValueError: it is damaged; the text says where.
        OSError: it cannot be read.
    """
    content = read_bounded(os.path.join(folder, INDEX), _LARGEST_INDEX)
    index = _read_arrays(content)
    try:
        described = json.loads(index.pop("described").tobytes())
    except RecursionError:
        raise ValueError(f"{INDEX}: nested too deeply") from None
    index = {**described, **index}
    _check_described(index)
    _check_arrays(index)
    try:
        summary = read_json(os.path.join(folder, FINGERPRINT), _LARGEST_FINGERPRINT)
    except ValueError as error:
        raise ValueError(f"{FINGERPRINT}: {error}") from None
    if not isinstance(summary, dict) or summary.get("fingerprint") != index["fingerprint"]:
        raise ValueError(f"{FINGERPRINT} is not that of {INDEX}")
    return index


def current_fingerprint(folder: str) -> Any:
    """What the fingerprint file of a record set holds at this moment; None if it is none.

    Args:
        folder: of the set.
    """
    try:
        content = read_json(os.path.join(folder, FINGERPRINT), _LARGEST_FINGERPRINT)
        return content["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_file_damage(folder: str, files: Mapping[str, Any]) -> str | None:
    """Look at the record files' sizes and at the parts of them that are not images.

    Args:
        folder: of the record set.
        files: name -> {size, parts, digest}, as `read_index` gives them.

    Returns:
        What is damaged, None if nothing is.

    Raises:
        PermissionError: a file cannot be read.
    """
    for name, known in files.items():
        path = os.path.join(folder, name)
        try:
            if os.path.getsize(path) != known["size"]:
                return f"{name} has {os.path.getsize(path)} bytes of {known['size']}"
            if parts_digest(path, known["parts"]) != known["digest"]:
                return f"{name} is not what was written"
        except PermissionError:
            raise
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def _read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` wrote, none larger than the file."""
    if content.count(_LISTED) > _MOST_LISTED:
        raise ValueError(f"{INDEX} is no list of arrays")
    arrays = {}
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for name in ("described", *_ARRAYS):
                entry = archive.getinfo(f"{name}.npy")
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                    raise ValueError(f"{INDEX}: {name} is packed")
                arrays[name] = _array(archive.read(entry))  # which compares its checksum
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{INDEX}: {error}") from None
    return arrays


def _array(content: bytes) -> np.ndarray:
    """(...) read-only, of a file that `numpy.save` wrote."""
    stream = BytesIO(content)
    np.lib.format.read_magic(stream)
    shape, _, kind = np.lib.format.read_array_header_1_0(stream)
    if kind.hasobject:
        raise ValueError(f"{INDEX}: an array of objects")
    return np.frombuffer(content, kind, offset=stream.tell()).reshape(shape)


def _check_described(index: Mapping[str, Any]) -> None:
    def require(is_so: bool, key: str) -> None:
        if not is_so:
            raise ValueError(f"{INDEX}: {key} is not what was written")

    def all_are(values: Any, kind: Any) -> bool:
        return isinstance(values, list) and all(
            issubclass(found, kind) for found in set(map(type, values))
        )

    settings = index.get("settings")
    require(isinstance(settings, dict) and all_are(settings.get("class_names"), str), "settings")
    for key in ("content", "fingerprint"):
        require(isinstance(index.get(key), str) and bool(_DIGEST.fullmatch(index[key])), key)
    require(all_are(index.get("made_from"), str), "made_from")
    require(all_are(index.get("file_names"), str), "file_names")
    require(all_are(index.get("image_ids"), int | str), "image_ids")
    require(len(index["image_ids"]) == len(index["file_names"]), "image_ids")
    files = index.get("files", {})
    require(isinstance(files, dict) and bool(files), "files")
    for name, known in files.items():
        require(bool(_FILE_NAME.fullmatch(name)) and _is_file_entry(known), "files")
    require(_is_report(index.get("report")), "report")


def _is_file_entry(known: Any) -> bool:
    if not isinstance(known, dict) or known.keys() != {"size", "parts", "digest"}:
        return False
    size, parts = known["size"], known["parts"]
    if not _is_count(size) or not isinstance(parts, list) or not isinstance(known["digest"], str):
        return False
    pairs = [part for part in parts if isinstance(part, list) and len(part) == 2]
    if len(pairs) != len(parts) or not all(_is_count(value) for part in pairs for value in part):
        return False
    return sum(length for _, length in pairs) <= size and all(offset <= size for offset, _ in pairs)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _is_report(report: Any) -> bool:
    kinds = {field.name: field.type for field in fields(AnnotationReport)}
    if not isinstance(report, dict) or report.keys() != kinds.keys():
        return False
    counts, examples = report["counts"], report["examples"]
    return (
        isinstance(report["source"], str)
        and all(_is_count(report[name]) for name, kind in kinds.items() if kind is int)
        and isinstance(counts, dict)
        and isinstance(examples, dict)
        and counts.keys() <= FINDINGS.keys()
        and examples.keys() <= FINDINGS.keys()
        and all(map(_is_count, counts.values()))
        and all(
            isinstance(shown, list) and all(isinstance(text, str) for text in shown)
            for shown in examples.values()
        )
    )


def _check_arrays(index: Mapping[str, Any]) -> None:
    images = len(index["image_ids"])
    known: dict[str | int, int | None] = {
        "N": images,
        "N+1": images + 1,
        "S": len(index["made_from"]),
        "B": None,
    }
    for name, (kind, shape) in _ARRAYS.items():
        array = index[name]
        if known["B"] is None and shape[0] == "B":
            known["B"] = len(array) if array.ndim else 0
        if array.dtype != kind or array.shape != tuple(known.get(n, n) for n in shape):
            raise ValueError(f"{INDEX}: {name} is not what was written")
    offsets, labels = index["offsets"], index["labels"]
    if images == 0 or offsets[0] != 0 or offsets[-1] != len(labels) or (np.diff(offsets) < 0).any():
        raise ValueError(f"{INDEX}: offsets is not what was written")
    if not np.isfinite(index["boxes"]).all() or (index["sizes"] <= 0).any():
        raise ValueError(f"{INDEX}: boxes is not what was written")
    if len(labels) and (labels.min() < 1 or labels.max() > len(index["settings"]["class_names"])):
        raise ValueError(f"{INDEX}: labels is not what was written")
