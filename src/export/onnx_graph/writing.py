# SPDX-License-Identifier: Apache-2.0
"""Writes the detector as an ONNX file, in one of its forms."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from ...base.errors import UserError
from ...FasterRcnn.faster_rcnn_resnet import FasterRcnn
from ...images.geometry import Size, canvas_text
from ...images.ops import InputFormat
from ..calibration import calibration_pictures
from ..onnx_form import OnnxForm
from .detector import detector_model
from .half_weights import with_half_weights
from .quantization import quantize

Inputs = dict[str, np.ndarray]


def write_detector(
    network: FasterRcnn, canvas: Size, batch: int, path: Path, form: OnnxForm, picture: InputFormat
) -> None:
    """Write the file.

    Args:
        network: with its weights.
        canvas: height and width of the input.
        batch: images at once, unless the form leaves it open.
        path: the file; of an 8-bit one, float32_<name> stays beside it.
        form: which one.
        picture: how an image file becomes an input.

    Raises:
        UserError: there are no pictures to fit 8-bit values to.
    """
    model = detector_model(
        network,
        canvas,
        "batch" if form.dynamic_batch else batch,
        picture=picture if form.with_preprocessing else None,
        nms=not form.without_nms,
    )
    onnx.checker.check_model(model, full_check=True)
    if form.half:
        model = with_half_weights(model)
    if not form.int8:
        onnx.save(model, path)
        return
    source = path.with_name(f"float32_{path.name}")
    onnx.save(model, source)
    inputs = list(calibration_inputs(form, picture, canvas, 1 if form.dynamic_batch else batch))
    if not inputs:
        raise UserError(
            f"calibration {form.calibration}: has no picture for the canvas {canvas_text(canvas)}; "
            "give 50 to 500 like those that the model will see"
        )
    quantize(source, path, inputs, form.calibration_method)


def calibration_inputs(
    form: OnnxForm, picture: InputFormat, canvas: Size, batch: int
) -> Iterator[Inputs]:
    """Yield inputs of a canvas, made of a folder's pictures; what fills no batch is left out.

    Args:
        form: names the folder and the most pictures.
        picture: how an image file becomes an input.
        canvas: height and width.
        batch: images at once.
    """
    images, metas = [], []
    for pixels, image, meta in calibration_pictures(form, picture, canvas):
        images.append(pixels if form.with_preprocessing else image)
        metas.append(meta)
        if len(images) == batch:
            yield {"image": np.stack(images), "image_meta": np.stack(metas)}
            images, metas = [], []
