# SPDX-License-Identifier: Apache-2.0
"""The configuration keys that belong to weights: all that a checkpoint, or a file that nobody has
named, may set. Such a file can be anybody's, so paths, devices, caches and uploads are not in it.
"""

# What weights cannot be used without, and what makes them worse when it differs.
STRICT_KEYS = ("backbone", "norm", "box_convention")
# The form of neck and heads, which may start fresh from another one's weights.
HEAD_KEYS = ("fpn_norm", "fpn_upsample", "rpn_conv_depth", "rcnn_head", "rcnn_class_agnostic")
INPUT_KEYS = (
    "img_width",
    "img_height",
    "keep_ratio",
    "resize",
    "min_size",
    "max_size",
    "resize_like",
    "canvases",
    "padding",
    "pixel_mean",
    "pixel_std",
    "channel_order",
    "pad_before_normalize",
    "anchor_scales",
    "anchor_ratios",
    "anchor_strides",
    "anchor_rounding",
    "rpn_target_means",
    "rpn_target_stds",
    "rcnn_target_means",
    "rcnn_target_stds",
    "roi_layer",
    "roi_align_aligned",
    "roi_align_finest_scale",
    "roi_level_formula",
    "stem_pool",
    "bn_eps",
    "clip_to_canvas",
    "fpn_out_channels",
    "rpn_feat_channels",
    "rcnn_fc_out_channels",
    "unused_outputs",
)
MODEL_KEYS = (*STRICT_KEYS, *HEAD_KEYS, *INPUT_KEYS)  # what every checkpoint of this project says
THRESHOLD_KEYS = (
    "rpn_nms_pre",
    "rpn_nms_post",
    "rpn_max_num",
    "rpn_nms_thr",
    "rpn_min_bbox_min_size",
    "test_score_thr",
    "test_nms",
    "test_nms_kind",
    "test_nms_sigma",
    "test_nms_min_score",
    "test_iou_thr",
    "test_pre_nms_num",
    "test_max_per_img",
)
WEIGHT_KEYS = (*MODEL_KEYS, *THRESHOLD_KEYS, "coco_classes")
