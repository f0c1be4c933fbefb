# SPDX-License-Identifier: Apache-2.0
"""What MindSpore Hub calls: `mindspore_hub.load("mindspore/.../faster_rcnn_...")`."""

from typing import Any

import mindspore as ms

from src.detector import build_detector
from src.FasterRcnn.faster_rcnn_resnet import FasterRcnn
from src.model_utils.config import load_config
from src.model_utils.device_adapter import choose_device

NAME = "faster_rcnn"


def create_network(name: str, *args: Any, **kwargs: Any) -> FasterRcnn:
    """Return a detector with freshly initialised weights, for the device that MindSpore is set to.

    Args:
        name: "faster_rcnn"; there is no other.
        args: none.
        kwargs: keys of the configuration, such as backbone="resnet_v1_101" or
            coco_classes=["cat", "dog"]; the others have their defaults.

    Returns:
        (image (B, 3, H, W), image_meta (B, 4)) -> boxes, scores, labels, valid.

    Raises:
        NotImplementedError: another name.
        TypeError: arguments without a name.
        UserError: a key or a value that cannot be.
    """
    if name != NAME:
        raise NotImplementedError(f"{name} is not in this repository; its network is {NAME}")
    if args:
        raise TypeError(f"create_network({NAME!r}, ...): give keys of the configuration by name")
    settings = {"device_target": ms.get_context("device_target"), **kwargs}
    return build_detector(choose_device(load_config([]).replace(**settings)))
