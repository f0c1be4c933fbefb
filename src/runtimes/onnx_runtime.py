# SPDX-License-Identifier: Apache-2.0
"""ONNX files in ONNX Runtime, on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.messages import one_line
from ..base.program import install_command
from .onnx_file import check_onnx_file
from .session import Outputs, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """A `Session` of an ONNX file.

    Args:
        path: the file.
        threads: 0 leaves the choice to the library.

    Raises:
        UserError: ONNX Runtime is not installed, cannot load the file, or there is too little
            memory.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(
                f"{path}: needs the package onnxruntime, which is not installed: "
                f"{install_command('onnx')}"
            ) from None
        check_onnx_file(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library has a class of its own for every reason
            raise UserError(
                one_line(f"{path}: onnxruntime cannot load it ({str(error)[:500]})")
            ) from error
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self.inputs = [_spec(tensor) for tensor in self._session.get_inputs()]
        self.outputs = [_spec(tensor) for tensor in self._session.get_outputs()]
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, *arrays: np.ndarray) -> Outputs:
        """See `Session.run`."""
        given = dict(zip(self._input_names, arrays, strict=True))
        outputs: list[np.ndarray] = self._session.run(self._output_names, given)
        return outputs


def _spec(tensor: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in tensor.shape)
    return TensorSpec(tensor.name, _DTYPES.get(tensor.type, ""), shape)
