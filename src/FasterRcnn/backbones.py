# SPDX-License-Identifier: Apache-2.0
"""The backbones of `names.BACKBONES` as Cells."""

from .names import BACKBONES, CAFFE_STYLE, Backbone
from .resnet import BasicBlock, Bottleneck, ResNetFea
from .resnet50v1 import BottleneckV1


def block_of(plan: Backbone) -> type[BasicBlock] | type[Bottleneck]:
    """Return the Cell of a backbone's blocks.

    Args:
        plan: of `names.BACKBONES`.
    """
    if plan.is_basic:
        return BasicBlock
    return BottleneckV1 if plan.style == CAFFE_STYLE else Bottleneck


def build_backbone(
    name: str, *, norm: str, eps: float, frozen_stages: int, stem_pool: str, fold: bool = False
) -> ResNetFea:
    """Build a backbone with freshly initialised weights.

    Args:
        name: a key of `names.BACKBONES`.
        norm, eps, frozen_stages, stem_pool, fold: see `ResNetFea`.

    Raises:
        ValueError: there is no such backbone.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is none of {', '.join(BACKBONES)}")
    plan = BACKBONES[name]
    return ResNetFea(block_of(plan), plan, norm, eps, frozen_stages, stem_pool, fold)
