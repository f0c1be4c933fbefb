# SPDX-License-Identifier: Apache-2.0
"""Checkpoints into networks: every parameter from the file, and only from a file that fits."""

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from ..base.errors import DamagedFileError, UserError
from ..base.messages import short_list
from ..model_utils.configuration.weights import HEAD_KEYS, INPUT_KEYS, MODEL_KEYS, STRICT_KEYS
from ..model_utils.parameters import set_parameter
from .file import IN_TRAINING, STATE_NAMES, Checkpoint, canonical_name, optimizer_state
from .meta import require_run
from .names import PREFIX

# What runs of this project did before there were these keys.
_BEFORE_THE_KEY: dict[str, Any] = {
    "padding": "canvas",
    "resize": "auto",
    "canvases": [],
    "train_sampler": "shuffle",
    "fpn_norm": "none",
    "fpn_upsample": "nearest",
    "rpn_conv_depth": 1,
    "rcnn_head": {"convs": 0, "dense": 2, "norm": "none"},
    "rcnn_class_agnostic": False,
}


def check_model(
    checkpoint: Checkpoint, expected: Mapping[str, Any], *, same_heads: bool
) -> list[str]:
    """Compare what a checkpoint says of its model with the configured one.

    Args:
        checkpoint: what the file holds.
        expected: `describe_model` of the configuration.
        same_heads: whether the classes have to agree (evaluation, resume), or the heads may start
            fresh.

    Returns:
        Notes on differences that do not forbid the use.

    Raises:
        UserError: when the weights would mean something else under this configuration.
    """
    meta, notes = checkpoint.meta, []
    for key in (*STRICT_KEYS, *HEAD_KEYS) if same_heads else STRICT_KEYS:
        batch_norms = key == "norm" and {meta.get(key), expected.get(key)} == {"bn", "frozen_bn"}
        if key in meta and key in expected and meta[key] != expected[key] and not batch_norms:
            raise UserError(
                f"{checkpoint.path}: trained with {key} {meta[key]}, but {key} is {expected[key]}; "
                f"set {key} to {meta[key]} or choose another checkpoint"
            )
    for key in HEAD_KEYS:  # those that do not agree: the heads start fresh
        if key in meta and key in expected and meta[key] != expected[key]:
            notes.append(
                f"trained with {key} {meta[key]}, used here with {expected[key]}; set {key} to the "
                "checkpoint's to keep the weights that belong to it"
            )
    old, new = meta.get("class_names"), expected.get("class_names")
    if old and new and old != new:
        places = {name: place for place, name in enumerate(old)}
        moved = [name for place, name in enumerate(new) if places.get(name, place) != place]
        if same_heads and (len(old) != len(new) or moved):
            raise UserError(
                f"{checkpoint.path}: trained on {len(old)} classes ({short_list(old)}), but "
                f"coco_classes gives {len(new)} ({short_list(new)}); set coco_classes to the "
                "checkpoint's, in its order"
            )
        notes.append(f"trained on the classes {short_list(old)}, used here for {short_list(new)}")
    for key in INPUT_KEYS:
        if key in meta and key in expected and meta[key] != expected[key]:
            notes.append(f"trained with {key} {meta[key]}, used here with {expected[key]}")
    return notes


def load_detector(
    network: nn.Cell,
    checkpoint: Checkpoint,
    expected: Mapping[str, Any],
    *,
    key: str = "checkpoint_path",
) -> list[str]:
    """Load a whole detector: every parameter of `network` comes from the file.

    Args:
        network: gets the values.
        checkpoint: what the file holds.
        expected: `describe_model` of the configuration.
        key: the setting that named the file, for errors.

    Returns:
        Notes for the user.

    Raises:
        UserError: the file holds another network.
    """
    notes = check_model(checkpoint, expected, same_heads=True)
    _assign_all(network, checkpoint, key)
    return notes


def require_training_state(checkpoint: Checkpoint, key: str = "resume") -> None:
    """Check that a run can go on from a checkpoint: it says where the run stood, and has its state.

    Args:
        checkpoint: what the file holds.
        key: the setting that named the file, for errors.

    Raises:
        DamagedFileError: it does not.
    """
    path = checkpoint.path
    if "global_step" not in checkpoint.meta:
        raise DamagedFileError(
            f"{path}: holds no state of a training run; set {key} to a {PREFIX}-*.ckpt of the run, "
            "or start from these weights with pre_trained"
        )
    if not any(STATE_NAMES.match(name) for name in checkpoint.arrays):
        raise DamagedFileError(
            f"{path}: holds weights but no optimizer state, as best.ckpt does; set {key} to a "
            f"{PREFIX}-*.ckpt, or start from these weights with pre_trained"
        )
    require_run(checkpoint.meta, path)


def load_training_state(
    network: nn.Cell,
    optimizer: nn.Optimizer,
    checkpoint: Checkpoint,
    expected: Mapping[str, Any],
    contract: Mapping[str, Any],
    *,
    averages: Mapping[str, ms.Parameter] | None = None,
    key: str = "resume",
) -> None:
    """Load everything a training checkpoint holds.

    Where its run had no averages they begin with its weights; where this run has none, it goes on
    with the weights that were in training.

    Args:
        network: gets the weights.
        optimizer: gets its state.
        checkpoint: one that `require_training_state` lets pass.
        expected: `describe_model` of the configuration.
        contract: what else has to be as it was, by the meta's keys, for the run's steps to mean the
            same.
        averages: of the network's parameters, by their names; get their values.
        key: the setting that named the file, for errors.

    Raises:
        UserError: the file has another model, another contract or another optimizer's state.
    """
    check_model(checkpoint, expected, same_heads=True)
    model = {key: expected[key] for key in MODEL_KEYS if key in expected}
    known = {**_BEFORE_THE_KEY, **checkpoint.meta}
    for name, value in {**contract, **model}.items():
        if known.get(name, value) != value:
            raise UserError(
                f"{checkpoint.path}: its run had {name} {known[name]}, this one has "
                f"{value}; resume with the same data and settings (--config_path takes the "
                "config.yaml of the run's folder), or start anew with pre_trained"
            )
    _assign_all(network, checkpoint, key, in_training=True)
    stored = _weights_in(checkpoint)
    for name, average in (averages or {}).items():
        _set_state(average, stored.get(canonical_name(name)), checkpoint)
    for parameter in optimizer_state(optimizer):
        _set_state(parameter, checkpoint.arrays.get(parameter.name), checkpoint)


def _set_state(parameter: ms.Parameter, array: np.ndarray | None, checkpoint: Checkpoint) -> None:
    """Set a parameter beside the network's from the file.

    Raises:
        UserError: the file has nothing that fits.
    """
    if array is None or array.shape != tuple(parameter.shape):
        raise UserError(
            f"{checkpoint.path}: no optimizer state for {parameter.name}; resume with the run's "
            "own optimizer, norm and frozen_stages, or start from these weights with pre_trained"
        )
    set_parameter(parameter, array)


def _weights_in(checkpoint: Checkpoint, *, in_training: bool = False) -> dict[str, np.ndarray]:
    """The weights of a file by their canonical names; or those that went on to be trained, where
    the weights are an average of them."""
    weights = {n: a for n, a in checkpoint.arrays.items() if not STATE_NAMES.match(n)}
    stored = {canonical_name(name): array for name, array in weights.items()}
    if in_training:
        start = f"{IN_TRAINING}."
        trained = {n: a for n, a in checkpoint.arrays.items() if n.startswith(start)}
        stored |= {canonical_name(n.removeprefix(start)): a for n, a in trained.items()}
    return stored


def _assign_all(
    network: nn.Cell, checkpoint: Checkpoint, key: str, *, in_training: bool = False
) -> None:
    """Set every parameter of the network from the file, or raise and set none."""
    stored = _weights_in(checkpoint, in_training=in_training)
    chosen = []
    for parameter in network.get_parameters():
        name = canonical_name(parameter.name)
        array = stored.pop(name, None)
        if array is None:
            raise UserError(
                f"{checkpoint.path}: has no {parameter.name}, so not a whole detector of this "
                f"configuration; check backbone and norm, or set {key} to another file"
            )
        if array.shape != tuple(parameter.shape):
            cause = "coco_classes or anchors" if "backbone." not in name else "backbone"
            raise UserError(
                f"{checkpoint.path}: {parameter.name} is {array.shape} in the file and "
                f"{tuple(parameter.shape)} here; check {cause}, or set {key} to another file"
            )
        chosen.append((parameter, array))
    surplus = [name for name in stored if name.startswith("backbone.")]
    if surplus:
        raise UserError(
            f"{checkpoint.path}: holds a deeper backbone ({surplus[0]} has no place here); set "
            f"backbone to the checkpoint's, or {key} to another file"
        )
    for parameter, array in chosen:
        set_parameter(parameter, array)
