# SPDX-License-Identifier: Apache-2.0
"""Compares a written file with the network: on random blobs, an 8-bit one on its own pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..base.errors import UserError
from ..base.messages import counted
from ..images.geometry import Size
from ..images.ops import InputFormat, normalize_and_pad
from ..model_utils.config import Config
from .calibration import Picture, calibration_pictures
from .exported_model import OUTPUT_NAMES, Comparison, Outputs, compare, kept
from .formats import FORMATS
from .onnx_form import OnnxForm

INPUT_NAMES = ("image", "image_meta")
_INPUTS = 4  # how many are tried for one that the network finds something in
# A form that is not exact may lose some, and all of few. A trained detector keeps all with weights
# in float16, and 85 % in 8 bits; an untrained one, whose scores nearly tie, 63 % in float16.
_LEAST_KEPT, _FEW = 0.5, 10


@dataclass(frozen=True, slots=True)
class Reference:
    """An input and what the network finds in it.

    Attributes:
        pixels: (B, H, W, 3) uint8 RGB on the canvas.
        image: (B, 3, H, W) float32, the same for the network.
        image_meta: (B, 4) float32.
        expected: boxes, scores, labels, valid.
    """

    pixels: np.ndarray
    image: np.ndarray
    image_meta: np.ndarray
    expected: Outputs

    def inputs(self, form: OnnxForm) -> tuple[np.ndarray, np.ndarray]:
        """Return what a file of this form takes.

        Args:
            form: of the file.
        """
        return (self.pixels if form.with_preprocessing else self.image), self.image_meta


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that has been run.

    Attributes:
        inputs, outputs: names of its tensors.
        found: its outputs.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    found: Outputs


def make_reference(
    network: ms.nn.Cell, config: Config, canvas: Size, form: OnnxForm | None = None
) -> Reference:
    """Return an input, in which the network finds something if it can, and its outputs.

    Args:
        network: of the configuration.
        config: the effective one.
        canvas: height and width of the input.
        form: of an ONNX file; 8 bits hold for pictures like those that they were fitted to.
    """
    best: Reference | None = None
    fitted = _fitted_inputs(config, canvas, form) if form is not None and form.int8 else ()
    random = (_random_input(config, canvas, seed) for seed in range(_INPUTS))
    for pixels, image, meta in islice(chain(fitted, random), _INPUTS):
        outputs = [o.asnumpy() for o in network(Tensor(image), Tensor(meta))]
        if best is None or outputs[3].sum() > best.expected[3].sum():
            best = Reference(pixels, image, meta, outputs)
        if outputs[3].any(1).all():
            break
    assert best is not None  # one is tried at least
    return best


def _fitted_inputs(config: Config, canvas: Size, form: OnnxForm) -> Iterator[Picture]:
    """Yield batches of the pictures that a form is fitted to."""
    pictures = calibration_pictures(form, InputFormat.from_config(config), canvas)
    while len(batch := list(islice(pictures, config.test_batch_size))) == config.test_batch_size:
        pixels, images, metas = zip(*batch, strict=True)
        yield np.stack(pixels), np.stack(images), np.stack(metas)


def _random_input(config: Config, canvas: Size, seed: int) -> Picture:
    """Pictures of random blobs in random colours, of a random size inside the canvas.

    Returns:
        pixels (B, H, W, 3) uint8, image (B, 3, H, W) float32 and image_meta (B, 4) float32.
    """
    rng = np.random.default_rng(seed)
    target = InputFormat.from_config(config)
    pixels = np.zeros((config.test_batch_size, *canvas, 3), np.uint8)
    images, metas = [], []
    for place in pixels:
        height = int(rng.integers(canvas[0] * 3 // 4, canvas[0] + 1))
        width = int(rng.integers(canvas[1] * 3 // 4, canvas[1] + 1))
        rgb = np.full((height, width, 3), rng.integers(100, 256, 3), np.uint8)
        for _ in range(30):
            centre = rng.integers(0, (width, height)).tolist()
            axes = rng.integers(2, max(3, min(height, width) // 6), 2).tolist()
            colour = rng.integers(0, 256, 3).tolist()
            cv2.ellipse(rgb, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        noise = rng.normal(0, 8, rgb.shape)
        rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
        place[:height, :width] = rgb
        images.append(normalize_and_pad(rgb, target, canvas))
        metas.append((height, width, *rng.uniform(0.5, 2.0, 2)))
    return pixels, np.stack(images), np.array(metas, np.float32)


def run_file(path: Path, file_format: str, form: OnnxForm, reference: Reference) -> Checked:
    """Run a written file once.

    Args:
        path: the file.
        file_format: a key of `FORMATS`, which can be opened.
        form: of an ONNX file.
        reference: its inputs.
    """
    opener = FORMATS[file_format].open
    assert opener is not None
    run, inputs, outputs = opener(path, 0)
    found = run(*reference.inputs(form))
    return Checked(inputs or INPUT_NAMES, outputs or OUTPUT_NAMES, found)


def after_nms(network: ms.nn.Cell, found: Outputs) -> Outputs:
    """Return the detections that NMS leaves of what a file without it gives.

    Args:
        network: gives the settings.
        found: boxes (B, R, C, 4) and scores (B, R, C).
    """
    import onnxruntime

    from .onnx_graph.detector import selection_model

    model = selection_model(network, found[1].shape[1]).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(list(OUTPUT_NAMES), {"all_boxes": found[0], "all_scores": found[1]})


def verdict(name: str, form: OnnxForm, expected: Outputs, found: Outputs) -> str:
    """Return one line on how file and network compare.

    Args:
        name: of the file.
        form: of an ONNX file.
        expected: boxes, scores, labels and valid of the network.
        found: those of the file.

    Raises:
        UserError: they differ.
    """
    if not form.is_exact:
        return _lossy_verdict(name, form, expected, found)
    result = compare(expected, found)
    if not result.same:
        raise _differs(name, f"{result.unmatched} of {result.count} detections differ")
    return f"{name} checked: {_exact_verdict(result)}"


def _exact_verdict(result: Comparison) -> str:
    detections = counted(result.count, "detection")
    if result.equal:
        return f"equal to the network bit for bit ({detections})"
    return (
        f"{detections}, largest difference {result.box:.2g} px and {result.score:.2g} in score, "
        f"{result.unmatched} without a partner"
    )


def _lossy_verdict(name: str, form: OnnxForm, expected: Outputs, found: Outputs) -> str:
    number, count = kept(expected, found), int(expected[3].sum())
    of = f"{number} of {counted(count, 'detection')}"
    if count >= _FEW and number < _LEAST_KEPT * count:
        raise _differs(name, f"only {of} are found again")
    return f"{name} checked in {form.precision}: {of} found again, same class and IoU above 0.9"


def _differs(name: str, how: str) -> UserError:
    return UserError(
        f"{name}: the written model finds something else than the network in the same picture "
        f"({how}); nothing was kept, please report it with your configuration"
    )
