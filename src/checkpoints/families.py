# SPDX-License-Identifier: Apache-2.0
"""What published checkpoints leave unsaid: the settings that each family's numbers belong to.

Data and small functions; knows configuration keys, but neither files nor MindSpore.
"""

from typing import Any

from ..FasterRcnn.names import CAFFE_STYLE, CANVAS, LEGACY, MODERN, TIGHT, TORCH_STYLE

Settings = dict[str, Any]

FOREIGN_SUFFIXES = (".pth", ".pt", ".safetensors", ".pkl")  # files that can be converted

MODEL_ZOO = "model_zoo"
TORCHVISION = "torchvision"
DETECTRON2 = "detectron2"
MMDETECTION = "mmdetection"
MMDETECTION_1 = "mmdetection_1"
MINDSPORE_LAB = "mindspore_lab"

# Weights that started from torchvision's ImageNet classifiers see RGB scaled to unit variance;
# those that started from Caffe's (MSRA's, Detectron's) see BGR with only the mean taken off.
TORCH_PIXELS: Settings = {
    "channel_order": "rgb",
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
}
CAFFE_PIXELS: Settings = {
    "channel_order": "bgr",
    "pixel_mean": [103.53, 116.28, 123.675],
    "pixel_std": [1.0, 1.0, 1.0],
}
PIXELS = {TORCH_STYLE: TORCH_PIXELS, CAFFE_STYLE: CAFFE_PIXELS}
# Those that started from Caffe2's ResNeXt see BGR scaled to unit variance.
CAFFE2_PIXELS: Settings = {**CAFFE_PIXELS, "pixel_std": [57.375, 57.12, 58.395]}

_COMMON: Settings = {
    "norm": "frozen_bn",
    "bn_eps": 1.0e-5,
    "keep_ratio": True,
    "pad_before_normalize": False,
    "stem_pool": "symmetric",
    "anchor_scales": [8.0],
    "anchor_ratios": [0.5, 1.0, 2.0],
    "anchor_rounding": False,
    "box_convention": MODERN,
    "clip_to_canvas": False,
    "rpn_target_means": [0.0, 0.0, 0.0, 0.0],
    "rpn_target_stds": [1.0, 1.0, 1.0, 1.0],
    "rcnn_target_means": [0.0, 0.0, 0.0, 0.0],
    "rcnn_target_stds": [0.1, 0.1, 0.2, 0.2],
    "rpn_nms_pre": 1000,
    "rpn_nms_post": 1000,
    "rpn_max_num": 1000,
    "rpn_nms_thr": 0.7,
    "rpn_min_bbox_min_size": 0.0,
    "roi_layer": {"type": "RoIAlign", "out_size": 7, "sample_num": 2},
    "roi_align_aligned": False,
    "roi_align_finest_scale": 56.0,
    "test_score_thr": 0.05,
    "test_iou_thr": 0.5,
    "test_max_per_img": 100,
    "test_pre_nms_num": 2000,
}

# The shorter side becomes 800, the longer at most 1333: what all three publish their numbers with,
# each with its own arithmetic (see `images.resizing`).
_SHORT_EDGE: Settings = {"resize": "short_edge", "min_size": [800], "max_size": 1333}

# detectron2 and mmdetection 2 and later sample RoIs adaptively: ceil(RoI side / 7) points along a
# bin's side.
_ADAPTIVE = {"type": "RoIAlign", "out_size": 7, "sample_num": 0}

FAMILIES: dict[str, Settings] = {
    MODEL_ZOO: {
        **_COMMON,
        **TORCH_PIXELS,
        "padding": CANVAS,
        "pad_before_normalize": True,
        "stem_pool": "same",
        "anchor_rounding": True,
        "box_convention": LEGACY,
        "clip_to_canvas": True,
    },
    TORCHVISION: {
        **_COMMON,
        **_SHORT_EDGE,
        **TORCH_PIXELS,
        "resize_like": "torchvision",
        "padding": TIGHT,
        "anchor_rounding": True,
        "rpn_min_bbox_min_size": 1.0e-3,
    },
    DETECTRON2: {
        **_COMMON,
        **_SHORT_EDGE,
        **CAFFE_PIXELS,
        "resize_like": "detectron2",
        "padding": TIGHT,
        "roi_align_aligned": True,
        "roi_layer": _ADAPTIVE,
    },
    MMDETECTION: {
        **_COMMON,
        **_SHORT_EDGE,
        **TORCH_PIXELS,
        "resize_like": "opencv",
        "padding": TIGHT,
        "roi_align_aligned": True,
        "roi_layer": _ADAPTIVE,
    },
    MMDETECTION_1: {
        **_COMMON,
        **_SHORT_EDGE,
        **TORCH_PIXELS,
        "resize_like": "opencv",
        "padding": TIGHT,
        "anchor_rounding": True,
        "box_convention": LEGACY,
    },
    # Its evaluation takes the settings of training for proposals.
    MINDSPORE_LAB: {
        **_COMMON,
        **TORCH_PIXELS,
        "padding": CANVAS,
        "pad_before_normalize": True,
        "stem_pool": "same",
        "fpn_upsample": "bilinear",
        "clip_to_canvas": True,
        "rpn_nms_pre": 2000,
        "rpn_nms_post": 2000,
        "rpn_min_bbox_min_size": 1.0,
    },
}

# A classifier's settings: how its backbone was trained.
BACKBONE_KEYS = ("norm", "bn_eps", "stem_pool", "channel_order", "pixel_mean", "pixel_std")

# The 91 places of torchvision's detectors: the background, the 80 classes at COCO's category ids,
# and ten places that COCO has never used.
_UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_NAMES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
COCO_OUTPUTS = 91
COCO_IDS: dict[str, int] = dict(
    zip(
        COCO_NAMES,
        (number for number in range(1, COCO_OUTPUTS) if number not in _UNUSED_COCO_IDS),
        strict=True,
    )
)


def family_settings(family: str, backbone: str, **changes: Any) -> Settings:
    """Return the settings of a family's detector on a backbone, by configuration key.

    Args:
        family: a key of `FAMILIES`.
        backbone: the configuration's name of it.
        changes: what is known better.
    """
    return {"backbone": backbone, **FAMILIES[family], **changes}
