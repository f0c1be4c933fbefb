# SPDX-License-Identifier: Apache-2.0
"""Groups of parameters: which ones decay, and which ones learn more slowly than the others."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import Parameter

from ..model_utils.config import Config
from .rate_table import rate_table

WEIGHTS, BIASES, NORMS = "weights", "biases", "norms"
_NORM_PARAMETERS = ("gamma", "beta")
_STAGE = re.compile(r"layer([1-4])\.")
_BACKBONE = "backbone."
_STAGES = 5  # of a backbone, the stem is the first


@dataclass(frozen=True)
class GroupRules:
    """What differs between the parameters of a detector.

    Attributes:
        weight_decay: of the parameters that decay.
        without_decay: the kinds, of `parameter_kind`, that do not.
        backbone_lr_scale: the backbone's rate over that of neck and heads.
        layer_lr_decay: each stage's rate over that of the stage above it.
    """

    weight_decay: float
    without_decay: tuple[str, ...] = (NORMS,)
    backbone_lr_scale: float = 1.0
    layer_lr_decay: float = 1.0

    @classmethod
    def from_config(cls, config: Config) -> "GroupRules":
        """Return the rules of a configuration.

        Args:
            config: uses weight_decay, no_weight_decay, backbone_lr_scale, layer_lr_decay.
        """
        return cls(
            config.weight_decay,
            tuple(config.no_weight_decay),
            config.backbone_lr_scale,
            config.layer_lr_decay,
        )

    def decay_of(self, name: str) -> float:
        """Return the weight decay of a parameter.

        Args:
            name: the parameter's.
        """
        return 0.0 if parameter_kind(name) in self.without_decay else self.weight_decay

    def rate_scale_of(self, name: str) -> float:
        """Return what the learning rate is multiplied with for a parameter.

        Args:
            name: the parameter's.
        """
        if not name.startswith(_BACKBONE):
            return 1.0
        return self.backbone_lr_scale * self.layer_lr_decay ** (_STAGES - backbone_stage(name))

    def are_usual(self) -> bool:
        """Say whether they are MindSpore's own for parameters that are not grouped."""
        usual = GroupRules(self.weight_decay)
        return self == usual


def parameter_kind(name: str) -> str:
    """Return "norms" (scale and shift of a normalisation), "biases" or "weights".

    Args:
        name: the parameter's.

    >>> parameter_kind("backbone.bn1.gamma"), parameter_kind("fpn_neck.bias")
    ('norms', 'biases')
    """
    last = name.rpartition(".")[2]
    if last in _NORM_PARAMETERS:
        return NORMS
    return BIASES if last == "bias" else WEIGHTS


def backbone_stage(name: str) -> int:
    """Return the stage of a backbone's parameter: 0 for the stem, 1 to 4 for C2 to C5.

    Args:
        name: the parameter's.

    >>> backbone_stage("backbone.conv1.weight"), backbone_stage("backbone.layer4.0.conv1.weight")
    (0, 4)
    """
    match = _STAGE.match(name.removeprefix(_BACKBONE))
    return int(match[1]) if match else 0


def parameter_groups(
    parameters: Iterable[Parameter], rates: np.ndarray, rules: GroupRules
) -> list[dict[str, Any]]:
    """Return the groups as MindSpore's optimizers take them, in the order of the parameters.

    Args:
        parameters: those to train.
        rates: (steps,) float32, the rate of every step of the run.
        rules: what differs between them.
    """
    parameters = list(parameters)
    members: dict[tuple[float, float], list[Parameter]] = {}
    for parameter in parameters:
        kind = rules.rate_scale_of(parameter.name), rules.decay_of(parameter.name)
        members.setdefault(kind, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": chosen, "lr": rate_table(rates, scale), "weight_decay": decay}
        for (scale, decay), chosen in members.items()
    ]
    return [*groups, {"order_params": parameters}]
