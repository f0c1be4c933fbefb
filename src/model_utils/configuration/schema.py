# SPDX-License-Identifier: Apache-2.0
"""The type and the range of every configuration key.

Values, help lines and choices are in `default_config.yaml`; this table holds what YAML cannot say.
"""

from .types import MOST_CLASSES, Rule
from .yaml_files import EXTENDS

MOST_DETECTIONS = 10_000  # of an image
_MOST_STEPS = 2**31 - 1
_MOST_BOXES = 1_000_000  # of an image: of a crowded one there are a thousand
_ALMOST_ONE = 0.999999  # of a moving mean
_LONGEST_WAIT = 1e8  # seconds: three years

_BOOL = Rule("bool")
_STR = Rule("str")
_PATH = Rule("path")
_NAME = Rule("str", min_length=1)
_COUNT = Rule("int", low=1, high=_MOST_STEPS)
_COUNT_OR_ZERO = Rule("int", low=0, high=_MOST_STEPS)
_BATCH = Rule("int", low=1, high=2**16)
_BOXES = Rule("int", low=1, high=_MOST_BOXES)
_WIDTH = Rule("int", low=1, high=2**16)  # of a layer
_FRACTION = Rule("float", low=0.0, high=1.0)
_OVERLAP = Rule("float", above=0.0, high=1.0)
_NOT_NEGATIVE = Rule("float", low=0.0, high=1e6)
_POSITIVE = Rule("float", low=1e-6, high=1e6)  # divided by, too, in float32
_WAIT = Rule("float", above=0.0, high=_LONGEST_WAIT)
_ANCHORS = Rule("floats", min_length=1, max_length=100, low=1e-3, high=1e4)
_DELTA_MEANS = Rule("floats", length=4, low=-1e3, high=1e3)
_DELTA_STDS = Rule("floats", length=4, low=1e-6, high=1e3)

# In the order of default_config.yaml and under its headings, which --help prints too.
SECTIONS: dict[str, dict[str, Rule]] = {
    "Device and run": {
        EXTENDS: _STR,
        "device_target": _NAME,
        "device_id": Rule("int", low=0, high=2**16),
        "run_distribute": _BOOL,
        "rank_timeout": _WAIT,
        "bind_cpus": _BOOL,
        "compute_type": _NAME,
        "cpu_kernels": Rule("str", min_length=1, off=True),
        "compile_cache": Rule("path", min_length=1, off=True),
        "seed": Rule("int", low=0, high=2**31 - 1),
        "output_dir": Rule("path", min_length=1),
    },
    "Image input": {
        "img_width": Rule("int", low=32, high=2**15, multiple_of=32),
        "img_height": Rule("int", low=32, high=2**15, multiple_of=32),
        "keep_ratio": _BOOL,
        "resize": _NAME,
        "min_size": Rule("ints", min_length=1, max_length=64, low=1, high=2**15, rising=True),
        "max_size": Rule("int", low=1, high=2**15),
        "resize_like": _NAME,
        "canvases": Rule("canvases", max_length=16, low=32, high=2**15, multiple_of=32),
        "padding": _NAME,
        "flip_ratio": _FRACTION,
        "expand_ratio": Rule("float", low=1.0, high=10.0),
        "photometric": _BOOL,
        "vertical_flip_ratio": _FRACTION,
        "crop_ratio": _FRACTION,
        "crop_min_iou": Rule("floats", min_length=1, max_length=64, low=0.0, high=0.95),
        "scale_jitter": Rule("floats", length=2, low=0.05, high=4.0),
        "min_visible": _FRACTION,
        "augmentations": Rule("words", min_length=1, max_length=64),
        "pixel_mean": Rule("floats", length=3, low=-1e6, high=1e6),
        "pixel_std": Rule("floats", length=3, low=1e-6, high=1e6),
        "channel_order": _NAME,
        "pad_before_normalize": _BOOL,
    },
    "Backbone and neck": {
        "backbone": _NAME,
        "stem_pool": _NAME,
        "norm": _NAME,
        "bn_eps": _FRACTION,  # torchvision's COCO_V1 weights want 0
        "frozen_stages": Rule("int", low=0, high=5),
        "fpn_out_channels": _WIDTH,
        "fpn_norm": _NAME,
        "fpn_upsample": _NAME,
    },
    "Anchors": {
        "anchor_scales": _ANCHORS,
        "anchor_ratios": _ANCHORS,
        "anchor_strides": Rule("ints", length=5, low=1, high=2**16),
        "anchor_rounding": _BOOL,
    },
    "Boxes": {"box_convention": _NAME, "clip_to_canvas": _BOOL},
    "First stage (RPN): head, matching, sampling, loss": {
        "rpn_feat_channels": _WIDTH,
        "rpn_conv_depth": Rule("int", low=1, high=16),
        "num_gts": _COUNT,
        "neg_iou_thr": _FRACTION,
        "pos_iou_thr": _OVERLAP,
        "min_pos_iou": _FRACTION,
        "low_quality_target": _NAME,
        "anchor_filter": _NAME,
        "num_expected_pos": _BOXES,
        "num_expected_neg": _BOXES,
        "rpn_target_means": _DELTA_MEANS,
        "rpn_target_stds": _DELTA_STDS,
        "rpn_loss_cls_weight": _NOT_NEGATIVE,
        "rpn_loss_reg_weight": _NOT_NEGATIVE,
        "rpn_box_loss": _NAME,
        "rpn_loss_beta": _POSITIVE,
        "rpn_loss_divisor": _NAME,
    },
    "Proposals in training": {
        "rpn_proposal_nms_pre": _BOXES,
        "rpn_proposal_nms_post": _BOXES,
        "rpn_proposal_max_num": _BOXES,
        "rpn_proposal_nms_thr": _OVERLAP,
        "rpn_proposal_min_bbox_size": _NOT_NEGATIVE,
    },
    "Proposals in evaluation": {
        "rpn_nms_pre": _BOXES,
        "rpn_nms_post": _BOXES,
        "rpn_max_num": _BOXES,
        "rpn_nms_thr": _OVERLAP,
        "rpn_min_bbox_min_size": _NOT_NEGATIVE,
    },
    "Second stage (RCNN): features, matching, sampling, loss": {
        "roi_layer": Rule("roi_layer"),
        "roi_align_finest_scale": _POSITIVE,
        "roi_align_aligned": _BOOL,
        "roi_level_formula": _NAME,
        "neg_iou_thr_stage2": _OVERLAP,
        "pos_iou_thr_stage2": _OVERLAP,
        "min_pos_iou_stage2": _FRACTION,
        "low_quality_stage2": _NAME,
        "num_expected_pos_stage2": _BOXES,
        "num_expected_neg_stage2": _BOXES,
        "rcnn_fc_out_channels": _WIDTH,
        "rcnn_head": Rule("rcnn_head"),
        "rcnn_class_agnostic": _BOOL,
        "unused_outputs": Rule("int", low=0, high=MOST_CLASSES),
        "rcnn_target_means": _DELTA_MEANS,
        "rcnn_target_stds": _DELTA_STDS,
        "rcnn_loss_cls_weight": _NOT_NEGATIVE,
        "rcnn_loss_reg_weight": _NOT_NEGATIVE,
        "rcnn_box_loss": _NAME,
        "rcnn_loss_beta": _POSITIVE,
        "rcnn_label_smoothing": _FRACTION,
        "rcnn_class_weights": Rule("class_weights", low=0.0, high=1e6),
    },
    "Detections": {
        "test_score_thr": _FRACTION,
        "test_nms": _NAME,
        "test_nms_kind": _NAME,
        "test_nms_sigma": _POSITIVE,
        "test_nms_min_score": Rule("float", above=0.0, high=1.0),
        "test_iou_thr": _OVERLAP,
        "test_pre_nms_num": Rule("int", low=0, high=_MOST_BOXES),
        "test_max_per_img": Rule("int", low=1, high=MOST_DETECTIONS),
        "test_batch_size": _BATCH,
        "test_flip": _BOOL,
        "test_scales": Rule("floats", min_length=1, max_length=16, low=0.1, high=4.0),
    },
    "Learning rate": {
        "base_lr": Rule("float", above=0.0, high=1e37),  # float32
        "lr_base_batch": _COUNT,
        "lr_type": _NAME,
        "warmup_step": _COUNT_OR_ZERO,
        "warmup_ratio": _FRACTION,
        "sgd_step": Rule("floats", max_length=1000, above=0.0, high=1e9, rising=True),
        "min_lr_ratio": _FRACTION,
        "poly_power": Rule("float", above=0.0, high=10.0),
        "restart_period": Rule("float", above=0.0, high=1e6),
        "restart_factor": Rule("float", low=1.0, high=100.0),
    },
    "Optimizer": {
        "optimizer": _NAME,
        "momentum": Rule("float", low=0.0, high=0.9999),
        "adam_betas": Rule("floats", length=2, low=0.0, high=_ALMOST_ONE),
        "adam_eps": Rule("float", low=1e-30, high=1.0),
        "weight_decay": _NOT_NEGATIVE,
        "no_weight_decay": Rule("words", max_length=2),
        "backbone_lr_scale": _FRACTION,
        "layer_lr_decay": Rule("float", above=0.0, high=1.0),
        "accumulate_steps": Rule("int", low=1, high=2**16),
        "ema": Rule("float", low=0.0, high=_ALMOST_ONE),
    },
    "Training": {
        "batch_size": _BATCH,
        "epoch_size": Rule("int", low=1, high=1_000_000),
        "steps_per_epoch_limit": _COUNT_OR_ZERO,
        "train_sampler": _NAME,
        "repeat_threshold": _OVERLAP,
        "sync_bn": _BOOL,
        "recompute": Rule("words", max_length=8),
        "grad_clip": _BOOL,
        "clip_norm": _POSITIVE,
        "loss_scale": Rule("float", low=1.0, high=2.0**30),
        "dynamic_loss_scale": _BOOL,
        "log_interval": _COUNT,
        "eval_interval": _COUNT_OR_ZERO,
        "eval_losses": _BOOL,
        "keep_best": _BOOL,
        "best_metric": _NAME,
        "early_stopping": _COUNT_OR_ZERO,
        "early_stopping_delta": _NOT_NEGATIVE,
        "save_checkpoint_epochs": _COUNT,
        "save_checkpoint_steps": _COUNT_OR_ZERO,
        "save_checkpoint_minutes": _NOT_NEGATIVE,
        "keep_checkpoint_max": _COUNT,
        "run_report": _BOOL,
        "pre_trained": _PATH,
        "resume": _PATH,
    },
    "Record": {
        "tensorboard": Rule("str", min_length=1, on=True, off=True),
        "log_summary": _BOOL,
        "enable_profiling": _BOOL,
        "profiling_steps": Rule("int", low=1, high=1000),
        "callbacks": Rule("words", max_length=32, is_code=True),
    },
    "Data": {
        "dataset": _NAME,
        "coco_root": _PATH,
        "train_data_type": _NAME,
        "val_data_type": _NAME,
        "instance_set": _NAME,
        "image_dir": _PATH,
        "anno_path": _PATH,
        "voc_difficult": _NAME,
        "voc_corners": _NAME,
        "mindrecord_dir": _PATH,
        "coco_classes": Rule("classes"),
        "num_classes": Rule("int", low=2, high=MOST_CLASSES + 1, nullable=True),
        "skip_empty_images": _BOOL,
        "skip_bad_images": _BOOL,
        "max_image_pixels": Rule("int", low=1, high=2**30),  # OpenCV's own limit
        "convert_timeout": _WAIT,
        "num_parallel_workers": Rule("int", low=1, high=4096),
    },
    "Evaluation": {
        "checkpoint_path": _PATH,
        "max_val_images": _COUNT_OR_ZERO,
        "result_file": _PATH,
        "report": _BOOL,
    },
    "Export and deployment": {
        "ckpt_file": _PATH,
        "file_name": Rule("path", min_length=1),
        "file_format": _NAME,
        "export_target": _NAME,
        "check": _BOOL,
        "dynamic_batch": _BOOL,
        "with_preprocessing": _BOOL,
        "without_nms": _BOOL,
        "half": _BOOL,
        "int8": _BOOL,
        "calibration": _PATH,
        "calibration_images": Rule("int", low=1, high=10_000),
        "calibration_method": _NAME,
        "runtime": _NAME,
        "runtime_precision": _NAME,
        "runtime_threads": Rule("int", low=0, high=1024),
        "ann_file": _PATH,
        "result_path": _PATH,
    },
    "ModelArts": {
        "enable_modelarts": _BOOL,
        "data_url": _STR,
        "train_url": _STR,
        "checkpoint_url": _STR,
        "data_path": Rule("path", min_length=1),
        "output_path": Rule("path", min_length=1),
        "load_path": Rule("path", min_length=1),
        "upload_interval": _COUNT_OR_ZERO,
        "transfer_timeout": _WAIT,
    },
}

RULES: dict[str, Rule] = {
    key: rule for section in SECTIONS.values() for key, rule in section.items()
}
# What a Config has and the command line takes; `extends` only tells files how to be read.
SETTABLE: tuple[str, ...] = tuple(key for key in RULES if key != EXTENDS)
# What names programs: only the user's own files and command line may set it.
CODE_KEYS: tuple[str, ...] = tuple(key for key, rule in RULES.items() if rule.is_code)
