# SPDX-License-Identifier: Apache-2.0
"""The network's box arithmetic once more, in plain NumPy loops, and a way to call it in a graph."""

import mindspore as ms
import numpy as np
from hypothesis import strategies as st
from mindspore import Tensor, nn

ms.set_context(mode=ms.GRAPH_MODE)


class _Call(nn.Cell):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, *arguments):
        return self.function(*arguments)


_CALLS = {}


def in_graph(function, *arguments):
    """Run a function or Cell as a graph on NumPy arguments; return a NumPy array or a tuple.

    Calls with equal shapes compile once: the Cell around a function is kept.
    """
    if function not in _CALLS:
        _CALLS[function] = function if isinstance(function, nn.Cell) else _Call(function)
    result = _CALLS[function](*(as_tensor(argument) for argument in arguments))
    if isinstance(result, tuple):
        return tuple(tensor.asnumpy() for tensor in result)
    return result.asnumpy()


def as_tensor(value):
    """NumPy arrays, also inside tuples, become Tensors; the rest stays."""
    if isinstance(value, tuple):
        return tuple(as_tensor(item) for item in value)
    return Tensor(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def plain_iou(rows, columns, offset, mode="iou"):
    """(N, 4), (M, 4) -> (N, M) float64 overlaps; "iof" divides by the row's area."""
    table = np.zeros((len(rows), len(columns)))
    for i, a in enumerate(np.asarray(rows, np.float64)):
        for j, b in enumerate(np.asarray(columns, np.float64)):
            width = min(a[2], b[2]) - max(a[0], b[0]) + offset
            height = min(a[3], b[3]) - max(a[1], b[1]) + offset
            common = max(width, 0.0) * max(height, 0.0)
            own = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
            other = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
            table[i, j] = common / (own if mode == "iof" else own + other - common)
    return table


def plain_nms(boxes, valid, groups, threshold):
    """Greedy NMS of one image, best box first -> (N,) bool."""
    keep = np.zeros(len(boxes), bool)
    for i in range(len(boxes)):
        rivals = [j for j in range(i) if keep[j] and groups[j] == groups[i]]
        overlaps = plain_iou(boxes[i : i + 1], boxes[rivals], 0.0)
        keep[i] = valid[i] and not (overlaps > threshold).any()
    return keep


@st.composite
def box_arrays(draw, shape, low=0, high=64, longest=32, steps=4):
    """Boxes (*shape, 4) float32 with positive sides, on a lattice of 1/steps px: exact sums."""
    count = int(np.prod(shape))
    corner = st.integers(low * steps, (high - longest) * steps)
    side = st.integers(steps, longest * steps)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
    numbers = np.array(rows, np.float32) / steps
    numbers[:, 2:] += numbers[:, :2]
    return numbers.reshape(*shape, 4)
