# SPDX-License-Identifier: Apache-2.0
"""What a library makes of a model file, and how a user chooses the library."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

AUTO = "auto"
MINDSPORE, ONNXRUNTIME, OPENVINO = "mindspore", "onnxruntime", "openvino"
FP32 = "fp32"

# boxes, scores, labels, valid of a batch
Outputs: TypeAlias = Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """How a model file is run.

    Attributes:
        name: `MINDSPORE`, `ONNXRUNTIME` or `OPENVINO`; `AUTO` goes by the file and by what is
            installed.
        precision: `FP32`, or another one that OpenVINO computes in; `AUTO`: the library's own.
        threads: of the CPU; 0: as many as the library likes.
    """

    name: str = AUTO
    precision: str = FP32
    threads: int = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model file.

    Attributes:
        name: in the file.
        dtype: as NumPy calls it; "" of a type that NumPy does not have.
        shape: lengths of the axes, None where any goes.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session(Protocol):
    """A model file that has been loaded."""

    @property
    def runtime(self) -> str:
        """What runs it, for people: "ONNX Runtime 1.32.0"."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """In the file's order; empty where the library does not tell."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """In the file's order; empty where the library does not tell."""

    def run(self, *arrays: np.ndarray) -> Outputs:
        """Return the outputs.

        Args:
            arrays: one for each input, of its dtype and shape.

        Raises:
            Exception: whatever the library raises.
        """
