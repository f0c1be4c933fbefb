# SPDX-License-Identifier: Apache-2.0
"""What a written ONNX file consists of."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx


def summary(path: Path) -> Mapping[str, Any]:
    """Return opset and operators of a file, for its description.

    Args:
        path: the file.
    """
    model = onnx.load(path, load_external_data=False)
    counts = Counter(node.op_type for node in model.graph.node)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return {"opset": opset, "operators": dict(sorted(counts.items()))}
