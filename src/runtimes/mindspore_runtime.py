# SPDX-License-Identifier: Apache-2.0
"""MINDIR files in MindSpore, on the device that was chosen."""

import os
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..base.foreign_files import open_regular
from ..base.memory import require_memory
from ..base.messages import one_line, short
from ..graph_cache.graph_entries import names_other_files
from .session import Outputs, TensorSpec

# Operators that run Python or other programs' libraries, or write files.
_CODE = ("PyExecute", "PyInterpret", "PyFunc", "Custom", "TensorDump", "Summary", "ImageSummary")


class MindIrSession:
    """A `Session` of a MINDIR file.

    Args:
        path: the file.

    Raises:
        UserError: MindSpore cannot load the file, it holds more than a network, or there is too
            little memory.
    """

    def __init__(self, path: Path) -> None:
        import mindspore as ms
        from mindspore import nn

        _check(path)
        try:
            self._cell = nn.GraphCell(ms.load(str(path)))
        except Exception as error:  # whatever a file of other bytes provokes
            raise UserError(
                one_line(f"{path}: MindSpore cannot load it ({str(error)[:500]})")
            ) from error
        target = ms.get_context("device_target")
        self.runtime = f"device_target {target}, MindSpore {ms.__version__}"
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []

    def run(self, *arrays: np.ndarray) -> Outputs:
        """See `Session.run`."""
        from mindspore import Tensor

        outputs = self._cell(*(Tensor(np.ascontiguousarray(array)) for array in arrays))
        return [output.asnumpy() for output in outputs]


def _check(path: Path) -> None:
    """Make sure that a file is a graph of plain operators that names no other files."""
    from google.protobuf.message import DecodeError
    from mindspore.train.mind_ir_pb2 import ModelProto

    try:
        with open_regular(path) as file:
            require_memory(path, 3 * os.fstat(file.fileno()).st_size)
            content = file.read()
        model = ModelProto.FromString(content)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; export the model again") from None
    except DecodeError:
        raise UserError(
            f"{path}: not a MINDIR model, or a damaged one; export the model again"
        ) from None
    nodes = (node for graph in (model.graph, *model.functions) for node in graph.node)
    operators = {part.op_type for part in (*nodes, *model.primitives)}
    code = sorted(name for name in operators if name.rpartition("::")[2].startswith(_CODE))
    if code or names_other_files(content, None):
        what = f"the operator {short(code[0])}" if code else "the name of another file"
        raise UserError(f"{path}: holds {what}, which is no part of a detector; do not use it")
