# SPDX-License-Identifier: Apache-2.0
"""The converted data of a split: made once, checked against its source every time, never
half-written.

A record set is a folder `<mindrecord_dir>/<annotation file>-<split>-<hash of classes and
settings>`:

    fingerprint.json    what it was made from: readable, and the value that tells versions apart
    index.npz           image ids, names, sizes, boxes, and size and time of every source image
    *.mindrecord<k>     the encoded images with their boxes (and MindRecord's own .db beside each)

It is written under a temporary name and renamed when complete. A lock that the system frees when
its holder dies lets one process convert while the others wait; whoever holds it may remove what
dead ones left.
"""

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass, field

import numpy as np

from src.annotations import AnnotationReport, ImageRecord
from src.data_source import DataSource, data_source, digest, file_digest
from src.errors import UserError
from src.one_at_a_time import beside, exclusive, make_folder, report_failure, say, write_json
from src.record_writer import write_records, writing_to

__all__ = ["DataSource", "MindRecordSet", "data_source", "ensure_mindrecord"]

_INDEX, _FINGERPRINT = "index.npz", "fingerprint.json"
_HEAD_START_SECONDS = 0.5  # for the first rank, so that its log shows the conversion


@dataclass(frozen=True)
class MindRecordSet:
    """A complete record set. Everything but the images themselves is in memory.

    Attributes:
        path: its folder.
        files: the MindRecord files, in order; row i of all of them together is image i.
        fingerprint: changes with the source, the classes and the settings.
        image_ids: ids as in the annotation file (int or str), in record order.
        records: boxes, labels and names of every image, in record order.
        sizes: (N, 2) int32, real height and width as a viewer shows the image.
        class_names: without the background.
        anno_path: the annotation file it was made from.
        report: what was found while converting.
    """

    path: str
    files: tuple[str, ...]
    fingerprint: str
    image_ids: tuple[int | str, ...]
    records: tuple[ImageRecord, ...]
    sizes: np.ndarray
    class_names: tuple[str, ...]
    anno_path: str
    report: AnnotationReport = field(repr=False)

    @property
    def num_images(self) -> int:
        """How many images it holds."""
        return len(self.image_ids)

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names as written in the annotation file."""
        return tuple(record.file_name for record in self.records)

    @property
    def image_paths(self) -> tuple[str, ...]:
        """Absolute paths of the source images."""
        return tuple(record.image_path for record in self.records)

    def check_unchanged(self) -> None:
        """Make sure that the folder still holds what this object describes.

        Raises:
            UserError: another process has replaced or removed the records meanwhile.
        """
        try:
            with open(os.path.join(self.path, _FINGERPRINT), encoding="utf-8") as stream:
                current = json.load(stream)["fingerprint"]
        except (OSError, ValueError, KeyError):
            current = None
        if current != self.fingerprint:
            raise UserError(
                f"the records in {self.path} were replaced or removed while they were in use; "
                "start again, and give runs on changing data their own mindrecord_dir"
            )


def ensure_mindrecord(config, split: str, rank: int = 0, world_size: int = 1) -> MindRecordSet:
    """Return the record set of a split, converted anew if there is none or its source changed.

    One process converts, the others (ranks, or other runs) wait for it, at most
    config.convert_timeout seconds.

    Args:
        config: the configuration.
        split: "train" or "val"; "val" keeps every image and every box.
        rank, world_size: this process among those of the run.

    Raises:
        UserError: bad data, a failed conversion in the process that was waited for, or the wait's
            limit.
    """
    started = time.time()
    source = data_source(config, split)
    content = file_digest(source.anno_path)
    folder = os.path.join(source.mindrecord_dir, source.name())
    found, _ = _open_current(folder, source, content)
    if found is None:
        make_folder(source.mindrecord_dir, "mindrecord_dir")
        if rank and world_size > 1:
            time.sleep(_HEAD_START_SECONDS)
        with exclusive(folder, started, float(config.convert_timeout)):
            found, reason = _open_current(folder, source, content)
            if found is None:
                say(f"{reason}: converting {source.anno_path}")
                found = _convert_guarded(folder, source, content, int(config.num_parallel_workers))
                for line in found.report.lines():
                    say(line)
    _clean_up(folder)
    if rank == 0:
        say(f"{split}: {found.num_images} images, {found.report.num_boxes} boxes in {found.path}")
    return found


def _clean_up(folder: str) -> None:
    """Remove what a killed process left, unless one is at work right now."""
    leftovers = [beside(folder, purpose) for purpose in ("tmp", "old", "failed")]
    if any(os.path.exists(path) for path in leftovers):
        with contextlib.suppress(UserError), exclusive(folder, time.time(), timeout=0.0):
            for path in leftovers[:2]:
                shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.remove(leftovers[2])


# --------------------------------------------------------------------------- reuse or not


def _open_current(
    folder: str, source: DataSource, content: str
) -> tuple[MindRecordSet | None, str]:
    """The record set if it is complete and still matches its source; otherwise None and why not."""
    if not os.path.isdir(folder):
        return None, f"no records in {folder} yet"
    try:
        index = _read_index(folder)
        made_from = index["made_from"]
        complete = all(
            os.path.getsize(os.path.join(folder, name)) == size
            for name, size in index["files"].items()
        )
        if index["settings"] != source.settings() or not complete:
            return None, f"the records in {folder} are damaged"
    except Exception:  # whatever a file of other bytes provokes
        return None, f"the records in {folder} are damaged"
    if index["content"] != content:
        return None, f"{source.anno_path} has changed since its records were made"
    current = _stat_images([os.path.join(source.image_dir, name) for name in made_from])
    changed = np.flatnonzero((current != index["source_stats"]).any(axis=1))
    # Records hold all of their images: they may have been brought here without them.
    if changed.size and (current[:, 0] >= 0).any():
        return None, (
            f"{changed.size} images have changed since their records were made "
            f"(first: {made_from[changed[0]]})"
        )
    for name in index["files"]:
        if not os.access(os.path.join(folder, name), os.R_OK):
            raise UserError(
                f"{os.path.join(folder, name)} belongs to another user and cannot be read; let its "
                "owner chmod it, or set mindrecord_dir to a folder of your own"
            )
    return _make_set(folder, source, index), ""


def _make_set(folder: str, source: DataSource, index: dict) -> MindRecordSet:
    offsets = index["offsets"]
    records = tuple(
        ImageRecord(
            image_id=image_id,
            file_name=name,
            image_path=os.path.abspath(os.path.join(source.image_dir, name)),
            boxes=index["boxes"][offsets[i] : offsets[i + 1]],
            labels=index["labels"][offsets[i] : offsets[i + 1]],
            crowd=index["crowd"][offsets[i] : offsets[i + 1]],
        )
        for i, (image_id, name) in enumerate(
            zip(index["image_ids"], index["file_names"], strict=True)
        )
    )
    return MindRecordSet(
        path=folder,
        files=tuple(os.path.join(folder, n) for n in index["files"] if not n.endswith(".db")),
        fingerprint=index["fingerprint"],
        image_ids=tuple(index["image_ids"]),
        records=records,
        sizes=index["sizes"],
        class_names=source.class_names,
        anno_path=source.anno_path,
        report=AnnotationReport(**index["report"]),
    )


def _read_index(folder: str) -> dict:
    with np.load(os.path.join(folder, _INDEX), allow_pickle=False) as arrays:
        index = {name: arrays[name] for name in arrays.files}
    return {**json.loads(bytes(index.pop("described")).decode("utf-8")), **index}


def _stat_images(paths: list[str]) -> np.ndarray:
    """(N, 2) int64: size and modification time in ns; -1 for a missing file."""
    result = np.full((len(paths), 2), -1, np.int64)
    for row, path in enumerate(paths):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            result[row] = status.st_size, status.st_mtime_ns
    return result


# --------------------------------------------------------------------------- conversion


def _convert_guarded(folder: str, source: DataSource, content: str, workers: int) -> MindRecordSet:
    """Convert; tell the processes that wait when it fails."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(beside(folder, "failed"))
    try:
        return _convert(folder, source, content, workers)
    except BaseException as error:
        report_failure(folder, error)
        raise


def _convert(folder: str, source: DataSource, content: str, workers: int) -> MindRecordSet:
    temporary, old = beside(folder, "tmp"), beside(folder, "old")
    for leftover in (temporary, old):  # of processes that died: the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    records, report = source.read(max_boxes=0)
    # Taken before the images are read, so that a change during the conversion is noticed by the
    # next run.
    made_from = [record.file_name for record in records]
    stats = _stat_images([record.image_path for record in records])
    records = _existing(records, stats, source, report)
    os.makedirs(temporary)
    try:
        kept, sizes, files = write_records(
            records,
            temporary,
            stem=source.split,
            keep_empty=source.keep_empty,
            max_boxes=source.max_boxes,
            skip_bad_images=source.skip_bad_images,
            largest_image=int(stats[:, 0].max()),
            max_pixels=source.max_image_pixels,
            num_workers=min(max(1, workers), os.cpu_count() or 1),
            report=report,
        )
        names = [name for base in files for name in (base, base + ".db")]
        for name in names:
            os.chmod(os.path.join(temporary, name), 0o644)  # MindSpore's 0600 is for one user only
        described = {
            "settings": source.settings(),
            "content": content,
            "made_from": made_from,
            "image_ids": [record.image_id for record in kept],
            "file_names": [record.file_name for record in kept],
            "files": {name: os.path.getsize(os.path.join(temporary, name)) for name in names},
            "report": vars(report),
        }
        described["fingerprint"] = digest([described, stats.tobytes().hex()])
        with writing_to(temporary):
            _write_index(temporary, described, kept, sizes, stats)
        if os.path.isdir(folder):
            os.rename(folder, old)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return _make_set(folder, source, _read_index(folder))


def _existing(records, stats, source, report) -> list[ImageRecord]:
    """Leave out, or fail on, records whose image is missing."""
    missing = np.flatnonzero(stats[:, 0] < 0)
    if missing.size and not source.skip_bad_images:
        raise UserError(
            f"{missing.size} of the {len(records)} images that {source.anno_path} names do not "
            f"exist, first: {records[missing[0]].image_path}; add them, correct the image folder, "
            "or set skip_bad_images to True"
        )
    for row in missing:
        report.add("bad_image", records[row].file_name)
    return [record for row, record in enumerate(records) if stats[row, 0] >= 0]


def _write_index(folder, described, kept, sizes, stats) -> None:
    counts = [len(record.labels) for record in kept]
    np.savez(
        os.path.join(folder, _INDEX),
        described=np.frombuffer(json.dumps(described).encode("utf-8"), np.uint8),
        sizes=sizes,
        source_stats=stats,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([record.boxes for record in kept]).astype(np.float32),
        labels=np.concatenate([record.labels for record in kept]).astype(np.int32),
        crowd=np.concatenate([record.crowd for record in kept]).astype(bool),
    )
    summary = {key: described[key] for key in ("fingerprint", "settings", "content")}
    summary["num_images"] = len(kept)
    write_json(os.path.join(folder, _FINGERPRINT), summary)
