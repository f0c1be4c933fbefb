# SPDX-License-Identifier: Apache-2.0
"""8-bit convolutions and dense layers, by ONNX Runtime's own quantiser."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

# What positions and scores are read off from directly stays float32.
_KEPT = ("rpn_cls.weight", "rpn_reg.weight", "cls_scores.weight", "reg_scores.weight")
# Relu: the range of the values behind it is that of what it reads, which makes it superfluous.
_KINDS = ["Conv", "Gemm", "Relu", "Add", "MaxPool", "Resize"]
_AT_ONCE = 4  # pictures whose every feature map is in memory
_SCOPES = ("features/", "head/")


def quantize(
    source: Path, target: Path, inputs: Sequence[dict[str, np.ndarray]], method: str
) -> None:
    """Write a model with 8-bit layers (QDQ), weights by channel.

    Args:
        source: an ONNX file in float32.
        target: the file to write.
        inputs: what values are fitted to: the model's inputs, by name.
        method: "entropy" or "percentile".
    """
    from onnxruntime import quantization as ort

    methods = {
        "entropy": ort.CalibrationMethod.Entropy,
        "percentile": ort.CalibrationMethod.Percentile,
    }

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, np.ndarray]] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rows, None)

    ort.quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=ort.QuantFormat.QDQ,
        op_types_to_quantize=_KINDS,
        nodes_to_exclude=_kept_nodes(onnx.load(str(source)).graph),
        per_channel=True,
        activation_type=ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
        calibrate_method=methods[method],
        extra_options={"CalibMaxIntermediateOutputs": _AT_ONCE},
    )


def _kept_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that stay float32: all behind and between the layers, and the last layers
    of both heads."""
    return [
        node.name
        for node in graph.node
        if not node.name.startswith(_SCOPES) or any(name.endswith(_KEPT) for name in node.input)
    ]
