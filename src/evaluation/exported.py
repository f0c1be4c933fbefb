# SPDX-License-Identifier: Apache-2.0
"""Evaluation of an exported ONNX model: the same images and numbers as those of its checkpoint."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from ..base.errors import UserError
from ..base.files import remove_leftovers
from ..base.messages import short_list
from ..base.progress import Display
from ..data.mindrecord import ensure_mindrecord
from ..export.formats import FORMATS
from ..export.model_card import ModelCard, description_of
from ..export.model_set import ExportedModel
from ..images.geometry import canvas_text
from ..model_utils.config import Config
from .analysis.report import show_report
from .coco_results import check_result_path, result_path_of
from .run import closer_look, evaluate, read_ground_truth, show_results

ONNX = "ONNX"
_FOLDER = "onnx"  # of its results: those of the checkpoint stay beside it


class ExportedNetwork:
    """An exported model in the place of the detector's Cell.

    Args:
        model: of one description.
        num_classes: without the background; a label beyond them is an error.
    """

    def __init__(self, model: ExportedModel, num_classes: int) -> None:
        self._model, self._num_classes = model, num_classes

    def set_train(self, mode: bool = True) -> None:
        """Do nothing: an exported model only evaluates.

        Args:
            mode: as of a Cell.
        """

    def __call__(self, image: ms.Tensor, image_meta: ms.Tensor) -> list[ms.Tensor]:
        """Detect, as `FasterRcnn.construct`.

        Args:
            image: (B, 3, H, W) float32 on one of the model's canvases.
            image_meta: (B, 4) float32.

        Raises:
            UserError: the model cannot be run, or gives something else than detections.
        """
        try:
            outputs = self._model(image.asnumpy(), image_meta.asnumpy())
        except UserError:
            raise
        except Exception as error:  # onnxruntime has a class of its own for every reason
            raise self._useless(str(error)) from error
        self._check(outputs, image.shape[0])
        return [ms.Tensor(output) for output in outputs]

    def _check(self, outputs: Sequence[np.ndarray], batch: int) -> None:
        """Raise a `UserError` where the file's outputs are no detections of a batch."""
        shapes = [np.shape(output) for output in outputs]
        rows = (batch, *shapes[0][1:2]) if shapes else ()
        if shapes != [(*rows, 4), rows, rows, rows]:
            raise self._useless(f"its outputs have the shapes {shapes}")
        labels = np.asarray(outputs[2])[np.asarray(outputs[3], bool)]
        if labels.size and not 1 <= labels.min() <= labels.max() <= self._num_classes:
            raise self._useless(
                f"it gives labels {labels.min()} to {labels.max()} of {self._num_classes} classes"
            )

    def _useless(self, problem: str) -> UserError:
        names = short_list([file.name for file in self._model.card.files])
        return UserError(
            f"{names}: is not the model of its description: {problem}; export it again"
        )


def run_exported_evaluation(config: Config) -> int:
    """Evaluate the ONNX model that `file_name` names, as eval_onnx.py does.

    Args:
        config: of the user; uses the keys of the data and of the results. What belongs to the model
            is taken from its description.

    Returns:
        The exit code.

    Raises:
        UserError: for anything in the configuration, the data or the model that cannot work.
    """
    if not config.is_given("file_name"):
        raise UserError(
            f"file_name is not given ({config.origin('file_name')}); give the model to evaluate "
            "with --file_name FILE.onnx"
        )
    display = Display()
    path = description_of(os.path.expanduser(config.file_name), FORMATS[ONNX].ending)
    model = ExportedModel(path)
    if model.card.content.get("file_format") != ONNX:
        raise UserError(f"{path}: describes no {ONNX} model; export one with --file_format {ONNX}")
    runtime = FORMATS[ONNX].runtime()
    display.say(f"model {path}")
    config, replaced = with_model(config, model.card, path)
    if replaced:
        display.say(f"  of the model, not of the configuration: {', '.join(replaced)}")
    mindrecord_set = ensure_mindrecord(config, "val")
    truth = read_ground_truth(config, mindrecord_set)
    result_path = result_path_of(config, _FOLDER)
    check_result_path(result_path)
    remove_leftovers(result_path.parent)
    network = ExportedNetwork(model, len(model.card.class_names))
    outcome = evaluate(network, config, mindrecord_set, truth, display=display)
    assert outcome is not None  # nothing gives it up
    summary, detections = outcome
    assert summary is not None  # there is one process
    show_results(summary, detections, result_path, display, runtime)
    if config.report:
        report = closer_look(
            config, summary, detections, truth, detector=path, epoch=None, results=result_path
        )
        show_report(report, result_path.parent, display.say)
    return 0


def average_precision(config: Config, description: Path) -> float:
    """Return AP (0 to 1) of an exported model on the validation images.

    Args:
        config: says which images.
        description: of the model.

    Raises:
        UserError: the data or the model cannot be used.
    """
    model = ExportedModel(description)
    config, _ = with_model(config, model.card, description)
    mindrecord_set = ensure_mindrecord(config, "val")
    truth = read_ground_truth(config, mindrecord_set)
    network = ExportedNetwork(model, len(model.card.class_names))
    outcome = evaluate(network, config, mindrecord_set, truth, display=Display())
    assert outcome is not None and outcome[0] is not None  # nothing gives it up, one process
    return outcome[0].ap


def with_model(config: Config, card: ModelCard, path: Path) -> tuple[Config, list[str]]:
    """Return the configuration with what belongs to an exported model.

    Args:
        config: of the user.
        card: the model's description.
        path: of the description, for errors.

    Returns:
        The configuration, and the keys that the user had set to something else.

    Raises:
        UserError: the description does not say the sizes of its tensors.
    """
    picture, rule = card.input, card.input.rule
    changes: dict[str, Any] = {
        "device_target": "CPU",  # where onnxruntime runs
        "resize": rule.kind,
        "canvases": [canvas_text(canvas) for canvas in rule.canvases],
        "min_size": list(rule.min_sizes),
        "max_size": rule.max_size,
        "resize_like": rule.like,
        "pixel_mean": list(picture.mean),
        "pixel_std": list(picture.std),
        "channel_order": picture.channel_order,
        "pad_before_normalize": picture.pad_before_normalize,
        "coco_classes": list(card.class_names),
        "num_classes": None,
        "test_batch_size": _length(card, path, "inputs", "image", 0),
        "test_max_per_img": _length(card, path, "outputs", "boxes", 1),
        "test_flip": False,
        "test_scales": [1.0],
    }
    changed = config.replace(**changes)
    differ = [key for key in changes if getattr(config, key) != getattr(changed, key)]
    return changed, [key for key in differ if config.is_given(key)]


def _length(card: ModelCard, path: Path, side: str, name: str, axis: int) -> int:
    """An axis' length of a tensor of all files of a description."""
    entries = card.content.get("files") or [card.content]
    found = set()
    for entry in entries:
        tensors = entry.get(side) if isinstance(entry, dict) else None
        shapes = [
            tensor.get("shape")
            for tensor in (tensors if isinstance(tensors, list) else [])
            if isinstance(tensor, dict) and tensor.get("name") == name
        ]
        shape = shapes[0] if shapes and isinstance(shapes[0], list) else []
        found.add(shape[axis] if len(shape) > axis and type(shape[axis]) is int else None)
    length = found.pop() if len(found) == 1 else None
    if length is None:
        raise UserError(
            f"{path}: {side} does not say one shape of {name} for all files; export the model again"
        )
    return length
