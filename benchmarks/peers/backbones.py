# SPDX-License-Identifier: Apache-2.0
"""What peers call the backbones of this project; imports nothing of theirs."""

TORCHVISION_BACKBONES = {
    "resnet_v1.5_50": "resnet50",
    "resnet_v1_101": "resnet101",
    "resnet_v1_152": "resnet152",
    "resnet_v1.5_18": "resnet18",
    "resnet_v1.5_34": "resnet34",
    "resnext_50_32x4d": "resnext50_32x4d",
    "resnext_101_32x8d": "resnext101_32x8d",
    "resnext_101_64x4d": "resnext101_64x4d",
    "wide_resnet_50_2": "wide_resnet50_2",
}
# The configuration of the model zoo, and whether it is changed to torchvision's kind of backbone:
# the stride in the 3x3 convolutions, RGB with standard deviations.
DETECTRON2_BACKBONES = {
    "resnet_v1_50": ("R_50", False),
    "resnet_v1.5_50": ("R_50", True),
    "resnet_v1_101": ("R_101", True),
    "resnet_v1_101_caffe": ("R_101", False),
    "resnext_101_32x8d": ("X_101_32x8d", False),
}
