# SPDX-License-Identifier: Apache-2.0
"""Weights that follow from a parameter's name and shape: the same on every machine.

The numbers in tests/resources come from other implementations whose parameters were made by these
rules under their own names.
"""

import math
import zlib

import numpy as np

_GAINS = (
    (("cls_score",), 6.0),
    (("rpn_reg", "rpn.head.bbox_pred"), 0.2),
    (("bbox_pred", "reg_scores"), 0.1),
    (("rpn_cls", "cls_logits"), 4.0),
)


def make_weight(name, shape):
    """Return the float32 array of `shape` that belongs to the parameter `name`."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.split(".")[-1]
    if kind in ("running_var", "moving_variance"):
        values = generator.uniform(0.8, 1.2, shape)
    elif kind in ("running_mean", "moving_mean"):
        values = 0.05 * generator.standard_normal(shape)
    elif kind in ("bias", "beta"):
        values = 0.02 * generator.standard_normal(shape)
    elif len(shape) == 1:  # a normalisation's scale, smaller at the end of a residual branch
        values = generator.uniform(*((0.1, 0.3) if "bn3" in name else (0.6, 1.0)), shape)
    else:
        fan_in = max(shape) if len(shape) == 2 else math.prod(shape[1:])
        gain = next((g for words, g in _GAINS if any(word in name for word in words)), 2.0)
        values = np.sqrt(gain / fan_in) * generator.standard_normal(shape)
    return np.asarray(values, np.float32)
