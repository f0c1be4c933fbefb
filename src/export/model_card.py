# SPDX-License-Identifier: Apache-2.0
"""The JSON file beside exported models: what goes in, what comes out. Without MindSpore.

docs/deployment.md describes it. The C++ application (ascend310_infer) and postprocess.py read it.
Version 1 describes one file of one canvas, which a picture is fitted into or stretched to; version
2 several files of a canvas each, or any other resize rule.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import read_json
from ..base.program import program
from ..images.geometry import (
    CANVAS,
    DETECTRON2,
    OPENCV,
    SHORT_EDGE,
    STRETCH,
    TORCHVISION,
    ResizeRule,
    Size,
    canvas_text,
)
from ..images.ops import InputFormat
from ..model_utils.config import Config
from ..model_utils.configuration.schema import RULES
from ..model_utils.configuration.types import Rule, coerce, coerce_classes

FORMAT = "faster_rcnn_model"
ONE_CANVAS, SEVERAL = 1, 2  # versions
Tensor = tuple[str, np.ndarray]  # name in the model, an array of its dtype and shape
_LARGEST = 1 << 24  # bytes
_MOST_FILES = RULES["canvases"].max_length
_LONGEST_NAME = 255
_OF_A_CANVAS = re.compile(r"(.+)_[0-9]+x[0-9]+")

# What is said of a picture's values -> the configuration's key with the same range: the same name.
_VALUES = ("channel_order", "pixel_mean", "pixel_std", "pad_before_normalize")
_CHOICES = {
    "channel_order": ("rgb", "bgr"),
    "resize": (CANVAS, SHORT_EDGE, STRETCH),
    "resize_like": (OPENCV, TORCHVISION, DETECTRON2),
}
_BYTES = Rule("int", low=1, high=1 << 40)

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


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, as it has been written.

    Attributes:
        name: without folders.
        canvas: height and width of the pictures that it takes.
        size: bytes.
        inputs, outputs: name in this project -> (name in the model, array of the tensor's shape
            and dtype), in the model's order.
        graph: what is known of the graph: opset and operators.
    """

    name: str
    canvas: Size
    size: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    graph: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardFile:
    """What a description says of a model file.

    Attributes:
        name: without folders; it is beside the description.
        canvas: height and width of the pictures that it takes.
        size: bytes; None in a description that does not say it.
    """

    name: str
    canvas: Size
    size: int | None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A description that has been read and checked.

    Attributes:
        class_names: of labels 1, 2, ...
        input: how a picture becomes an input, and on which of the canvases.
        files: one for each canvas, in the order of `input.rule.canvases`.
        content: everything that the file says.
    """

    class_names: tuple[str, ...]
    input: InputFormat
    files: tuple[CardFile, ...]
    content: Mapping[str, Any]


# --------------------------------------------------------------------------- names


def card_path(model: str | Path) -> Path:
    """The JSON file of a model: its name with .json appended.

    Args:
        model: the model, as `model_paths` takes it; need not exist.
    """
    model = Path(model)
    return model.with_name(model.name + ".json")


def model_paths(model: Path, canvases: Sequence[Size]) -> list[Path]:
    """The files of a model: its own name for one canvas, NAME_800x1344.onnx and so on for several.

    Args:
        model: NAME.onnx, or with the ending of another format.
        canvases: heights and widths.
    """
    if len(canvases) == 1:
        return [model]
    return [model.with_stem(f"{model.stem}_{canvas_text(canvas)}") for canvas in canvases]


def description_of(model: str | Path, ending: str) -> Path:
    """Find the description of a model by what a user calls it.

    Args:
        model: the model with or without its ending, one of the files of several canvases, or the
            description itself.
        ending: of the format's files, such as ".onnx".

    Returns:
        The description; may be missing.
    """
    model = Path(model)
    if model.suffix == ".json":
        return model
    has_ending = model.suffix.lower() == ending
    model = model.with_suffix(ending) if has_ending else model.with_name(model.name + ending)
    several = _OF_A_CANVAS.fullmatch(model.stem)
    if several and not card_path(model).exists():
        model = model.with_stem(several[1])
    return card_path(model)


# --------------------------------------------------------------------------- writing


def make_card(
    config: Config,
    *,
    target: str,
    files: Sequence[ModelFile],
    checkpoint: Mapping[str, Any],
    checked: Mapping[str, str] | None = None,
    form: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe an exported model.

    Args:
        config: the configuration of the network that was exported.
        target: device whose operators the graph is made of.
        files: one for each canvas, in the order of the resize rule's.
        checkpoint: what is known of the weights' origin.
        checked: runtime and precision in which the files were compared with the network; None: they
            were not.
        form: which form ONNX files have; None: of other formats.
    """
    rule = ResizeRule.from_config(config)
    old = len(files) == 1 and rule.kind != SHORT_EDGE and rule.like == OPENCV
    (height, width), *_ = rule.canvases
    resize: dict[str, Any] = {
        "resize": rule.kind,
        "min_size": max(rule.min_sizes),
        "max_size": rule.max_size,
        "resize_like": rule.like,
    }
    if old:
        resize = {"height": height, "width": width, "keep_ratio": rule.kind == CANVAS}
    card = {
        "format": FORMAT,
        "version": ONE_CANVAS if old else SEVERAL,
        "file_format": config.file_format,
        "target": target,
        "backbone": config.backbone,
        "box_convention": config.box_convention,
        "checkpoint": dict(checkpoint),
        "checked": checked,
        **({} if form is None else {"form": dict(form)}),
        "class_names": list(config.class_names),
        "max_image_pixels": config.max_image_pixels,
        "preprocessing": {
            **resize,
            "channel_order": config.channel_order,
            "pixel_mean": list(config.pixel_mean),
            "pixel_std": list(config.pixel_std),
            "pad_before_normalize": config.pad_before_normalize,
        },
    }
    if old:
        return {**card, **_graph(files[0]), "model_bytes": files[0].size}
    return {**card, "files": [_file(file) for file in files]}


def _file(file: ModelFile) -> dict[str, Any]:
    height, width = file.canvas
    place = {"name": file.name, "bytes": file.size, "height": height, "width": width}
    return {**place, **_graph(file)}


def _graph(file: ModelFile) -> dict[str, Any]:
    return {
        "inputs": _tensors(file.inputs, _INPUT_MEANING),
        "outputs": _tensors(file.outputs, _OUTPUT_MEANING),
        **file.graph,
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


# --------------------------------------------------------------------------- reading


def read_card(path: str | Path) -> ModelCard:
    """Read the description of a model; what programs go by is checked.

    Args:
        path: of the JSON file.

    Raises:
        UserError: it is missing, not JSON, or not such a file.
    """
    try:
        content = read_json(path, _LARGEST)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; {program('export')} writes it beside the model"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); export the model again") from None
    known = isinstance(content, dict) and content.get("format") == FORMAT
    if not known or content.get("version") not in (ONE_CANVAS, SEVERAL):
        raise UserError(
            f"{path}: not the description of a model by this version's {program('export')}; "
            "export it again"
        )
    try:
        return _checked(content, Path(path).name.removesuffix(".json"))
    except ValueError as error:
        raise UserError(f"{path}: {error}; export the model again") from None


def _checked(content: dict[str, Any], own_name: str) -> ModelCard:
    names = content.get("class_names")
    try:
        classes = coerce_classes(names if isinstance(names, list) else None)[1:]
    except ValueError as error:
        raise ValueError(f"class_names {error}") from None
    given = content.get("preprocessing")
    values = _Part("preprocessing", given if isinstance(given, dict) else {})
    if content["version"] == ONE_CANVAS:
        canvas = values.number("height", "img_height"), values.number("width", "img_width")
        keep_ratio = values.value("keep_ratio", RULES["keep_ratio"])
        rule = ResizeRule(CANVAS if keep_ratio else STRETCH, (canvas,))
        size = content.get("model_bytes")
        files = [CardFile(own_name, canvas, size if isinstance(size, int) else None)]
    else:
        files = _files(content.get("files"))
        rule = ResizeRule(
            values.choice("resize"),
            tuple(file.canvas for file in files),
            (values.number("min_size", "max_size"),),
            values.number("max_size", "max_size"),
            values.choice("resize_like"),
        )
    read = {key: values.value(key, RULES[key]) for key in _VALUES}
    picture = InputFormat(
        rule,
        read["pixel_mean"],
        read["pixel_std"],
        values.choice("channel_order"),
        read["pad_before_normalize"],
    )
    return ModelCard(classes, picture, tuple(files), content)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a description, whose values are checked when they are taken; errors name them."""

    name: str
    values: Mapping[str, Any]

    def value(self, key: str, rule: Rule) -> Any:
        try:
            return coerce(rule, self.values.get(key))
        except ValueError as error:
            raise ValueError(f"{self.name}.{key} {error}") from None

    def number(self, key: str, like: str) -> int:
        return int(self.value(key, RULES[like]))

    def choice(self, key: str) -> str:
        value = self.values.get(key)
        if value not in _CHOICES[key]:
            raise ValueError(f"{self.name}.{key} is none of {', '.join(_CHOICES[key])}")
        return str(value)


def _files(given: object) -> list[CardFile]:
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_FILES:
        raise ValueError(f"files is not a list of 1 to {_MOST_FILES}")
    files = []
    for number, entry in enumerate(given):
        part = _Part(f"files[{number}]", entry if isinstance(entry, dict) else {})
        name = part.values.get("name")
        if not _is_name(name):
            raise ValueError(f"{part.name}.name is not a file's name without folders")
        canvas = part.number("height", "img_height"), part.number("width", "img_width")
        files.append(CardFile(name, canvas, part.value("bytes", _BYTES)))
    for what in ("name", "canvas"):
        if len({getattr(file, what) for file in files}) != len(files):
            raise ValueError(f"files has a {what} twice")
    return files


def _is_name(name: object) -> TypeGuard[str]:
    """Whether this can be a file beside the description, and nothing elsewhere."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(
            letter in "/\\" or letter < " " or "\ud800" <= letter < "\ue000" for letter in name
        )
        and len(name.encode()) <= _LONGEST_NAME
    )
