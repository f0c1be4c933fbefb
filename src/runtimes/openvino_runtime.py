# SPDX-License-Identifier: Apache-2.0
"""ONNX files in OpenVINO, on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.messages import one_line
from ..base.onednn import without_limit
from ..base.program import install_command
from .onnx_file import check_onnx_file
from .session import AUTO, Outputs, TensorSpec

_PRECISIONS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}  # ours -> OpenVINO's


class OpenVinoSession:
    """A `Session` of an ONNX file.

    Args:
        path: the file.
        precision: that convolutions and products are computed in: fp32, bf16 or fp16; auto: what
            OpenVINO takes on this processor, which is bf16 where there are instructions for it.
        threads: 0 leaves the choice to the library.

    Raises:
        UserError: OpenVINO is not installed, cannot load the file, or there is too little memory.
    """

    def __init__(self, path: Path, precision: str, threads: int = 0) -> None:
        try:
            import openvino
        except ImportError:
            raise UserError(
                f"{path}: needs the package openvino, which is not installed: "
                f"{install_command('openvino')}"
            ) from None
        check_onnx_file(path)
        # One picture or batch after the other: all threads work on it.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        if precision != AUTO:
            settings["INFERENCE_PRECISION_HINT"] = _PRECISIONS[precision]
        try:
            with without_limit():
                core = openvino.Core()
                model = core.compile_model(core.read_model(str(path)), "CPU", settings)
            computed = str(model.get_property("INFERENCE_PRECISION_HINT").to_string())
        except Exception as error:  # of parsing, of operators, of memory
            raise UserError(
                one_line(f"{path}: OpenVINO cannot load it ({str(error)[:500]})")
            ) from error
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}, {computed}"
        self.inputs = [_spec(port) for port in model.inputs]
        self.outputs = [_spec(port) for port in model.outputs]
        self._request = model.create_infer_request()

    def run(self, *arrays: np.ndarray) -> Outputs:
        """See `Session.run`."""
        if len(arrays) != len(self.inputs):
            raise ValueError(f"{len(arrays)} arrays for {len(self.inputs)} inputs")
        results = self._request.infer(dict(enumerate(arrays)))
        return [results[number] for number in range(len(self.outputs))]


def _spec(port: Any) -> TensorSpec:
    shape = tuple(
        side.get_length() if side.is_static else None for side in port.get_partial_shape()
    )
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, shape)
