# SPDX-License-Identifier: Apache-2.0
"""The learning rates of a run as what MindSpore's optimizers look them up in."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

_LEAST = 1 << 16  # places: a run of fewer steps has the same graph as any other of them


def rate_table(rates: np.ndarray, scale: float = 1.0) -> Tensor:
    """Return the rates, the last one repeated up to a power of two of places, at least 65,536.

    The optimizer looks a step's rate up by its number. The table is a parameter of the graph, which
    knows its length and not what is in it: so runs of different lengths share a compiled graph.

    Args:
        rates: (steps,) float32, the rate of every step of the run.
        scale: what they are multiplied with.

    Returns:
        (places,) float32.
    """
    places = max(_LEAST, 1 << (len(rates) - 1).bit_length())
    padded = np.pad(np.float32(scale) * rates, (0, places - len(rates)), mode="edge")
    return Tensor(padded, ms.float32)
