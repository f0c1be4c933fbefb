# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and read back strictly.

A checkpoint is an ordinary MindSpore file with a checksum. Beside the parameters it holds one text
entry, `META_KEY`, which `meta` describes.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from ..base.errors import UserError
from ..base.files import replacing
from ..base.foreign_files import require_regular
from ..base.program import command
from ..model_utils.config import Config
from ..model_utils.configuration.derived import resolved
from ..model_utils.configuration.weights import MODEL_KEYS
from .families import FOREIGN_SUFFIXES
from .meta import META_KEY, dump_meta, parse_meta
from .records import read_entries

# Before the names of weights in training, where the weights themselves are the average of these.
IN_TRAINING = "in_training"
# Optimizer state and counters that other training scripts leave in their files.
STATE_NAMES = re.compile(
    rf"(moments|accum|stat|moment1|moment2|{IN_TRAINING})\.|"
    r"(learning_rate(_group_\d+)?|momentum|global_step|update_count|epoch_num|step_num|loss_scale|scale_sense|"
    r"current_iterator_step|last_overflow_iterator_step|beta1_power|beta2_power)$"
)
_SETTING_NAMES = re.compile(r"learning_rate(_group_\d+)?|momentum")
_BACKBONE_ONLY = re.compile(r"(conv1|bn1|layer[1-4])\.")


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: where it was read.
        arrays: name -> array; half-precision floats as float32.
        meta: what `parse_meta` made of the entry `META_KEY`; empty for files of other programs.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def describe_model(config: Config) -> dict[str, Any]:
    """Return what a checkpoint must say about the model it belongs to.

    Args:
        config: its `MODEL_KEYS`, derived values and class names are taken.
    """
    described = {key: resolved(config, key) for key in MODEL_KEYS}
    described["class_names"] = config.class_names
    return {k: list(v) if isinstance(v, tuple) else v for k, v in described.items()}


def save_checkpoint(
    path: str | Path,
    network: nn.Cell,
    optimizer: nn.Optimizer | None = None,
    meta: Mapping[str, Any] | None = None,
    averages: Mapping[str, ms.Parameter] | None = None,
) -> None:
    """Write the parameters of `network` (and the state of `optimizer`) with `meta`, atomically.

    An average takes the place of its parameter, so that whatever reads the file uses it; beside an
    optimizer's state the parameter itself is there too, as `IN_TRAINING`.

    Args:
        path: ends in .ckpt; its folder is made when missing.
        network: its parameters are written.
        optimizer: its state is written too, if given.
        meta: plain JSON values.
        averages: of parameters, by their names.

    Raises:
        UserError: when the file cannot be written.
    """
    averages = averages or {}
    trained = list(network.get_parameters())
    entries = {p.name: averages.get(p.name, p) for p in trained}
    if optimizer is not None:
        entries |= {f"{IN_TRAINING}.{p.name}": p for p in trained if p.name in averages}
        entries |= {p.name: p for p in optimizer_state(optimizer)}
    _write(path, entries, meta, "output_dir")


def save_parameters(
    path: str | Path,
    parameters: Sequence[ms.Parameter],
    meta: Mapping[str, Any] | None = None,
    *,
    key: str = "output_dir",
) -> None:
    """Write named parameters with `meta`, atomically.

    Args:
        path: ends in .ckpt; its folder is made when missing.
        parameters: their names are unique.
        meta: plain JSON values.
        key: the setting that named the file, for errors.
    """
    _write(path, {p.name: p for p in parameters}, meta, key)


def _write(
    path: str | Path, entries: Mapping[str, ms.Parameter], meta: Mapping[str, Any] | None, key: str
) -> None:
    """Write parameters under names that need not be theirs; see `save_parameters`."""
    path = Path(path)
    named = [{"name": name, "data": parameter} for name, parameter in entries.items()]
    try:
        with replacing(path) as temporary, _quiet():
            append = {META_KEY: dump_meta(meta or {})}
            ms.save_checkpoint(named, str(temporary), append_dict=append, crc_check=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: cannot write the checkpoint ({error}); free some space or "
            f"choose another {key}"
        ) from error


def require_file(path: str | Path, key: str) -> Path:
    """Check, without reading it, that a setting names something that can be a checkpoint.

    Args:
        path: what the setting says.
        key: the setting's name, for errors.

    Raises:
        DamagedFileError: the file is empty.
        UserError: there is no such file, or it is of another kind.
    """
    path = Path(path)
    require_regular(path, key, "checkpoint (.ckpt)")
    if path.suffix in FOREIGN_SUFFIXES:
        raise UserError(
            f"{path}: not a MindSpore checkpoint; make one of it with "
            f"`{command('convert')} --ckpt_file {path}` and set {key} to that"
        )
    if not path.name.endswith("ckpt"):
        raise UserError(f"{path}: not a .ckpt file; set {key} to a MindSpore checkpoint")
    return path


def read_checkpoint(path: str | Path, key: str = "checkpoint_path") -> Checkpoint:
    """Read a whole checkpoint file.

    Args:
        path: a .ckpt file.
        key: the setting that named the file, for errors.

    Raises:
        DamagedFileError: it is no checkpoint, or a damaged one.
        UserError: there is no such file, it cannot be read here, or a later version wrote it.
    """
    path = require_file(path, key)
    arrays, texts = read_entries(path, key, texts=(META_KEY,))
    return Checkpoint(path, arrays, parse_meta(texts.get(META_KEY), path))


def canonical_name(name: str) -> str:
    """Return the one name of a parameter that has had several.

    >>> canonical_name("layer1.0.down_sample_layer.0.weight")
    'backbone.layer1.0.conv_down_sample.weight'

    Args:
        name: as any version of this project or the model zoo wrote it.
    """
    name = name.replace("fpn_ncek.", "fpn_neck.")
    name = re.sub(r"\.(?:down_sample_layer|down_sample)\.0\.", ".conv_down_sample.", name)
    name = re.sub(r"\.(?:down_sample_layer|down_sample)\.1\.", ".bn_down_sample.", name)
    name = re.sub(r"\.bn([12])d\.", r".bn\1.", name)  # of the model zoo's ResNet-18 and 34
    return f"backbone.{name}" if _BACKBONE_ONLY.match(name) else name


def optimizer_state(optimizer: nn.Optimizer) -> list[ms.Parameter]:
    """Return the optimizer's own parameters but the settings, which belong to the configuration.

    Args:
        optimizer: `nn.Momentum`, another of MindSpore's, or our Adam.
    """
    trained = {id(p) for p in optimizer.parameters}
    return [
        p
        for p in optimizer.get_parameters()
        if id(p) not in trained and not _SETTING_NAMES.fullmatch(p.name)
    ]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MindSpore from logging what is raised as an error of ours anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
