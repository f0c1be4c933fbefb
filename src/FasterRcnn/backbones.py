# SPDX-License-Identifier: Apache-2.0
"""The backbones of `names.BACKBONES` as Cells."""

from .names import BACKBONES, CAFFE_STYLE, TORCH_STYLE
from .resnet import Bottleneck, ResNetFea
from .resnet50v1 import BottleneckV1

_BLOCKS = {TORCH_STYLE: Bottleneck, CAFFE_STYLE: BottleneckV1}


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
    return ResNetFea(_BLOCKS[plan.style], plan, norm, eps, frozen_stages, stem_pool, fold)
