# SPDX-License-Identifier: Apache-2.0
"""The backbones by their names in configurations and checkpoints."""

from .resnet import Bottleneck, ResNetFea
from .resnet50v1 import BottleneckV1

# resnet_v1_101 and resnet_v1_152 have their stride in the 3x3 convolution despite their names:
# that is how the model zoo's published checkpoints were trained. detectron2's R101 has it in the
# first 1x1.
BACKBONES = {
    "resnet_v1.5_50": (Bottleneck, (3, 4, 6, 3)),
    "resnet_v1_50": (BottleneckV1, (3, 4, 6, 3)),
    "resnet_v1_101": (Bottleneck, (3, 4, 23, 3)),
    "resnet_v1_101_caffe": (BottleneckV1, (3, 4, 23, 3)),
    "resnet_v1_152": (Bottleneck, (3, 8, 36, 3)),
}
STAGE_CHANNELS = (256, 512, 1024, 2048)


def build_backbone(name, *, norm, eps, frozen_stages, stem_pool, fold=False):
    """Return the `ResNetFea` called `name`; see there for the other arguments."""
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is none of {', '.join(BACKBONES)}")
    block, layer_nums = BACKBONES[name]
    return ResNetFea(block, layer_nums, norm, eps, frozen_stages, stem_pool, fold)
