# SPDX-License-Identifier: Apache-2.0
"""The result files of ascend310_infer, of today and of the model zoo. Without MindSpore.

Today's have a sidecar `<name>_outputs.json` with dtypes and shapes. The zoo's are bare arrays:
boxes (N, 5) float16 with the score last, labels (N,) int32 from 0, mask (N,) bool; N is what the
files hold.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import read_bounded, read_json
from ..base.messages import short

SIDECAR = "_outputs.json"
MODEL = "model.json"
_ENDINGS = ("_0.bin", "_1.bin", "_2.bin")
_DTYPES = (("float32", "float16"), ("int32",), ("bool",))  # of boxes, labels, mask
_MOST_DIMENSIONS = 8
_LARGEST_SIDECAR = 1 << 20  # bytes
_LARGEST = 1 << 26  # bytes of the boxes of one image: more than 3 million rows


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The detections of one image: boxes (N, 4) float32 xyxy, scores (N,), labels (N,) from 1 on,
    valid (N,) bool.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


class ResultFolder:
    """A folder of result files.

    Args:
        path: result_Files.

    Raises:
        UserError: it is no folder, cannot be read, or a sidecar in it is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._names = {entry.name for entry in os.scandir(self.path)}
        except OSError as error:
            raise UserError(
                f"{self.path}: {error.strerror}; set result_path to the folder result_Files"
            ) from None
        self._sidecars: dict[str, dict[str, Any]] = {}  # by the image's name
        for name in sorted(self._names):
            if name.endswith(SIDECAR):
                sidecar = _read_sidecar(self.path / name)
                image = sidecar["image"]
                if image in self._sidecars:
                    raise UserError(
                        f"{self.path / name}: is of {short(image)} as another sidecar there; "
                        "remove the one that is wrong"
                    )
                self._sidecars[image] = sidecar

    @property
    def model_path(self) -> Path | None:
        """The description of the model that made the results, where there is one."""
        return self.path / MODEL if MODEL in self._names else None

    def read(self, image_name: str) -> ImageResult | None:
        """Read the detections of an image; None where it has no result.

        Args:
            image_name: the image's file name, without folders.

        Raises:
            UserError: its files are incomplete or damaged.
        """
        sidecar = self._sidecars.get(image_name)
        if sidecar is not None:
            return _with_sidecar(self.path, sidecar)
        stem = Path(image_name).stem
        if stem + _ENDINGS[0] not in self._names or stem + SIDECAR in self._names:
            return None
        return _without_sidecar(*(self.path / (stem + ending) for ending in _ENDINGS))


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        sidecar = read_json(path, _LARGEST_SIDECAR)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run ascend310_infer again") from None
    except ValueError:
        sidecar = None
    outputs = sidecar.get("outputs") if isinstance(sidecar, dict) else None
    well_formed = (
        isinstance(outputs, list)
        and len(outputs) == len(_DTYPES)
        and isinstance(sidecar.get("image"), str)
        and all(map(_is_output, outputs, _DTYPES))
    )
    if not well_formed:
        raise UserError(f"{path}: damaged, or of another program; run ascend310_infer again")
    return sidecar


def _is_output(output: object, dtypes: tuple[str, ...]) -> bool:
    """Whether this can be what a sidecar says of a file beside it."""
    if not isinstance(output, dict):
        return False
    name, shape = output.get("file"), output.get("shape")
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and Path(name).name == name
        and isinstance(shape, list)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(side) is int and 0 <= side < 2**31 for side in shape)
        and output.get("dtype") in dtypes
    )


def _with_sidecar(folder: Path, sidecar: dict[str, Any]) -> ImageResult:
    arrays = []
    for output in sidecar["outputs"]:
        path, shape = folder / output["file"], output["shape"]
        array = np.frombuffer(_read(path), np.uint8)
        dtype = np.dtype(output["dtype"])
        if array.size != math.prod(shape) * dtype.itemsize:
            raise UserError(
                f"{path}: {array.size} bytes, but its sidecar says {output['dtype']} "
                f"{short(shape)}; run ascend310_infer again"
            )
        arrays.append(array.view(dtype))
    boxes, labels, mask = arrays
    shapes = [output["shape"] for output in sidecar["outputs"]]
    count = len(labels)
    if shapes != [[count, 5], [count], [count]]:
        raise UserError(
            f"{folder / sidecar['outputs'][0]['file']}: boxes {shapes[0]}, labels {shapes[1]} and "
            f"mask {shapes[2]} do not fit together; run ascend310_infer again"
        )
    return _result(boxes.reshape(count, 5), labels, mask)


def _without_sidecar(boxes_path: Path, labels_path: Path, mask_path: Path) -> ImageResult:
    boxes, labels, mask = (_read(path) for path in (boxes_path, labels_path, mask_path))
    count = len(mask)
    if len(boxes) != count * 10 or len(labels) != count * 4:
        raise UserError(
            f"{boxes_path}: {len(boxes)} bytes of boxes, {len(labels)} of labels and {count} of "
            "mask are not float16 (N, 5), int32 (N) and bool (N); infer this image again"
        )
    # The zoo counts labels from 0.
    return _result(
        np.frombuffer(boxes, np.float16).reshape(count, 5),
        np.frombuffer(labels, np.int32).astype(np.int64) + 1,
        np.frombuffer(mask, np.uint8),
    )


def _result(boxes: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> ImageResult:
    boxes = boxes.astype(np.float32)
    # The bytes of a mask are any; a bool array's must be 0 or 1.
    return ImageResult(boxes[:, :4], boxes[:, 4], labels, mask.view(np.uint8) != 0)


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _LARGEST)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; infer this image again") from None
