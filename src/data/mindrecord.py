# SPDX-License-Identifier: Apache-2.0
"""The converted data of a split: made once, checked against its source every time, never
half-written.

A record set is a folder `<mindrecord_dir>/<annotation file>-<split>-<hash of classes and
settings>`:

    fingerprint.json    what it was made from: readable, and the value that tells versions apart
    index.npz           image ids, names, sizes, boxes, checksums, and the source images' times
    *.mindrecord<k>     the encoded images with their boxes (and MindRecord's own .db beside each)

It is written under a temporary name, flushed to the disk and renamed when complete. A lock that the
system frees when its holder dies lets one process convert while the others wait; whoever holds it
may remove what dead ones left.
"""

import contextlib
import functools
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.digests import json_digest, parts_digest
from ..base.errors import UserError
from ..base.files import make_folder, remove_any, replacing_folder, write_json
from ..base.messages import counted, short_list
from ..base.one_at_a_time import beside, exclusive, report_failure, say
from ..model_utils.config import Config
from .record_frame import frame_parts
from .record_index import FINGERPRINT, INDEX, write_index
from .record_set import MindRecordSet, forget_damage, open_set, stat_images
from .record_writer import write_records, writing_to
from .records import AnnotationReport, ImageRecord
from .source import DataSource, data_source

# Of the files in a record set; hidden ones come from the system (.DS_Store, .nfs...).
_OWN_NAMES = re.compile(rf"\w+\.mindrecord\d+(\.db)?|{INDEX}|{FINGERPRINT}|\..*", re.DOTALL)
_HEAD_START_SECONDS = 0.5  # for the first rank, so that its log shows the conversion


def ensure_mindrecord(
    config: Config, split: str, rank: int = 0, world_size: int = 1
) -> MindRecordSet:
    """Return the record set of a split, converted anew if there is none, its source changed or it
    is damaged.

    One process converts, the others (ranks, or other runs) wait for it, at most
    config.convert_timeout seconds.

    Args:
        config: uses the keys of `data_source`, num_parallel_workers and convert_timeout.
        split: "train" or "val"; "val" keeps every image and every box.
        rank, world_size: this process among those of the run.

    Raises:
        UserError: bad data, a failed conversion in the process that was waited for, or the wait's
            limit.
    """
    started = time.time()
    source = data_source(config, split)
    if rank == 0:
        for note in source.notes:
            _say_once(note)
    content = source.digest()
    folder = os.path.join(source.mindrecord_dir, source.name())
    found, *_ = open_set(folder, source, content)
    if found is None:
        make_folder(source.mindrecord_dir, "mindrecord_dir")
        if rank and world_size > 1:
            time.sleep(_HEAD_START_SECONDS)
        with exclusive(folder, started, float(config.convert_timeout)):
            found, reason, damaged = open_set(folder, source, content)
            if found is None:
                say(f"{reason}: converting {source.anno_path}")
                workers = int(config.num_parallel_workers)
                damage = reason if damaged else ""
                found = _convert_guarded(folder, source, content, workers, damage)
                for line in found.report.lines():
                    say(line)
    _clean_up(folder)
    if rank == 0:
        images = counted(found.num_images, "image")
        say(f"{split}: {images}, {counted(found.report.num_boxes, 'box', 'boxes')} in {found.path}")
    return found


@functools.cache
def _say_once(line: str) -> None:
    """Say what holds for both splits."""
    say(line)


def _clean_up(folder: str) -> None:
    """Remove what a killed process left, unless one is at work right now."""
    leftovers = [beside(folder, purpose) for purpose in ("tmp", "tmp.old", "old", "failed")]
    if any(map(os.path.lexists, leftovers)):
        with contextlib.suppress(UserError), exclusive(folder, time.time(), timeout=0.0):
            for path in leftovers:
                remove_any(path)


# --------------------------------------------------------------------------- conversion


def _convert_guarded(
    folder: str, source: DataSource, content: str, workers: int, damage: str
) -> MindRecordSet:
    """Convert; tell the processes that wait when it fails."""
    remove_any(beside(folder, "failed"))
    try:
        return _convert(folder, source, content, workers, damage)
    except BaseException as error:
        report_failure(folder, error)
        raise


def _refuse_what_is_not_ours(folder: str) -> None:
    """Check that what a conversion replaces is a record set, or nothing.

    Raises:
        UserError: it holds something else.
    """
    try:
        strange = [name for name in os.listdir(folder) if not _OWN_NAMES.fullmatch(name)]
    except OSError:  # nothing is there, or no folder
        return
    if strange:
        raise UserError(
            f"{folder}: converted data belongs there, but it holds {short_list(sorted(strange))}; "
            "move that, or set mindrecord_dir to another folder"
        )


def _convert(
    folder: str, source: DataSource, content: str, workers: int, damage: str
) -> MindRecordSet:
    _refuse_what_is_not_ours(folder)
    records, report = source.read(max_boxes=0)
    # Taken before the images are read, so that a change during the conversion is noticed by the
    # next run.
    made_from = [record.file_name for record in records]
    stats = stat_images([record.image_path for record in records])
    existing = _existing(records, stats, source, report, damage)
    temporary = beside(folder, "tmp")  # what a process has left that died: the lock is ours
    with writing_to(temporary), replacing_folder(folder, temporary=temporary):
        written = write_records(
            source,
            [records[row] for row in existing],
            stats[existing, 0].tolist(),
            temporary,
            num_workers=min(max(1, workers), os.cpu_count() or 1),
            report=report,
        )
        described = {
            "settings": source.settings(),
            "content": content,
            "made_from": made_from,
            "image_ids": [record.image_id for record in written.records],
            "file_names": [record.file_name for record in written.records],
            "files": _describe_files(temporary, written.files),
            "report": vars(report),
        }
        described["fingerprint"] = json_digest([described, stats.tobytes().hex()])
        _write_index(
            temporary,
            described,
            written.records,
            sizes=np.array(written.sizes, np.int32).reshape(-1, 2),
            checksums=np.array(written.checksums, np.uint32),
            source_stats=stats,
        )
    forget_damage(folder)
    found, reason, _ = open_set(folder, source, content)
    if found is None:
        raise UserError(f"{reason} right after their conversion; leave the source alone meanwhile")
    return found


def _existing(
    records: Sequence[ImageRecord],
    stats: np.ndarray,
    source: DataSource,
    report: AnnotationReport,
    damage: str,
) -> np.ndarray:
    """Rows of the records whose image exists; the others are left out, or end the conversion.

    Args:
        damage: why the records are converted, if there are some and the images may be gone for
            good.
    """
    missing = np.flatnonzero(stats[:, 0] < 0)
    first = records[missing[0]].image_path if missing.size else ""
    if missing.size and (not source.skip_bad_images or (damage and missing.size == len(records))):
        if damage:
            raise UserError(
                f"{damage}, and {missing.size} of the {len(records)} images that they were made "
                f"from do not exist, first: {first}; bring the images, or a whole copy of the "
                "records"
            )
        raise UserError(
            f"{missing.size} of the {len(records)} images that {source.anno_path} names do not "
            f"exist, first: {first}; add them, correct the image folder, or set skip_bad_images to "
            "True"
        )
    for row in missing:
        report.add("bad_image", records[row].file_name)
    return np.flatnonzero(stats[:, 0] >= 0)


def _describe_files(folder: str, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name -> size, and the parts that are no images with their digest; indices included."""
    described = {}
    for name in (part for base in files for part in (base, base + ".db")):
        path = os.path.join(folder, name)
        size = os.path.getsize(path)
        parts = frame_parts(path, size)
        described[name] = {"size": size, "parts": parts, "digest": parts_digest(path, parts)}
    return described


def _write_index(
    folder: str, described: dict[str, Any], records: Sequence[ImageRecord], **arrays: np.ndarray
) -> None:
    write_index(folder, described, records, **arrays)
    summary = {key: described[key] for key in ("fingerprint", "settings", "content")}
    summary["num_images"] = len(records)
    write_json(os.path.join(folder, FINGERPRINT), summary)
