# SPDX-License-Identifier: Apache-2.0
"""An exported model in Python: the files of a description, run like the network."""

from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..images.geometry import canvas_text
from .exported_model import Model, Outputs
from .formats import FORMATS
from .model_card import read_card


class ExportedModel:
    """The network of a description: (image, image_meta) -> boxes, scores, labels, valid.

    `preprocess_image(rgb, model.card.input)` gives the image and its meta, on the canvas of the
    picture; the image's shape chooses the file. A file is loaded when it is first needed.

    Args:
        path: of the description, NAME.onnx.json.
        threads: of the CPU, where the format's library lets one choose; 0: its own choice.

    Attributes:
        card: the description.

    Raises:
        UserError: it cannot be read, or its format cannot be opened here.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.card = read_card(path)
        self._threads = threads
        self._folder = Path(path).parent
        name = self.card.content.get("file_format")
        opener = FORMATS[name].open if name in FORMATS else None
        if opener is None:
            raise UserError(f"{path}: models of file_format {name} cannot be opened here")
        form = self.card.content.get("form") or {}
        for key in ("with_preprocessing", "without_nms"):
            if isinstance(form, dict) and form.get(key):
                raise UserError(
                    f"{path}: the model was exported with --{key} True, for other runtimes; export "
                    "it without to run it here"
                )
        self._open = opener
        self._models: dict[tuple[int, int], Model] = {}

    def __call__(self, image: np.ndarray, image_meta: np.ndarray) -> Outputs:
        """Run the file of the image's canvas.

        Args:
            image: (B, 3, H, W) float32; B as it was exported.
            image_meta: (B, 4) float32.

        Raises:
            UserError: there is no such canvas, or its file is missing, another one or damaged.
        """
        canvas = image.shape[2], image.shape[3]
        if canvas not in self._models:
            self._models[canvas] = self._opened(canvas)
        return self._models[canvas](image, image_meta)

    def _opened(self, canvas: tuple[int, int]) -> Model:
        file = next((file for file in self.card.files if file.canvas == canvas), None)
        if file is None:
            there = ", ".join(canvas_text(file.canvas) for file in self.card.files)
            raise UserError(
                f"image: has the canvas {canvas_text(canvas)}; the model has {there}, see "
                "preprocess_image"
            )
        path = self._folder / file.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; export the model again") from None
        if file.size is not None and size != file.size:
            raise UserError(
                f"{path}: has {size} bytes, but its description says {file.size}; export the model "
                "again"
            )
        return self._open(path, self._threads)[0]
