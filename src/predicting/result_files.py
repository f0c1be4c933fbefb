# SPDX-License-Identifier: Apache-2.0
"""The formats of results: JSON, COCO, CSV and YOLO; and what is in the boxes, cut out.

Each writer gets one entry after the other, and its file is there whole at the end of the `with`
block or not at all.
"""

import contextlib
import csv
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image

from ..base.errors import UserError
from ..base.files import replacing, save_whole
from .entries import Entry
from .names import CLASSES, COCO, CROPS, CSV, LABELS, PREDICTIONS, class_folders

_COLUMNS = ("file", "frame", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


class ResultWriter(Protocol):
    """Takes entries."""

    def add(self, entry: Entry, name: str) -> None:
        """Write what an entry says.

        Args:
            entry: of a picture, or with "frame" of a frame.
            name: what its result files are called, without an ending, unique.
        """


@contextlib.contextmanager
def writing(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """Yield a text file that is at `path` after the block, whole.

    Args:
        path: its folder is made when missing.
        newline: as in `open`.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with (
            replacing(path) as temporary,
            # Names of others may have bytes that are not UTF-8: no reason to lose all results.
            open(
                temporary, "w", encoding="utf-8", errors="backslashreplace", newline=newline
            ) as file,
        ):
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


class JsonWriter:
    """``predictions.json``: the list of the pictures' entries. Frames have a file of their own.

    Args:
        file: to write to.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self._entries = file, list[Entry]()

    def add(self, entry: Entry, name: str) -> None:
        """See `ResultWriter.add`."""
        if "frame" not in entry:
            self._entries.append(entry)

    def finish(self) -> None:
        """Write them."""
        json.dump(self._entries, self._file, indent=1)


class CocoWriter:
    """A COCO file whose annotations are the detections, with `score`.

    pycocotools loads it as a data set, and its `annotations` as results. Ids of pictures count from
    1 in the order of the inputs, category ids are labels 1..C.

    Args:
        file: to write to.
        class_names: of labels 1..C.
    """

    def __init__(self, file: IO[str], class_names: Sequence[str]) -> None:
        self._file, self._class_names = file, class_names
        self._ids = {name: label for label, name in enumerate(class_names, 1)}
        self._images: list[dict[str, Any]] = []
        self._count = 0
        file.write('{"annotations": [')  # of a long video too many to be held

    def add(self, entry: Entry, name: str) -> None:
        """See `ResultWriter.add`."""
        image = {"id": len(self._images) + 1, "file_name": entry["file"]}
        image.update({key: entry[key] for key in ("width", "height")})
        image.update({f"{key}_id": entry[key] for key in ("frame",) if key in entry})
        self._images.append(image)
        for detection in entry["detections"]:
            x1, y1, x2, y2 = detection["box"]
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": image["id"],
                "category_id": self._ids[detection["class"]],
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 2),
                "iscrowd": 0,
                "score": detection["score"],
            }
            self._file.write((",\n" if self._count > 1 else "\n") + json.dumps(annotation))

    def finish(self) -> None:
        """Write what comes after the annotations."""
        categories = [{"id": label, "name": name} for name, label in self._ids.items()]
        self._file.write(f'\n], "images": {json.dumps(self._images)},')
        self._file.write(f'\n"categories": {json.dumps(categories)}}}\n')


class CsvWriter:
    """``predictions.csv``: a row a detection.

    Args:
        file: opened with newline="".
    """

    def __init__(self, file: IO[str]) -> None:
        self._rows = csv.writer(file)
        self._rows.writerow(_COLUMNS)

    def add(self, entry: Entry, name: str) -> None:
        """See `ResultWriter.add`."""
        place = [entry["file"], entry.get("frame", ""), entry["width"], entry["height"]]
        for found in entry["detections"]:
            self._rows.writerow([*place, found["class"], found["score"], *found["box"]])


class YoloWriter:
    """``labels/NAME.txt``: a line a detection, class (from 0), centre, size (shares of 1), score.

    Args:
        output: the folder of the results.
        class_names: of labels 1..C; ``classes.txt`` gets them.
    """

    def __init__(self, output: Path, class_names: Sequence[str]) -> None:
        self._folder = output / LABELS
        self._numbers = {name: number for number, name in enumerate(class_names)}
        with writing(output / CLASSES) as file:
            file.writelines(f"{' '.join(name.split())}\n" for name in class_names)

    def add(self, entry: Entry, name: str) -> None:
        """See `ResultWriter.add`."""
        text = "".join(f"{self._line(entry, found)}\n" for found in entry["detections"])
        path = self._folder / f"{name}.txt"
        save_whole(path, lambda file: file.write_text(text, encoding="utf-8"), sync=False)

    def _line(self, entry: Entry, found: dict[str, Any]) -> str:
        size = np.array([entry["width"], entry["height"]])
        low, high = (np.array(found["box"]).reshape(2, 2) / size).clip(0, 1)
        numbers = " ".join(f"{v:.6f}" for v in (*(low + high) / 2, *(high - low)))
        return f"{self._numbers[found['class']]} {numbers} {found['score']:.5f}"


class CropWriter:
    """``crops/CLASS/NAME_1.png``: what is in each box.

    Args:
        output: the folder of the results.
        class_names: of labels 1..C.
    """

    def __init__(self, output: Path, class_names: Sequence[str]) -> None:
        self._folder = output / CROPS
        self._folders = class_folders(class_names)

    def add(self, entry: Entry, name: str, rgb: np.ndarray) -> None:
        """Cut a picture's detections out of it.

        Args:
            entry, name: see `ResultWriter.add`.
            rgb: (H, W, 3) uint8, the picture.
        """
        for number, found in enumerate(entry["detections"], 1):
            crop = Image.fromarray(np.ascontiguousarray(rgb[crop_part(found["box"], rgb.shape)]))
            path = self._folder / self._folders[found["class"]] / f"{name}_{number}.png"
            save_whole(path, functools.partial(crop.save, format="PNG"), sync=False)


def crop_part(box: Sequence[float], shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns of whole pixels that a box touches, at least one of each.

    Args:
        box: xyxy, pixels; may reach beyond the picture.
        shape: height and width of the picture.
    """
    parts = []
    for low, high, side in ((box[1], box[3], shape[0]), (box[0], box[2], shape[1])):
        start = min(max(int(np.floor(low)), 0), side - 1)
        parts.append(slice(start, min(max(int(np.ceil(high)), start + 1), side)))
    return parts[0], parts[1]


FORMATS = ("json", "coco", "csv", "yolo")


@contextlib.contextmanager
def result_writers(
    formats: Sequence[str], output: Path, class_names: Sequence[str], *, with_pictures: bool = True
) -> Iterator[list[ResultWriter]]:
    """Yield the writers of some formats; their files are there after the block.

    Args:
        formats: of `FORMATS`.
        output: the folder of the results.
        class_names: of labels 1..C.
        with_pictures: whether there are pictures; ``predictions.json`` is only of these.

    Raises:
        UserError: a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        writers: list[ResultWriter] = []
        finishing: list[JsonWriter | CocoWriter] = []
        if "json" in formats and with_pictures:
            finishing.append(JsonWriter(stack.enter_context(writing(output / PREDICTIONS))))
        if "coco" in formats:
            file = stack.enter_context(writing(output / COCO))
            finishing.append(CocoWriter(file, class_names))
        if "csv" in formats:
            writers.append(CsvWriter(stack.enter_context(writing(output / CSV, newline=""))))
        if "yolo" in formats:
            writers.append(YoloWriter(output, class_names))
        yield [*finishing, *writers]
        for writer in finishing:
            writer.finish()


def written_files(formats: Sequence[str], *, with_pictures: bool) -> list[str]:
    """Return the names of the files and folders of some formats, in `output`.

    Args:
        formats, with_pictures: as in `result_writers`.
    """
    names = {"json": PREDICTIONS, "coco": COCO, "csv": CSV, "yolo": f"{LABELS}/"}
    return [names[f] for f in FORMATS if f in formats and (f != "json" or with_pictures)]
