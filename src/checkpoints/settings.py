# SPDX-License-Identifier: Apache-2.0
"""The settings that a checkpoint's numbers belong to, put into the configuration.

A detector gives its numbers only with the pixel statistics, coordinate convention, thresholds, ...
that it was made for. Checkpoints of this project carry them; a published file of the model zoo is
known by its parameters' names.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.messages import counted, one_line, short_list
from ..FasterRcnn.names import CANVAS, TORCH_STYLE
from ..images.geometry import SHORT_EDGE, ResizeRule
from ..model_utils.config import Config
from ..model_utils.configuration.derived import as_auto
from ..model_utils.configuration.weights import MODEL_KEYS, WEIGHT_KEYS
from .backbones import backbone_named, form_of_shapes
from .families import MODEL_ZOO, family_settings
from .file import STATE_NAMES, Checkpoint, canonical_name, read_checkpoint
from .meta import SETTINGS_KEY

_DETECTOR_PARTS = {"backbone", "fpn_neck", "rpn_with_loss", "rcnn"}
_ZOO_SOURCE = "the model zoo's"
# What a canvas of the user's own (`_CANVAS_KEYS`, and nothing of the rest) replaces.
_CANVAS_KEYS = ("img_width", "img_height")
_RULE_KEYS = ("resize", "min_size", "max_size", "resize_like", "canvases")
_SLACK = 500_000_000  # bytes: a backbone's checkpoint lacks the heads
_MOST_ANCHORS = 8_000_000  # 32 times those of 1280 x 768


def stored_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return {configuration key: value} that belongs to the weights; empty when nothing is known.

    Only keys of `WEIGHT_KEYS` are in it, whatever else the file says.

    Args:
        checkpoint: of `open_checkpoint`.
    """
    meta = checkpoint.meta
    described = {key: meta[key] for key in MODEL_KEYS if key in meta}
    if "class_names" in meta:
        described["coco_classes"] = meta["class_names"]
    settings = meta.get(SETTINGS_KEY, {})
    return {**described, **{key: settings[key] for key in WEIGHT_KEYS if key in settings}}


def open_checkpoint(path: str | Path, key: str = "checkpoint_path") -> Checkpoint:
    """Read a checkpoint of this project, or one that the model zoo published.

    Args:
        path: the file.
        key: the setting that named it, for errors.

    Returns:
        What the file holds, with a meta where one can be known.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return with_known_meta(read_checkpoint(path, key))


def with_known_meta(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with a meta also where it is the model zoo's, which says nothing.

    Files of this project from before there was the key `padding` get what they were made with.

    Args:
        checkpoint: of `read_checkpoint`.
    """
    if "box_convention" in checkpoint.meta and "padding" not in checkpoint.meta:
        return replace(checkpoint, meta={**checkpoint.meta, "padding": CANVAS})
    settings = {} if checkpoint.meta else _model_zoo_settings(checkpoint)
    if not settings:
        return checkpoint
    described = {key: settings[key] for key in MODEL_KEYS if key in settings}
    meta = {**described, "source": _ZOO_SOURCE, SETTINGS_KEY: settings}
    return replace(checkpoint, meta=meta)


def adopt_settings(config: Config, checkpoint: Checkpoint) -> tuple[Config, list[str]]:
    """Let the defaults of `config` give way to what belongs to the checkpoint's weights.

    What the user has set, in a file or on the command line, stays: `check_model` then refuses it or
    says that it differs.

    Args:
        config: of the user.
        checkpoint: of `open_checkpoint`.

    Returns:
        The configuration to use, and lines for the user that say what was changed or assumed.

    Raises:
        UserError: a stored value cannot be, or contradicts one that the user has set.
    """
    stored = as_auto(stored_settings(checkpoint))
    current = config.to_dict()
    replaced = _replaced_by_canvas(config, stored)
    stored = {key: value for key, value in stored.items() if key not in replaced}
    open_keys = [key for key in current if key in stored and not config.is_given(key)]
    try:
        adopted = config.replace(**{key: stored[key] for key in open_keys})
    except UserError as error:
        raise UserError(
            f"{checkpoint.path}: the settings stored in it: {error}; take another checkpoint"
        ) from None
    _check_sizes(adopted, checkpoint)
    values = adopted.to_dict()
    changed = [key for key, value in values.items() if value != current[key]]
    source = checkpoint.meta.get("source")
    kind = f" ({one_line(source)})" if source else ""
    lines = []
    if changed:
        text = ", ".join(f"{key} {_short(key, values[key])}" for key in changed)
        lines.append(f"settings of the checkpoint{kind}: {text}")
    if replaced:
        lines.append(
            f"note: pictures go into img_width {adopted.img_width} x img_height "
            f"{adopted.img_height}, not by the checkpoint's {', '.join(replaced)}; leave these two "
            "away for its published numbers"
        )
    ignored = [key for key in checkpoint.meta.get(SETTINGS_KEY, {}) if key not in WEIGHT_KEYS]
    if ignored:
        lines.append(
            f"note: the checkpoint also sets {short_list(ignored)}, which "
            "does not belong to weights and is ignored"
        )
    guessed = source == _ZOO_SOURCE and "backbone" not in stored
    if guessed and not config.is_given("backbone"):
        lines.append(
            f"assumed: backbone {config.backbone}; the file of a resnet_v1_50 looks the same, give "
            "--backbone resnet_v1_50 if it is one"
        )
    return adopted, lines


def _replaced_by_canvas(config: Config, stored: dict[str, Any]) -> list[str]:
    """Return the stored keys that do not count, since the user has given a canvas and no rule."""
    if not any(map(config.is_given, _CANVAS_KEYS)) or any(map(config.is_given, _RULE_KEYS)):
        return []
    if stored.get("resize") == SHORT_EDGE:
        return [key for key in _RULE_KEYS if key in stored]
    return [key for key in ("canvases",) if stored.get(key)]


def _check_sizes(config: Config, checkpoint: Checkpoint) -> None:
    """Refuse settings whose network would be far larger than the file, before it is built.

    Raises:
        UserError: they are the file's, or the user's for another file.
    """
    fpn, hidden, width = (
        config.fpn_out_channels,
        config.rpn_feat_channels,
        config.rcnn_fc_out_channels,
    )
    cells = config.roi_layer["out_size"] ** 2
    head = config.rcnn_head
    outputs = 5 * config.num_classes + config.unused_outputs
    weights = 4 * (
        (4 + head["convs"]) * 9 * fpn**2
        + 9 * hidden * (fpn + (config.rpn_conv_depth - 1) * hidden)
        + 5 * config.num_anchors * hidden
        + fpn * cells * width
        + (head["dense"] - 1) * width**2
        + outputs * width
    )
    held = sum(array.nbytes for array in checkpoint.arrays.values())
    if weights > held + _SLACK:
        raise UserError(
            f"{checkpoint.path}: fpn_out_channels {fpn}, rpn_feat_channels {hidden}, "
            f"rcnn_fc_out_channels {width}, roi_layer and coco_classes make heads of "
            f"{weights / 1e9:.1f} GB, but the file holds {held / 1e9:.1f} GB; take another one"
        )
    if config.num_bboxes > _MOST_ANCHORS:
        height, width = ResizeRule.from_config(config).largest
        raise UserError(
            f"{checkpoint.path}: a canvas {width} wide and {height} high and "
            f"{config.num_anchors} anchors a place make {config.num_bboxes} anchors, more than "
            f"{_MOST_ANCHORS}; set img_width and img_height, or take another checkpoint"
        )


def _model_zoo_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    shapes = {
        canonical_name(name): array.shape
        for name, array in checkpoint.arrays.items()
        if not STATE_NAMES.match(name)
    }
    if not {name.partition(".")[0] for name in shapes} >= _DETECTOR_PARTS:
        return {}
    form = form_of_shapes(shapes.get)
    backbone = backbone_named(form, TORCH_STYLE) if form else None
    settings = family_settings(MODEL_ZOO, backbone or "")
    # ResNet-50 is left to the configuration: the zoo has v1 and v1.5, which look alike.
    if backbone in (None, "resnet_v1.5_50"):
        del settings["backbone"]
    return settings


def _short(key: str, value: Any) -> str:
    """Return the value as text; of class names only how many there are."""
    if key == "coco_classes":
        return f"({counted(len(value) - 1, 'class', 'classes')})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value)
