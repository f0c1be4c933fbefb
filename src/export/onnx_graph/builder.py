# SPDX-License-Identifier: Apache-2.0
"""Writes an ONNX graph node by node. Every method returns names of tensors in it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The lowest that has RoIAlign with half-cell alignment.
OPSET = 16
_IR_VERSION = 8  # of the first release with that opset: older runtimes read no newer files

Value: TypeAlias = str | float | int | Sequence[int] | np.ndarray


class GraphBuilder:
    """A graph in the making.

    What is given as a number or an array becomes a constant: float32 of a float, int64 of integers.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._scope = ""
        self._counts: dict[str, int] = {}

    def scope(self, name: str) -> None:
        """Let the names of the nodes to come begin with `name`.

        Args:
            name: such as "proposals".
        """
        self._scope = name

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Write a node; returns its only output.

        Args:
            kind: the operator.
            inputs: names of tensors, or constants.
            attributes: of the operator.
        """
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Value, **attributes: Any) -> list[str]:
        """Write a node; returns its outputs.

        Args:
            kind: the operator.
            outputs: how many it has.
            inputs, attributes: see `op`.
        """
        name = self._new_name(kind)
        names = [name if outputs == 1 else f"{name}:{number}" for number in range(outputs)]
        values = [self._value(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, values, names, name, **attributes))
        return names

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, str]) -> list[str]:
        """Write all nodes of another model; returns its outputs.

        Args:
            model: names of its weights are kept.
            inputs: each of its inputs -> a tensor of this graph.
        """
        names = dict(inputs)
        for tensor in model.graph.initializer:
            own = onnx.TensorProto()
            own.CopyFrom(tensor)
            if not tensor.name.endswith((".weight", ".bias")):
                own.name = self._new_name("constant")
            self._constants[own.name] = own
            names[tensor.name] = own.name
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = self._new_name(node.op_type)
            for number, output in enumerate(node.output):
                names[output] = copy.name if len(node.output) == 1 else f"{copy.name}:{number}"
            copy.input[:] = [names.get(name, name) for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            self._nodes.append(copy)
        return [names[output.name] for output in model.graph.output]

    def halves(self, boxes: str) -> list[str]:
        """Return (..., 2) x1 y1 and (..., 2) x2 y2 of (..., 4) boxes.

        Args:
            boxes: xyxy.
        """
        return self.ops("Split", 2, boxes, axis=-1)

    def filled(self, shape: str, value: float) -> str:
        """Return a float32 tensor of one value.

        Args:
            shape: a tensor of int64.
            value: of all elements.
        """
        tensor = numpy_helper.from_array(np.array([value], np.float32))
        return self.op("ConstantOfShape", shape, value=tensor)

    def picked(self, values: str, index: str) -> str:
        """Return of (B, N, ...) values those of every image's own index (B, K): (B, K, ...).

        Args:
            values: a tensor.
            index: int64.
        """
        return self.op("GatherND", values, self.op("Unsqueeze", index, [-1]), batch_dims=1)

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Return the finished model.

        Args:
            inputs: names, dtypes and shapes.
            outputs: tensors of the graph -> the names, dtypes and shapes that they get.
        """
        final = {tensor: info.name for tensor, info in outputs.items()}
        for node in self._nodes:
            node.input[:] = [final.get(name, name) for name in node.input]
            node.output[:] = [final.get(name, name) for name in node.output]
        used = {name for node in self._nodes for name in node.input}
        constants = [tensor for name, tensor in self._constants.items() if name in used]
        graph = helper.make_graph(
            self._nodes, "faster_rcnn", list(inputs), list(outputs.values()), constants
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _new_name(self, kind: str) -> str:
        base = f"{self._scope}/{kind}"
        self._counts[base] = self._counts.get(base, 0) + 1
        return f"{base}_{self._counts[base]}"

    def _value(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, float):
            value = np.array(value, np.float32)
        array = np.asarray(value)
        if array.dtype == np.int64 or array.dtype == int:
            array = array.astype(np.int64)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            name = self._new_name("constant")
            self._known[key] = name
            self._constants[name] = numpy_helper.from_array(array, name)
        return self._known[key]
