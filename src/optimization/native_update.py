# SPDX-License-Identifier: Apache-2.0
"""An optimizer's update as one operator of our C++ library."""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ..model_utils.config import Config
from ..native.build import Library
from ..native.updating import ADAM, ADAMW, SGD, NativeUpdate
from .adam import Adam
from .groups import GroupRules
from .rate_table import rate_table


def native_update(
    config: Config,
    optimizer: nn.Optimizer,
    rates: np.ndarray,
    library: Library,
    *,
    clip_norm: float,
    sums: Sequence[Parameter] = (),
    batches: int = 1,
) -> NativeUpdate:
    """Return the Cell that does what the optimizer would, with the optimizer's own parameters.

    Args:
        config: the optimizer is built from: uses optimizer, momentum, adam_betas, adam_eps and the
            keys of `GroupRules`.
        optimizer: what `build_optimizer` has returned; keeps the moments and counts.
        rates: (steps,) float32, the rate of every step of the run.
        library: our C++ operators.
        clip_norm, sums, batches: see `NativeUpdate`.
    """
    names = [parameter.name for parameter in optimizer.parameters]
    rules = GroupRules.from_config(config)
    moments: tuple[tuple[Parameter, ...], ...]
    if isinstance(optimizer, Adam):
        rule = ADAMW if optimizer.decoupled else ADAM
        moments = optimizer.moment1, optimizer.moment2
        betas, eps, updates = config.adam_betas, config.adam_eps, optimizer.update_count
    else:
        rule, moments, betas, eps = SGD, (optimizer.moments,), (config.momentum, 0.0), 0.0
        updates = Parameter(Tensor([0], ms.int32), name="updates", requires_grad=False)
    return NativeUpdate(
        library,
        optimizer.parameters,
        moments,
        rule=rule,
        betas=tuple(betas),
        eps=eps,
        rates=rate_table(rates),
        scales=[rules.rate_scale_of(name) for name in names],
        decays=[rules.decay_of(name) for name in names],
        steps=optimizer.global_step,
        updates=updates,
        clip_norm=clip_norm,
        sums=sums,
        batches=batches,
    )
