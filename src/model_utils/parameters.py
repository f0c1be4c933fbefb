# SPDX-License-Identifier: Apache-2.0
"""Values of MindSpore's parameters."""

import mindspore as ms
import numpy as np


def set_parameter(parameter: ms.Parameter, array: np.ndarray) -> None:
    """Set the value of a parameter, keeping its dtype.

    Args:
        parameter: changed in place.
        array: of the parameter's shape.
    """
    parameter.set_data(ms.Tensor(array, parameter.dtype))
