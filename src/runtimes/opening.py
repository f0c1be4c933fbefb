# SPDX-License-Identifier: Apache-2.0
"""Which library runs which file. Nothing is imported before it is needed."""

import importlib.util
from pathlib import Path

from ..base.errors import UserError
from ..base.program import install_command, program
from .session import AUTO, FP32, MINDSPORE, ONNXRUNTIME, OPENVINO, RuntimeChoice, Session

ONNX, MINDIR = "ONNX", "MINDIR"
# Libraries of each format; of several the first one that is installed.
RUNTIMES = {MINDIR: (MINDSPORE,), ONNX: (ONNXRUNTIME, OPENVINO)}
_EXTRAS = {ONNXRUNTIME: "onnx", OPENVINO: "openvino"}


def runtime_name(path: str | Path, file_format: str, choice: RuntimeChoice) -> str:
    """Decide which library runs a file.

    Args:
        path: of the file, for errors.
        file_format: `ONNX` or `MINDIR`.
        choice: of the user.

    Raises:
        UserError: it cannot, or is not installed.
    """
    possible = RUNTIMES.get(file_format)
    if possible is None:
        raise UserError(f"{path}: models of file_format {file_format} cannot be opened here")
    if choice.name not in (AUTO, *possible):
        raise UserError(
            f"runtime {choice.name}: {path} is {file_format}, which {' and '.join(possible)} run; "
            f"leave runtime out, or export another format with {program('export')}"
        )
    wanted = possible if choice.name == AUTO else (choice.name,)
    there = [name for name in wanted if _is_installed(name)]
    if not there:
        ways = " or ".join(install_command(_EXTRAS[name]) for name in wanted)
        raise UserError(f"{path}: needs {' or '.join(wanted)}, not installed here: {ways}")
    if choice.precision not in (AUTO, FP32) and there[0] != OPENVINO:
        raise UserError(
            f"runtime_precision {choice.precision}: {there[0]} computes as the file says; leave it "
            f"out, or give --runtime {OPENVINO} with an ONNX file"
        )
    return there[0]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that somebody has put in its place
        return False


def open_session(path: Path, file_format: str, choice: RuntimeChoice) -> Session:
    """Load a model file.

    Args:
        path: the file.
        file_format: `ONNX` or `MINDIR`.
        choice: of the user.

    Raises:
        UserError: it cannot be loaded, or no library is there for it.
    """
    name = runtime_name(path, file_format, choice)
    if name == ONNXRUNTIME:
        from .onnx_runtime import OnnxRuntimeSession

        return OnnxRuntimeSession(path, choice.threads)
    if name == OPENVINO:
        from .openvino_runtime import OpenVinoSession

        return OpenVinoSession(path, choice.precision, choice.threads)
    from .mindspore_runtime import MindIrSession

    return MindIrSession(path)
