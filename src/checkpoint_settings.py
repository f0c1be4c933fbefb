# SPDX-License-Identifier: Apache-2.0
"""The settings that a checkpoint's numbers belong to, put into the configuration.

A detector gives its numbers only with the pixel statistics, coordinate convention, thresholds, ...
that it was made for. Checkpoints of this project carry them; a published file of the model zoo is
known by its parameters' names.
"""

import re
from dataclasses import replace
from typing import Any

from src.checkpoint import MODEL_KEYS, STATE_NAMES, Checkpoint, canonical_name
from src.checkpoint_families import MODEL_ZOO, family_settings
from src.errors import UserError
from src.model_utils.config import DEFAULT_ORIGIN, Config

_DETECTOR_PARTS = {"backbone", "fpn_neck", "rpn_with_loss", "rcnn"}
_BLOCK = re.compile(r"backbone\.layer3\.(\d+)\.")
# By the blocks of layer3. ResNet-50 is left to the configuration: v1 and v1.5 look alike.
_DEEPER_BACKBONES = {23: "resnet_v1_101", 36: "resnet_v1_152"}


def stored_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return {configuration key: value} that belongs to the weights; empty when nothing is known.

    Keys that this version does not have are in it too.
    """
    meta = checkpoint.meta
    if not meta:
        return _model_zoo_settings(checkpoint)
    described = {key: meta[key] for key in MODEL_KEYS if key in meta}
    if "class_names" in meta:
        described["coco_classes"] = meta["class_names"]
    settings = meta.get("settings")
    return {**described, **(settings if isinstance(settings, dict) else {})}


def with_known_meta(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with a meta also where it is the model zoo's, which says nothing."""
    return checkpoint if checkpoint.meta else replace(checkpoint, meta=stored_settings(checkpoint))


def adopt_settings(config: Config, checkpoint: Checkpoint) -> tuple[Config, list[str]]:
    """Let the defaults of `config` give way to what belongs to the checkpoint's weights.

    What the user has set, in a file or on the command line, stays: `check_model` then refuses it or
    says that it differs.

    Returns:
        The configuration to use, and lines for the user that say what was changed or assumed.

    Raises:
        UserError: a stored value cannot be, or contradicts one that the user has set.
    """
    stored = stored_settings(checkpoint)
    current = config.to_dict()
    open_keys = [key for key in current if key in stored and config.origin(key) == DEFAULT_ORIGIN]
    try:
        adopted = config.replace(**{key: stored[key] for key in open_keys})
    except UserError as error:
        raise UserError(f"{checkpoint.path}: the settings stored in it: {error}") from None
    values = adopted.to_dict()
    changed = [key for key, value in values.items() if value != current[key]]
    source = checkpoint.meta.get("source") or ("" if checkpoint.meta else "the model zoo's")
    kind = f" ({source})" if source else ""
    lines = []
    if changed:
        text = ", ".join(f"{key} {_short(key, values[key])}" for key in changed)
        lines.append(f"settings of the checkpoint{kind}: {text}")
    guessed = stored and not checkpoint.meta and "backbone" not in stored
    if guessed and config.origin("backbone") == DEFAULT_ORIGIN:
        lines.append(
            f"assumed: backbone {config.backbone}; the file of a resnet_v1_50 looks the same, give "
            "--backbone resnet_v1_50 if it is one"
        )
    return adopted, lines


def _model_zoo_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    names = {canonical_name(name) for name in checkpoint.arrays if not STATE_NAMES.match(name)}
    if not {name.partition(".")[0] for name in names} >= _DETECTOR_PARTS:
        return {}
    blocks = 1 + max((int(m[1]) for m in map(_BLOCK.match, names) if m), default=-1)
    settings = family_settings(MODEL_ZOO, _DEEPER_BACKBONES.get(blocks, ""))
    if not settings["backbone"]:
        del settings["backbone"]
    return settings


def _short(key: str, value: Any) -> str:
    """Return the value as text; of class names only how many there are."""
    if key == "coco_classes":
        return f"({len(value) - 1} classes)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value)
