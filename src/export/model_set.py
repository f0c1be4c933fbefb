# SPDX-License-Identifier: Apache-2.0
"""An exported model in Python: the files of a description, run like the network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..base.messages import one_line, short_list
from ..images.geometry import Size, canvas_text
from ..runtimes.opening import open_session, runtime_name
from ..runtimes.session import Outputs, RuntimeChoice, Session, TensorSpec
from .card_tensors import INPUTS, OUTPUTS, axis_length, takes_any_batch, tensor_dtype, tensor_names
from .exported_model import OUTPUT_NAMES
from .model_card import CardFile, read_card

_BYTE = "uint8"
_OUTPUT_DTYPES = (np.float32, np.float32, np.int32, np.bool_)


class ExportedModel:
    """The network of a description: (image, image_meta) -> boxes, scores, labels, valid.

    `preprocess_image(rgb, model.input)` gives the image and its meta, on the canvas of the picture;
    the image's shape chooses the file. A file is loaded when it is first needed. A batch of another
    size than the file's is filled up, or goes through it in parts.

    Args:
        path: of the description, NAME.onnx.json.
        choice: of the library that runs it.

    Attributes:
        card: the description.
        input: how a picture becomes an image; of files that take 8-bit pixels, RGB as it is.
        batch: images that a file takes at once; None: any number.
        rows: that it returns for an image.

    Raises:
        UserError: the description cannot be read, or is of something else than a whole detector;
            no library is there for it.
    """

    def __init__(self, path: str | Path, choice: RuntimeChoice | None = None) -> None:
        self.card = read_card(path)
        self._choice = choice or RuntimeChoice()
        self._path = Path(path)
        self._format = str(self.card.content.get("file_format"))
        self.runtime_name = runtime_name(path, self._format, self._choice)
        outputs = tensor_names(self.card, OUTPUTS)
        if outputs and outputs != list(OUTPUT_NAMES):
            raise UserError(
                f"{path}: gives {short_list(outputs)}, not {short_list(OUTPUT_NAMES)}; export the "
                "whole detector"
            )
        batch = axis_length(self.card, path, INPUTS, "image", 0)
        self.batch = None if takes_any_batch(self.card) else batch
        rows = axis_length(self.card, path, OUTPUTS, "boxes", 1)
        if rows is None:
            raise UserError(f"{path}: outputs does not say how many boxes; export the model again")
        self.rows = rows
        self.input = self.card.input
        if tensor_dtype(self.card, INPUTS, "image") == _BYTE:  # which the file normalises itself
            self.input = replace(self.input, mean=(0.0,) * 3, std=(1.0,) * 3, channel_order="rgb")
        self._sessions: dict[Size, Session] = {}

    @property
    def runtime(self) -> str:
        """What runs it, for people; known when a file has been loaded."""
        for session in self._sessions.values():
            return session.runtime
        return self.runtime_name

    def load(self) -> None:
        """Load the files of all canvases now.

        Raises:
            UserError: one is missing, another one or damaged.
        """
        for file in self.card.files:
            self._session(file.canvas)

    def __call__(self, image: np.ndarray, image_meta: np.ndarray) -> list[np.ndarray]:
        """Run the file of the image's canvas.

        Args:
            image: (B, 3, H, W) float32.
            image_meta: (B, 4) float32.

        Returns:
            boxes (B, K, 4) float32 xyxy in pixels of the pictures, scores (B, K) float32, labels
            (B, K) int32 and valid (B, K) bool.

        Raises:
            UserError: there is no such canvas; its file is missing, another one or damaged, or
                gives something else than detections.
        """
        session = self._session((image.shape[2], image.shape[3]))
        size = self.batch or len(image)
        parts = []
        for start in range(0, len(image), size):
            rows = slice(start, start + size)
            parts.append(self._run(session, image[rows], image_meta[rows], size))
        return [
            np.concatenate(part) if len(part) > 1 else part[0] for part in zip(*parts, strict=True)
        ]

    def _run(
        self, session: Session, image: np.ndarray, meta: np.ndarray, size: int
    ) -> list[np.ndarray]:
        count = len(image)
        given = [_filled(image, size), _filled(meta, size)]
        if session.inputs:
            given = [_as_wanted(*pair) for pair in zip(given, session.inputs, strict=False)]
        try:
            outputs = session.run(*given)
        except Exception as error:  # each library has classes of its own
            raise self._useless(str(error)[:500]) from error
        return [output[:count] for output in self._checked(outputs, size)]

    def _checked(self, outputs: Outputs, batch: int) -> list[np.ndarray]:
        """Return the outputs in this project's dtypes, if they are detections of a batch."""
        shapes = [np.shape(output) for output in outputs]
        rows = (batch, self.rows)
        if shapes != [(*rows, 4), rows, rows, rows]:
            raise self._useless(f"its outputs have the shapes {shapes}")
        found = [
            np.array(output, dtype) for output, dtype in zip(outputs, _OUTPUT_DTYPES, strict=True)
        ]
        boxes, scores, labels, valid = (array[found[3]] for array in found)
        classes = len(self.card.class_names)
        if labels.size and not 1 <= labels.min() <= labels.max() <= classes:
            raise self._useless(
                f"it gives labels {labels.min()} to {labels.max()} of {classes} classes"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise self._useless("it gives boxes or scores that are no numbers")
        return found

    def _useless(self, problem: str) -> UserError:
        names = short_list([file.name for file in self.card.files])
        return UserError(
            one_line(f"{names}: is not the model of its description: {problem}; export it again")
        )

    def _session(self, canvas: Size) -> Session:
        if canvas not in self._sessions:
            self._sessions[canvas] = self._opened(canvas)
        return self._sessions[canvas]

    def _opened(self, canvas: Size) -> Session:
        file = next((file for file in self.card.files if file.canvas == canvas), None)
        if file is None:
            there = ", ".join(canvas_text(file.canvas) for file in self.card.files)
            raise UserError(
                f"image: has the canvas {canvas_text(canvas)}; the model has {there}, see "
                "preprocess_image"
            )
        path = self._path.parent / file.name
        _require_size(path, file)
        session = open_session(path, self._format, self._choice)
        self._check(session, path, canvas)
        return session

    def _check(self, session: Session, path: Path, canvas: Size) -> None:
        """Refuse a file with other tensors than those of the description."""
        if not session.inputs:
            return
        sizes = [tensor.shape for tensor in session.inputs]
        wanted = [(self.batch, 3, *canvas), (self.batch, 4)]
        if session.inputs[0].dtype == _BYTE:
            wanted[0] = self.batch, *canvas, 3
        fits = len(sizes) == 2 and all(map(_fits, sizes, wanted))
        if not fits or len(session.outputs) != len(OUTPUT_NAMES):
            raise UserError(
                f"{path}: is not the model of its description: it takes {sizes}, not {wanted}; "
                "export it again"
            )


def _fits(found: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(
        have in (None, want) for have, want in zip(found, wanted, strict=True)
    )


def _require_size(path: Path, file: CardFile) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; export the model again") from None
    if file.size is not None and size != file.size:
        raise UserError(
            f"{path}: has {size} bytes, but its description says {file.size}; export the model "
            "again"
        )


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """Return `size` rows: those of the array, then copies of its last one."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, 0)]) if missing else array


def _as_wanted(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return an input as its file wants it: 8-bit pixels come last in shape, and are whole."""
    if spec.dtype == _BYTE and array.ndim == 4:
        return np.ascontiguousarray(np.rint(array).astype(np.uint8).transpose(0, 2, 3, 1))
    return np.ascontiguousarray(array, spec.dtype or None)
