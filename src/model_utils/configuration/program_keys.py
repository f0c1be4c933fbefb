# SPDX-License-Identifier: Apache-2.0
"""The keys that matter most for each program: what its --help shows; --help all shows every one."""

_DATA = "dataset coco_root coco_classes mindrecord_dir"
_VALIDATION = f"{_DATA} image_dir anno_path val_data_type max_val_images"
_CANVAS = "img_width img_height"
_SIZES = f"{_CANVAS} resize min_size max_size"
_MODEL = "backbone box_convention"
_DETECTIONS = "test_batch_size test_score_thr test_iou_thr test_max_per_img"

_KEYS = {
    "train": f"device_target output_dir seed {_DATA} {_CANVAS} resize {_MODEL} anchor_scales "
    "pre_trained resume batch_size epoch_size base_lr lr_type eval_interval",
    "eval": f"device_target checkpoint_path output_dir result_file {_VALIDATION} {_CANVAS} "
    f"{_DETECTIONS} report runtime",
    "predict": "device_target compute_type checkpoint_path output_dir coco_classes "
    f"{_SIZES} {_MODEL} {_DETECTIONS} test_nms test_flip test_scales runtime",
    "export": "device_target compute_type ckpt_file file_name file_format export_target check "
    "dynamic_batch with_preprocessing without_nms half int8 calibration coco_classes canvases "
    f"{_CANVAS} resize test_batch_size test_max_per_img",
    "eval-onnx": f"file_name output_dir result_file report {_VALIDATION} skip_bad_images "
    "max_image_pixels num_parallel_workers runtime runtime_precision runtime_threads",
    "postprocess": "ann_file result_path result_file output_dir coco_classes test_max_per_img "
    "report",
    "check": f"device_target output_dir {_DATA} image_dir anno_path train_data_type "
    f"val_data_type {_SIZES} pre_trained num_gts batch_size epoch_size num_parallel_workers",
    "browse": f"output_dir seed {_DATA} image_dir anno_path train_data_type val_data_type "
    f"{_CANVAS} resize augmentations flip_ratio photometric expand_ratio crop_ratio scale_jitter",
    "report": f"{_DATA} image_dir anno_path train_data_type val_data_type test_max_per_img "
    "max_image_pixels",
    "augment-sheet": f"output_dir seed {_DATA} train_data_type {_CANVAS} resize min_size "
    "augmentations flip_ratio vertical_flip_ratio photometric expand_ratio crop_ratio "
    "scale_jitter min_visible",
}
PROGRAM_KEYS = {program: tuple(keys.split()) for program, keys in _KEYS.items()}
