# SPDX-License-Identifier: Apache-2.0
"""A fingerprint of everything that decides what graph MindSpore compiles of a Cell.

Weights are not part of it: a compiled graph knows parameters by name, shape and type. Constants
are: they may come from the configuration, from the data (steps of a schedule) or from a program.
"""

import functools
import os
import platform
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore._c_expression import typing as mstypes
from mindspore.ops import Primitive

from ..base.digests import texts_digest
from ..model_utils import local_adapter
from ..model_utils.config import Config

_SOURCES = Path(__file__).resolve().parents[1]
_PACKAGE = __name__.partition(".")[0]  # this project's, under either name
# Where things are, how often something is said or saved, what becomes of pictures before the
# network has them, and the schedule: no part of any graph. A key that is missing here costs a
# compilation, one too many would cost the truth.
_NOT_IN_GRAPHS = frozenset(
    {
        "output_dir",
        "pre_trained",
        "resume",
        "checkpoint_path",
        "result_file",
        "report",
        "max_val_images",
        "test_flip",
        "test_scales",
        "coco_root",
        "image_dir",
        "anno_path",
        "dataset",
        "voc_difficult",
        "voc_corners",
        "mindrecord_dir",
        "num_parallel_workers",
        "convert_timeout",
        "rank_timeout",
        "log_interval",
        "eval_interval",
        "eval_losses",
        "keep_best",
        "best_metric",
        "early_stopping",
        "early_stopping_delta",
        "tensorboard",
        "log_summary",
        "enable_profiling",
        "profiling_steps",
        "callbacks",
        "save_checkpoint_epochs",
        "save_checkpoint_steps",
        "save_checkpoint_minutes",
        "keep_checkpoint_max",
        "run_report",
        "compile_cache",
        "file_name",
        "max_image_pixels",
        "vertical_flip_ratio",
        "crop_ratio",
        "crop_min_iou",
        "scale_jitter",
        "min_visible",
        "augmentations",
        "train_sampler",
        "repeat_threshold",
        "flip_ratio",
        "expand_ratio",
        "photometric",
        # Rates are looked up in a table that is a parameter, samples are drawn with keys that are
        # inputs.
        "seed",
        "base_lr",
        "lr_base_batch",
        "lr_type",
        "warmup_step",
        "warmup_ratio",
        "sgd_step",
        "min_lr_ratio",
        "poly_power",
        "restart_period",
        "restart_factor",
        "epoch_size",
        "steps_per_epoch_limit",
        "train_data_type",
        "val_data_type",
        "skip_empty_images",
        "skip_bad_images",
        "ann_file",
        "result_path",
    }
)
_ENVIRONMENT = ("MS_DEV_", "MS_ENABLE_", "MS_DISABLE_", "ONEDNN_", "GRAPH_OP_RUN")
# In texts that name an object of this process, such as the initialiser in `cell_init_args`.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLAIN = (bool, int, float, str, bytes, type(None))
# Of every Cell: counters, hooks and addresses of this process.
_OF_ALL_CELLS = frozenset(vars(nn.Cell())) - {"training", "requires_grad", "_amp_level"}
_FLAGS = "_func_graph_flags"  # of a Cell; compiling makes an empty set of them
# What compiling leaves in a Cell, a time among it: the next graph of the Cell has the same digest
# whatever was compiled before.
_OF_COMPILED_CELLS = frozenset(
    {"current_phase", "sequence_modified", "__compile_cell_hook__", "__parse_method__"}
)
# An optimizer's list of the rates that its parameter has.
_OF_OPTIMIZERS = frozenset({"init_learning_rate"})
_LEFT_OUT = _OF_ALL_CELLS | _OF_COMPILED_CELLS | _OF_OPTIMIZERS


def graph_digest(config: Config, cell: nn.Cell, inputs: Iterable[Tensor]) -> str:
    """Return the fingerprint of the graph that calling `cell` with `inputs` compiles.

    Args:
        config: the configuration that the cell was built from.
        cell: in the mode (training or evaluation) that it will be called in.
        inputs: only their shapes and types count.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: a source file cannot be read.
    """
    return texts_digest(_parts(config, cell, inputs))


def _parts(config: Config, cell: nn.Cell, inputs: Iterable[Tensor]) -> Iterator[str | bytes]:
    yield f"{ms.__version__} {sys.version} {platform.machine()} {np.__version__}"
    # Each process has the gradients' exchange in its graph.
    yield f"rank {local_adapter.get_rank()} of {local_adapter.get_world_size()}"
    for key, value in sorted(os.environ.items()):
        if key.startswith(_ENVIRONMENT):
            yield f"{key}={value}"
    for key, value in sorted(config.to_dict().items()):
        if key not in _NOT_IN_GRAPHS:
            yield f"{key}: {value!r}"
    yield from _source_files()
    for tensor in inputs:
        yield f"input {tensor.shape} {tensor.dtype}"
    for parameter in cell.get_parameters():
        yield _described(parameter)
    for name, part in cell.cells_and_names():
        yield f"cell {name} {type(part).__module__}.{type(part).__qualname__}"
        for key, value in sorted(vars(part).items()):
            if key in _LEFT_OUT or (key == _FLAGS and not value):
                continue
            yield key
            yield from _value(value)
        for key in ("_primitives", "_buffers"):
            yield from _value(getattr(part, key, None))


def _source_files() -> Iterator[str | bytes]:
    """Names and content of all that `src` consists of, C++ included, and of the program itself."""
    paths = sorted(p for p in _SOURCES.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    main = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    for path in (*paths, *([main] if main and main.is_file() else [])):
        yield str(path)
        yield path.read_bytes()


def _value(value: object, depth: int = 0) -> Iterator[str | bytes]:
    """What of a cell's attribute can get into a graph; kinds of things that cannot, by type."""
    if isinstance(value, _PLAIN):
        yield _ADDRESS.sub("", repr(value))
    elif isinstance(value, Parameter):
        yield _described(value)
    elif isinstance(value, Tensor):
        yield f"{value.shape} {value.dtype}"
        yield value.asnumpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.shape} {value.dtype}"
        yield value.tobytes()
    elif isinstance(value, nn.Cell) or depth > 4:
        yield type(value).__qualname__  # cells are visited by themselves
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _value(value[key], depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _value(item, depth + 1)
        yield f"{len(value)} items"
    elif isinstance(value, functools.partial):
        yield from _value((value.func, value.args, value.keywords), depth + 1)
    elif isinstance(value, set | frozenset):
        yield from _value(sorted(value, key=repr), depth + 1)
    elif isinstance(value, np.generic | np.dtype | range | slice | mstypes.Type):
        yield repr(value)
    else:
        yield f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        if isinstance(value, Primitive):
            yield f"{value.name}"
            yield from _value(value.attrs, depth + 1)
        elif isinstance(value, types.FunctionType) and not _is_mindspores(value):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield from _value((value.__defaults__, value.__kwdefaults__, cells), depth + 1)
        elif type(value).__module__.startswith(f"{_PACKAGE}.") and hasattr(value, "__dict__"):
            yield from _value(vars(value), depth + 1)


def _is_mindspores(function: types.FunctionType) -> bool:
    """Say whether a function is MindSpore's: their closures hold times and counters."""
    return str(function.__module__).partition(".")[0] == "mindspore"


def _described(parameter: Parameter) -> str:
    return (
        f"parameter {parameter.name} {parameter.shape} {parameter.dtype} {parameter.requires_grad}"
    )
