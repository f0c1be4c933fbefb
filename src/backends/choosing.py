# SPDX-License-Identifier: Apache-2.0
"""What runs the file that `checkpoint_path` names. Without MindSpore."""

import os

from ..base.errors import UserError
from ..base.program import program
from ..model_utils.config import Config
from ..model_utils.device_adapter import choose_device, prepare_environment, say_once
from ..runtimes.opening import MINDIR, ONNX, runtime_name
from ..runtimes.session import AUTO, FP32, MINDSPORE, RuntimeChoice

# Endings of exported files and of their descriptions -> the format.
_FORMATS = {".onnx": ONNX, ".mindir": MINDIR}


def exported_format(path: str | os.PathLike[str]) -> str:
    """Return the format of an exported model by its name; "" of everything else.

    Args:
        path: a model, or its description; need not exist.
    """
    name = os.fspath(path).lower().removesuffix(".json")
    return _FORMATS.get(os.path.splitext(name)[1], "")


def runtime_choice(config: Config) -> RuntimeChoice:
    """Return how the user wants a model to be run.

    Args:
        config: uses runtime, runtime_precision and runtime_threads.
    """
    return RuntimeChoice(config.runtime, config.runtime_precision, config.runtime_threads)


def runs_in_mindspore(config: Config) -> bool:
    """Say whether MindSpore runs what `checkpoint_path` names.

    Args:
        config: uses checkpoint_path and runtime.

    Raises:
        UserError: the runtime that the user wants cannot run such a file, or is not installed.
    """
    path = config.checkpoint_path
    file_format = exported_format(path)
    if file_format:
        return runtime_name(path, file_format, runtime_choice(config)) == MINDSPORE
    if config.runtime not in (AUTO, MINDSPORE):
        raise UserError(
            f"runtime {config.runtime}: {path} is a checkpoint, which {MINDSPORE} runs; export it "
            f"({program('export')} --file_format {ONNX}) and give the file, or leave runtime out"
        )
    if config.runtime_precision not in (AUTO, FP32):
        raise UserError(
            f"runtime_precision {config.runtime_precision}: is for exported models; give "
            "compute_type with a checkpoint"
        )
    return True


def choose_runtime(config: Config) -> Config:
    """Return the configuration with the device on which its detector runs.

    As `choose_device`, but for files that other libraries run: those are on the CPU, and MindSpore
    is not asked.

    Args:
        config: uses checkpoint_path, runtime and device_target.

    Raises:
        UserError: as `runs_in_mindspore`.
    """
    if runs_in_mindspore(config):
        return choose_device(config)
    if config.is_given("device_target") and config.device_target != "CPU":
        say_once(f"device_target {config.device_target}: {config.checkpoint_path} runs on the CPU")
    config = config.adopt({"device_target": "CPU"}, f"the file {config.checkpoint_path}")
    prepare_environment("CPU")
    return config
