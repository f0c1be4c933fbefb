# SPDX-License-Identifier: Apache-2.0
"""Weights in float16: half the file, and no runtime needs to compute in float16 for it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_LEAST = 1024  # elements; smaller ones are not worth an operator
_OF_LAYERS = ("Conv", "Gemm")


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its layers' weights in float16, cast to float32 where they are used.

    Runtimes cast them once, when they load it.

    Args:
        model: float32; not changed.

    Raises:
        ValueError: a weight is beyond what float16 holds.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {node.input[1] for node in graph.node if node.op_type in _OF_LAYERS}
    casts = []
    for tensor in graph.initializer:
        if tensor.name not in weights or np.prod(tensor.dims) < _LEAST:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{name} has weights beyond the {np.finfo(np.float16).max} of float16")
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], name, to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy
