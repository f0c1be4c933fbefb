# SPDX-License-Identifier: Apache-2.0
"""Settings of the command line that have no effect in training: whoever types one expects some."""

from collections.abc import Callable

from .command_line import COMMAND_LINE
from .derived import ConfigLike, resolved, trains_batch_norm

_BACKBONE_STAGES = 5

# Keys, whether they have an effect, and what they need for it.
_NEEDS: tuple[tuple[tuple[str, ...], Callable[[ConfigLike], bool], str], ...] = (
    (("clip_norm",), lambda c: c.grad_clip, "grad_clip True"),
    (("sgd_step",), lambda c: c.lr_type == "step", "lr_type step"),
    (("min_lr_ratio",), lambda c: c.lr_type != "step", "lr_type cosine"),
    (
        ("repeat_threshold",),
        lambda c: c.train_sampler == "repeat_factor",
        "train_sampler repeat_factor",
    ),
    (("sync_bn",), trains_batch_norm, "norm, fpn_norm or rcnn_head's norm bn"),
    (("poly_power",), lambda c: c.lr_type == "poly", "lr_type poly"),
    (
        ("restart_period", "restart_factor"),
        lambda c: c.lr_type == "cosine_restarts",
        "lr_type cosine_restarts",
    ),
    (("momentum",), lambda c: c.optimizer == "sgd", "optimizer sgd"),
    (("adam_betas", "adam_eps"), lambda c: c.optimizer != "sgd", "optimizer adam or adamw"),
    (("no_weight_decay",), lambda c: c.weight_decay > 0, "weight_decay"),
    (
        ("backbone_lr_scale", "layer_lr_decay"),
        lambda c: c.frozen_stages < _BACKBONE_STAGES,
        "frozen_stages below 5",
    ),
    (("warmup_ratio",), lambda c: c.warmup_step > 0, "warmup_step"),
    (("max_val_images",), lambda c: c.eval_interval > 0 or c.report, "eval_interval"),
    (("rpn_loss_beta",), lambda c: c.rpn_box_loss == "smooth_l1", "rpn_box_loss smooth_l1"),
    (("rcnn_loss_beta",), lambda c: c.rcnn_box_loss == "smooth_l1", "rcnn_box_loss smooth_l1"),
    (
        ("min_pos_iou_stage2",),
        lambda c: resolved(c, "low_quality_stage2") == "match",
        "low_quality_stage2 match, which is auto's meaning with box_convention legacy",
    ),
    (
        ("data_url", "train_url", "checkpoint_url"),
        lambda c: c.enable_modelarts,
        "enable_modelarts True",
    ),
    (
        ("checkpoint_path", "ckpt_file"),
        lambda c: bool(c.pre_trained or c.resume),
        "another program; weights to begin with are pre_trained, a run to go on with is resume",
    ),
)


def without_effect(config: ConfigLike) -> list[str]:
    """Return a line for each setting of the command line that training does not look at.

    Args:
        config: of a training run.
    """
    return [
        f"note: {key} has no effect here, it needs {need}"
        for keys, has_effect, need in _NEEDS
        for key in keys
        if config.origin(key) == COMMAND_LINE and getattr(config, key) and not has_effect(config)
    ]
