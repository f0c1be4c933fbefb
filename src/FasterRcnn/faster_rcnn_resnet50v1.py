# SPDX-License-Identifier: Apache-2.0
"""Where the model zoo has its detector with ResNet-50 v1.0, the backbone `resnet_v1_50`.

There is one network here: the configuration's `backbone` says where its blocks stride.
"""

from .faster_rcnn_resnet import Faster_Rcnn_Resnet

__all__ = ["Faster_Rcnn_Resnet"]
