# SPDX-License-Identifier: Apache-2.0
"""Keys for whoever types another program's name of them, or mistypes one."""

import difflib
from collections.abc import Collection

from .schema import RULES
from .zoo import ZOO_KEYS

CONFIG_PATH = "config_path"  # an option that is no key of the configuration
_LONGEST_KEY = 100  # characters that are compared with the known ones
_IMAGE_SIZE = ("img_width and img_height",)
_WEIGHTS = ("pre_trained", "checkpoint_path", "ckpt_file")
_RATE, _EPOCHS, _BATCH, _DECAY = ("base_lr",), ("epoch_size",), ("batch_size",), ("weight_decay",)
_FOLDER, _WORKERS, _CLASSES = ("output_dir",), ("num_parallel_workers",), ("coco_classes",)
_DATA, _DEVICE, _FREEZE = ("coco_root",), ("device_target",), ("frozen_stages",)
_BOX_HEAD, _AGNOSTIC = ("rcnn_head",), ("rcnn_class_agnostic",)
_MOST, _SCORE, _IOU = ("test_max_per_img",), ("test_score_thr",), ("test_iou_thr",)

# Names of ultralytics, detectron2, torchvision's references and mmdetection, in small letters ->
# keys; of several, those that the program at hand shows are meant.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    # Options of most of them
    "lr": _RATE,
    "learning_rate": _RATE,
    "epochs": _EPOCHS,
    "max_epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "batch": _BATCH,
    "weights": _WEIGHTS,
    "model": (*_WEIGHTS, "backbone"),
    "pretrained": ("pre_trained",),
    "checkpoint_file": _WEIGHTS,
    "data": _DATA,
    "dataset_dir": _DATA,
    "device": _DEVICE,
    "workers": _WORKERS,
    "num_workers": _WORKERS,
    "classes": _CLASSES,
    "names": _CLASSES,
    "wd": _DECAY,
    "amp": ("compute_type",),
    "opt": ("optimizer",),
    "optim": ("optimizer",),
    "betas": ("adam_betas",),
    "model_ema": ("ema",),
    "ema_decay": ("ema",),
    "accumulate": ("accumulate_steps",),
    "accumulation_steps": ("accumulate_steps",),
    "gradient_accumulation_steps": ("accumulate_steps",),
    # ultralytics
    "lr0": _RATE,
    "lrf": ("min_lr_ratio",),
    "cos_lr": ("lr_type",),
    "warmup_epochs": ("warmup_step",),
    "imgsz": _IMAGE_SIZE,
    "img_size": _IMAGE_SIZE,
    "image_size": _IMAGE_SIZE,
    "project": _FOLDER,
    "name": _FOLDER,
    "save_dir": _FOLDER,
    "freeze": _FREEZE,
    "conf": _SCORE,
    "iou": _IOU,
    "max_det": _MOST,
    "agnostic_nms": ("test_nms",),
    "augment": ("test_flip", "augmentations"),
    "save_period": ("save_checkpoint_epochs",),
    "val": ("eval_interval",),
    "fliplr": ("flip_ratio",),
    "flipud": ("vertical_flip_ratio",),
    "scale": ("scale_jitter",),
    "multi_scale": ("min_size",),
    "label_smoothing": ("rcnn_label_smoothing",),
    "hsv_h": ("photometric",),
    "hsv_s": ("photometric",),
    "hsv_v": ("photometric",),
    # torchvision's references
    "data-path": _DATA,
    "lr_steps": ("sgd_step",),
    "lr_step_size": ("sgd_step",),
    "lr_scheduler": ("lr_type",),
    "norm_weight_decay": ("no_weight_decay",),
    "model_ema_decay": ("ema",),
    "lr_warmup_epochs": ("warmup_step",),
    "weights_backbone": ("pre_trained",),
    "trainable_backbone_layers": _FREEZE,
    "print_freq": ("log_interval",),
    "data_augmentation": ("augmentations",),
    "clip_grad_norm": ("clip_norm",),
    # detectron2
    "config_file": (CONFIG_PATH,),
    "solver.base_lr": _RATE,
    "solver.ims_per_batch": _BATCH,
    "ims_per_batch": _BATCH,
    "solver.max_iter": _EPOCHS,
    "max_iter": _EPOCHS,
    "solver.steps": ("sgd_step",),
    "solver.warmup_iters": ("warmup_step",),
    "solver.weight_decay_norm": ("no_weight_decay",),
    "solver.weight_decay_bias": ("no_weight_decay",),
    "solver.backbone_multiplier": ("backbone_lr_scale",),
    "solver.weight_decay": _DECAY,
    "solver.checkpoint_period": ("save_checkpoint_steps",),
    "model.weights": _WEIGHTS,
    "model.device": _DEVICE,
    "model.backbone.freeze_at": _FREEZE,
    "model.anchor_generator.sizes": ("anchor_scales",),
    "model.anchor_generator.aspect_ratios": ("anchor_ratios",),
    "model.rpn.bbox_reg_loss_type": ("rpn_box_loss",),
    "model.rpn.bbox_reg_loss_weight": ("rpn_loss_reg_weight",),
    "model.roi_box_head.bbox_reg_loss_type": ("rcnn_box_loss",),
    "model.roi_box_head.bbox_reg_loss_weight": ("rcnn_loss_reg_weight",),
    "model.roi_heads.num_classes": _CLASSES,
    "model.roi_heads.batch_size_per_image": ("num_expected_neg_stage2",),
    "model.roi_heads.score_thresh_test": _SCORE,
    "model.fpn.norm": ("fpn_norm",),
    "model.rpn.conv_dims": ("rpn_conv_depth",),
    "model.roi_box_head.num_conv": _BOX_HEAD,
    "model.roi_box_head.num_fc": _BOX_HEAD,
    "model.roi_box_head.norm": _BOX_HEAD,
    "model.roi_box_head.cls_agnostic_bbox_reg": _AGNOSTIC,
    "cls_agnostic_bbox_reg": _AGNOSTIC,
    "model.roi_heads.nms_thresh_test": _IOU,
    "input.min_size_train": ("min_size",),
    "input.max_size_train": ("max_size",),
    "input.format": ("channel_order",),
    "datasets.train": _DATA,
    "datasets.test": _DATA,
    "dataloader.num_workers": _WORKERS,
    "dataloader.sampler_train": ("train_sampler",),
    "dataloader.repeat_threshold": ("repeat_threshold",),
    "test.eval_period": ("eval_interval",),
    "test.detections_per_image": _MOST,
    # mmdetection
    "work_dir": _FOLDER,
    "accumulative_counts": ("accumulate_steps",),
    "paramwise_cfg": ("no_weight_decay", "backbone_lr_scale"),
    "load_from": ("pre_trained",),
    "samples_per_gpu": _BATCH,
    "workers_per_gpu": _WORKERS,
    "data_root": _DATA,
    "img_scale": _IMAGE_SIZE,
    "reg_class_agnostic": _AGNOSTIC,
    "num_shared_convs": _BOX_HEAD,
    "num_shared_fcs": _BOX_HEAD,
    "score_thr": _SCORE,
    "max_per_img": _MOST,
    "class_weight": ("rcnn_class_weights",),
    "resume_from": ("resume",),
    "oversample_thr": ("repeat_threshold",),
    "sampler": ("train_sampler",),
    "with_cp": ("recompute",),
    "gradient_checkpointing": ("recompute",),
}


def nearest(key: str, shown: Collection[str] = (), *, fuzzy: bool = True) -> str:
    """Return `; did you mean ...?` with the keys that are meant, or nothing.

    Args:
        key: as it was given.
        shown: keys of the program at hand, of which another program's name is one first of all.
        fuzzy: also take a key that is only similar.

    >>> nearest("epochs"), nearest("img_widht"), nearest("weights", ["checkpoint_path"])
    ('; did you mean epoch_size?', '; did you mean img_width?', '; did you mean checkpoint_path?')
    """
    typed = key[:_LONGEST_KEY].casefold()
    wanted = typed.replace("-", "_")
    keys = OTHER_NAMES.get(typed) or OTHER_NAMES.get(wanted)
    if keys:
        keys = tuple(name for name in keys if name in shown) or keys
        return f"; did you mean {' or '.join(keys)}?"
    known = [*RULES, *sorted(ZOO_KEYS), CONFIG_PATH]
    near = difflib.get_close_matches(wanted, known, 1, 0.6 if fuzzy else 1.0)
    return f"; did you mean {near[0]}?" if near else ""
