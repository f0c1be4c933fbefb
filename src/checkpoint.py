# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and read back strictly.

A checkpoint is an ordinary MindSpore file. Beside the parameters it holds one string entry,
`META_KEY`: a JSON object that says which model the weights belong to and, for training checkpoints,
where the run stood.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.checkpoint_families import FOREIGN_SUFFIXES
from src.errors import UserError

META_KEY = "faster_rcnn_meta"
PREFIX = "faster_rcnn"
TEMPORARY_PREFIX = ".saving-"

_NAME = re.compile(rf"{PREFIX}-(\d+)_(\d+)\.ckpt")
# Optimizer state and counters that other training scripts leave in their files.
STATE_NAMES = re.compile(
    r"(moments|accum|stat|moment1|moment2)\.|"
    r"(learning_rate|momentum|global_step|epoch_num|step_num|loss_scale|scale_sense|"
    r"current_iterator_step|last_overflow_iterator_step|beta1_power|beta2_power)$"
)
_BACKBONE_ONLY = re.compile(r"(conv1|bn1|layer[1-4])\.")
# What weights cannot be used without, and what makes them worse when it differs.
_STRICT_KEYS = ("backbone", "norm", "box_convention")
_INPUT_KEYS = (
    "img_width",
    "img_height",
    "keep_ratio",
    "pixel_mean",
    "pixel_std",
    "channel_order",
    "pad_before_normalize",
    "anchor_scales",
    "anchor_ratios",
    "anchor_strides",
    "anchor_rounding",
    "rpn_target_means",
    "rpn_target_stds",
    "rcnn_target_means",
    "rcnn_target_stds",
    "roi_layer",
    "roi_align_aligned",
    "roi_align_finest_scale",
    "stem_pool",
    "bn_eps",
    "clip_to_canvas",
    "fpn_out_channels",
    "rpn_feat_channels",
    "rcnn_fc_out_channels",
    "unused_outputs",
)
MODEL_KEYS = (*_STRICT_KEYS, *_INPUT_KEYS)  # the configuration keys that a checkpoint carries


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: where it was read.
        arrays: name -> array; half-precision floats as float32.
        meta: the object under `META_KEY`; empty for files of other programs.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def describe_model(config: Any) -> dict[str, Any]:
    """Return what a checkpoint must say about the model it belongs to."""
    described = {k: getattr(config, k) for k in MODEL_KEYS}
    described["class_names"] = config.class_names
    return {k: list(v) if isinstance(v, tuple) else v for k, v in described.items()}


def checkpoint_name(epoch: int, step: int) -> str:
    """Return the file name of the checkpoint after `step` steps of epoch `epoch` (both from 1)."""
    return f"{PREFIX}-{epoch}_{step}.ckpt"


def checkpoint_position(name: str) -> tuple[int, int] | None:
    """Return (epoch, step) of a checkpoint's file name, None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def save_checkpoint(
    path: str | Path,
    network: nn.Cell,
    optimizer: nn.Optimizer | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write the parameters of `network` (and the state of `optimizer`) with `meta`, atomically.

    Args:
        path: ends in .ckpt; its folder exists.
        meta: plain JSON values.

    Raises:
        UserError: when the file cannot be written.
    """
    parameters = list(network.get_parameters())
    if optimizer is not None:
        parameters += _optimizer_state(optimizer)
    save_parameters(path, parameters, meta)


def save_parameters(
    path: str | Path,
    parameters: Sequence[ms.Parameter],
    meta: Mapping[str, Any] | None = None,
    *,
    key: str = "output_dir",
) -> None:
    """Write named parameters with `meta`, atomically; `key` named the file, for errors."""
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    entries = [{"name": p.name, "data": p} for p in parameters]
    try:
        with _quiet():
            append = {META_KEY: json.dumps(meta or {})}
            ms.save_checkpoint(entries, str(temporary), append_dict=append)
        os.chmod(temporary, 0o644)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # a power cut must not lose what a name points at
        os.replace(temporary, path)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: cannot write the checkpoint ({error}); free some space or "
            f"choose another {key}"
        ) from error


def remove_leftovers(folder: str | Path) -> int:
    """Delete the half-written files that a killed run left in `folder`; return how many."""
    leftovers = list(Path(folder).glob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        with contextlib.suppress(OSError):
            leftover.unlink()
    return len(leftovers)


def require_file(path: str | Path, key: str) -> Path:
    """Check, without reading it, that a setting names something that can be a checkpoint.

    Raises:
        UserError: when it does not.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{path}: {reason}; set {key} to a checkpoint (.ckpt)") from None
    if path.is_dir():
        raise UserError(f"{path}: a folder; set {key} to a checkpoint file (.ckpt) in it")
    if path.suffix in FOREIGN_SUFFIXES:
        raise UserError(
            f"{path}: not a MindSpore checkpoint; make one of it with "
            f"`python convert_checkpoint.py --ckpt_file {path}` and set {key} to that"
        )
    if not path.name.endswith("ckpt"):
        raise UserError(f"{path}: not a .ckpt file; set {key} to a MindSpore checkpoint")
    if size == 0:
        raise UserError(f"{path}: an empty file; set {key} to another checkpoint")
    return path


def read_checkpoint(path: str | Path, key: str = "checkpoint_path") -> Checkpoint:
    """Read a whole checkpoint file.

    Args:
        key: the setting that named the file, for errors.

    Raises:
        UserError: when there is no such file, or it is no checkpoint or a damaged one.
    """
    path = require_file(path, key)
    try:
        with _quiet():
            loaded = ms.load_checkpoint(str(path))
    except Exception as error:  # whatever a file of other bytes provokes
        raise UserError(
            f"{path}: not a MindSpore checkpoint, or a damaged one (it could not be read to its "
            f"end); set {key} to another checkpoint"
        ) from error
    arrays, meta = {}, {}
    for name, value in loaded.items():
        if isinstance(value, str):
            if name == META_KEY:
                with contextlib.suppress(ValueError):
                    meta = json.loads(value)
                meta = meta if isinstance(meta, dict) else {}
            continue
        array = value.asnumpy()
        if value.dtype in (ms.float16, ms.bfloat16):
            array = array.astype(np.float32)  # no operator: that would start the device
        arrays[name] = array
    return Checkpoint(path, arrays, meta)


def check_model(
    checkpoint: Checkpoint, expected: Mapping[str, Any], *, same_heads: bool
) -> list[str]:
    """Compare what a checkpoint says of its model with the configured one.

    Args:
        expected: `describe_model` of the configuration.
        same_heads: whether the classes have to agree (evaluation, resume), or the heads may start
            fresh.

    Returns:
        Notes on differences that do not forbid the use.

    Raises:
        UserError: when the weights would mean something else under this configuration.
    """
    meta, notes = checkpoint.meta, []
    for key in _STRICT_KEYS:
        batch_norms = key == "norm" and {meta.get(key), expected.get(key)} == {"bn", "frozen_bn"}
        if key in meta and key in expected and meta[key] != expected[key] and not batch_norms:
            raise UserError(
                f"{checkpoint.path}: trained with {key} {meta[key]}, but {key} is {expected[key]}; "
                f"set {key} to {meta[key]} or choose another checkpoint"
            )
    old, new = meta.get("class_names"), expected.get("class_names")
    if old and new and old != new:
        moved = [name for name in new if name in old and old.index(name) != new.index(name)]
        if same_heads and (len(old) != len(new) or moved):
            raise UserError(
                f"{checkpoint.path}: trained on {len(old)} classes ({short_list(old)}), but "
                f"coco_classes gives {len(new)} ({short_list(new)}); set coco_classes to the "
                "checkpoint's, in its order"
            )
        notes.append(f"trained on the classes {short_list(old)}, used here for {short_list(new)}")
    for key in _INPUT_KEYS:
        if key in meta and key in expected and meta[key] != expected[key]:
            notes.append(f"trained with {key} {meta[key]}, used here with {expected[key]}")
    return notes


def load_detector(
    network: nn.Cell,
    checkpoint: Checkpoint | str | Path,
    expected: Mapping[str, Any] | None = None,
    *,
    key: str = "checkpoint_path",
) -> tuple[dict[str, Any], list[str]]:
    """Load a whole detector: every parameter of `network` comes from the file.

    Args:
        checkpoint: a file, or what `read_checkpoint` made of one.
        expected: `describe_model` of the configuration, checked when given.
        key: the setting that named the file, for errors.

    Returns:
        (the file's meta, notes for the user).

    Raises:
        UserError: for an unreadable file, or one that holds another network.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint, key)
    notes = check_model(checkpoint, expected or {}, same_heads=True)
    _assign_all(network, checkpoint, key)
    return checkpoint.meta, notes


def load_training_state(
    network: nn.Cell,
    optimizer: nn.Optimizer,
    path: str | Path,
    expected: Mapping[str, Any],
    contract: Mapping[str, Any],
    *,
    key: str = "resume",
) -> dict[str, Any]:
    """Load everything a training checkpoint holds; return its meta.

    Args:
        expected: `describe_model` of the configuration.
        contract: what else has to be as it was, by the meta's keys, for the run's steps to mean the
            same.

    Raises:
        UserError: for an unreadable file, another model or contract, or a file without optimizer
        state.
    """
    checkpoint = read_checkpoint(path, key)
    if "global_step" not in checkpoint.meta:
        raise UserError(
            f"{checkpoint.path}: holds no state of a training run; set {key} to a "
            f"{PREFIX}-*.ckpt of the run, or start from these weights with pre_trained"
        )
    if not any(STATE_NAMES.match(name) for name in checkpoint.arrays):
        raise UserError(
            f"{checkpoint.path}: holds weights but no optimizer state, as best.ckpt does; set "
            f"{key} to a {PREFIX}-*.ckpt, or start from these weights with pre_trained"
        )
    check_model(checkpoint, expected, same_heads=True)
    for name, value in contract.items():
        if checkpoint.meta.get(name, value) != value:
            raise UserError(
                f"{checkpoint.path}: its run had {name} {checkpoint.meta[name]}, this one has "
                f"{value}; resume with the same data and settings, or start anew with pre_trained"
            )
    _assign_all(network, checkpoint, key)
    for parameter in _optimizer_state(optimizer):
        array = checkpoint.arrays.get(parameter.name)
        if array is None or array.shape != tuple(parameter.shape):
            raise UserError(
                f"{checkpoint.path}: no optimizer state for {parameter.name}; resume with the "
                "run's own norm and frozen_stages, or start from these weights with pre_trained"
            )
        set_parameter(parameter, array)
    return checkpoint.meta


def find_latest(folder: str | Path) -> Path | None:
    """Return the checkpoint in `folder` with the highest epoch and step, None without any."""
    found = [
        (position, path)
        for path in Path(folder).glob(f"{PREFIX}-*.ckpt")
        if (position := checkpoint_position(path.name))
    ]
    return max(found)[1] if found else None


def canonical_name(name: str) -> str:
    """Return the one name of a parameter that has had several.

    >>> canonical_name("layer1.0.down_sample_layer.0.weight")
    'backbone.layer1.0.conv_down_sample.weight'
    """
    name = name.replace("fpn_ncek.", "fpn_neck.")
    name = re.sub(r"\.(?:down_sample_layer|down_sample)\.0\.", ".conv_down_sample.", name)
    name = re.sub(r"\.(?:down_sample_layer|down_sample)\.1\.", ".bn_down_sample.", name)
    return f"backbone.{name}" if _BACKBONE_ONLY.match(name) else name


def _assign_all(network: nn.Cell, checkpoint: Checkpoint, key: str) -> None:
    """Set every parameter of the network from the file, or raise and set none."""
    weights = {n: a for n, a in checkpoint.arrays.items() if not STATE_NAMES.match(n)}
    stored = {canonical_name(name): array for name, array in weights.items()}
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


def set_parameter(parameter: ms.Parameter, array: np.ndarray) -> None:
    """Set the value of a parameter, keeping its dtype."""
    parameter.set_data(Tensor(array, parameter.dtype))


def _optimizer_state(optimizer: nn.Optimizer) -> list[ms.Parameter]:
    """Return the optimizer's own parameters but the settings, which belong to the configuration."""
    trained = {id(p) for p in optimizer.parameters}
    return [
        p
        for p in optimizer.get_parameters()
        if id(p) not in trained and p.name not in ("learning_rate", "momentum")
    ]


@contextlib.contextmanager
def _quiet():
    """Keep MindSpore from logging what is raised as an error of ours anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def short_list(names: Sequence[str]) -> str:
    """Return the first few names as one text."""
    return ", ".join(map(str, names[:4])) + (", ..." if len(names) > 4 else "")
