# SPDX-License-Identifier: Apache-2.0
"""The JSON file beside an exported model: what goes in, what comes out. Without MindSpore.

docs/deployment.md describes it. The C++ application (ascend310_infer) and postprocess.py read it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import read_json
from ..base.program import program
from ..model_utils.config import Config
from ..model_utils.configuration.schema import RULES
from ..model_utils.configuration.types import coerce, coerce_classes

FORMAT, VERSION = "faster_rcnn_model", 1
Tensor = tuple[str, np.ndarray]  # name in the model, an array of its dtype and shape
_LARGEST = 1 << 24  # bytes

# What is said of preprocessing -> the configuration's key with the same range.
_PREPROCESSING = {
    "height": "img_height",
    "width": "img_width",
    "keep_ratio": "keep_ratio",
    "channel_order": "channel_order",
    "pixel_mean": "pixel_mean",
    "pixel_std": "pixel_std",
    "pad_before_normalize": "pad_before_normalize",
}

_INPUT_MEANING = {
    "image": "resized into the canvas' top left corner, normalised as in preprocessing, padded",
    "image_meta": (
        "height and width of the valid area in network-input pixels, then network-input pixels "
        "per image pixel vertically and horizontally"
    ),
}
_OUTPUT_MEANING = {
    "boxes": "x1, y1, x2, y2 in pixels of the original image, best first; zeros where not valid",
    "scores": "0 to 1, falling; 0 where not valid",
    "labels": "1 to the number of class_names; 0 where not valid",
    "valid": "which of the rows are detections",
}


def card_path(model: str | Path) -> Path:
    """The JSON file of a model file: its name with .json appended.

    Args:
        model: the model file; need not exist.
    """
    model = Path(model)
    return model.with_name(model.name + ".json")


def make_card(
    config: Config,
    *,
    target: str,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    checkpoint: Mapping[str, Any],
    checked: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe an exported model.

    Args:
        config: the configuration of the network that was exported.
        target: device whose operators the graph is made of.
        inputs, outputs: name in this project -> (name in the model, array of the tensor's shape
            and dtype), in the model's order.
        checkpoint: what is known of the weights' origin.
        checked: runtime and precision in which the file was compared with the network; None: it
            was not.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "file_format": config.file_format,
        "target": target,
        "backbone": config.backbone,
        "box_convention": config.box_convention,
        "checkpoint": dict(checkpoint),
        "checked": checked,
        "class_names": list(config.class_names),
        "max_image_pixels": config.max_image_pixels,
        "preprocessing": {
            "height": config.img_height,
            "width": config.img_width,
            "keep_ratio": config.keep_ratio,
            "channel_order": config.channel_order,
            "pixel_mean": list(config.pixel_mean),
            "pixel_std": list(config.pixel_std),
            "pad_before_normalize": config.pad_before_normalize,
        },
        "inputs": _tensors(inputs, _INPUT_MEANING),
        "outputs": _tensors(outputs, _OUTPUT_MEANING),
    }


def _tensors(arrays: Mapping[str, Tensor], meanings: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "model_name": model_name,
            "dtype": str(array.dtype),
            "shape": list(array.shape),
            "meaning": meanings[name],
        }
        for name, (model_name, array) in arrays.items()
    ]


def read_card(path: str | Path) -> dict[str, Any]:
    """Read the JSON file of a model; class names and preprocessing are checked.

    Args:
        path: of the JSON file.

    Raises:
        UserError: it is missing, not JSON, or not such a file.
    """
    try:
        card = read_json(path, _LARGEST)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; {program('export')} writes it beside the model"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); export the model again") from None
    known = isinstance(card, dict) and card.get("format") == FORMAT
    if not known or card.get("version") != VERSION:
        raise UserError(
            f"{path}: not the description of a model by this version's {program('export')}; "
            "export it again"
        )
    part = "class_names"
    try:
        names = card.get("class_names")
        coerce_classes(names if isinstance(names, list) else None)
        part = "preprocessing"
        given = card.get(part)
        for name, key in _PREPROCESSING.items():
            part = f"preprocessing.{name}"
            coerce(RULES[key], given.get(name) if isinstance(given, dict) else None)
        if given["channel_order"] not in ("rgb", "bgr"):
            part = "preprocessing.channel_order"
            raise ValueError("is neither rgb nor bgr")
    except ValueError as error:
        raise UserError(f"{path}: {part} {error}; export the model again") from None
    return card
