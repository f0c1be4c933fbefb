# SPDX-License-Identifier: Apache-2.0
"""The block of the original ResNet ("v1.0", Caffe), where the first 1x1 convolution strides."""

from .resnet import Bottleneck


class BottleneckV1(Bottleneck):
    """`Bottleneck` with the stride in the first 1x1 convolution."""

    @staticmethod
    def split_stride(stride: int) -> tuple[int, int]:
        """See `Bottleneck.split_stride`.

        Args:
            stride: of the block.
        """
        return stride, 1
