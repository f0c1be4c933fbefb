# SPDX-License-Identifier: Apache-2.0
"""What a configuration takes of memory at the very least, so that absurd sizes are refused at once.

The tensors that exist at the same time whatever the framework does, in float16. A run needs several
times as much.
"""

import os
from collections.abc import Callable

from ...base.errors import UserError
from ...FasterRcnn.names import BACKBONES
from .derived import ConfigLike, Values, canvas_sizes, num_bboxes

_MOST = 256e9  # bytes: more than a device has, of those that a detector is trained on
_NUMBER = 2  # bytes
_FEW = 4  # images
_TRAINING = "batch_size"


def _canvas(values: Values, batch: int) -> int:
    """The input, C2 to C5, the pyramid before and after its convolutions, the RPN's layer at P2."""
    stages = BACKBONES[values["backbone"]].channels
    backbone = sum(count / 4**stage for stage, count in enumerate(stages))  # as if of C2's size
    pyramid = 2 * values["fpn_out_channels"] * 4 / 3
    channels = 3 + (backbone + pyramid + values["rpn_feat_channels"]) / 16
    return int(batch * max(h * w for h, w in canvas_sizes(values)) * channels * _NUMBER)


def _weights(values: Values, batch: int) -> int:
    fpn, hidden = values["fpn_out_channels"], values["rcnn_fc_out_channels"]
    cells = values["roi_layer"]["out_size"] ** 2
    outputs = 5 * (len(values["coco_classes"]) + values["unused_outputs"])
    head, rpn = values["rcnn_head"], values["rpn_feat_channels"]
    numbers = 9 * fpn * fpn * (4 + head["convs"])
    numbers += 9 * rpn * (fpn + (values["rpn_conv_depth"] - 1) * rpn)
    dense = fpn * cells + (head["dense"] - 1) * hidden
    return _NUMBER * (numbers + hidden * (dense + outputs))


def _rois(values: Values, batch: int) -> int:
    """The features of the RoIs that go through the second stage."""
    count = max(values["num_expected_neg_stage2"], values["rpn_max_num"])
    cells = values["roi_layer"]["out_size"] ** 2
    return _NUMBER * batch * count * cells * values["fpn_out_channels"]


def _overlaps(values: Values, batch: int) -> int:
    """In training, the overlap of every anchor with every box of one image."""
    return _NUMBER * num_bboxes(values) * values["num_gts"]


# What is estimated, and the keys that it follows from, the one to lower first.
_PARTS: tuple[tuple[Callable[[Values, int], int], tuple[str, ...]], ...] = (
    (_overlaps, ("num_gts", "img_width", "img_height")),
    (_weights, ("fpn_out_channels", "rcnn_fc_out_channels", "rpn_feat_channels")),
    (_canvas, ("img_width", "img_height", "fpn_out_channels")),
    (_rois, ("rpn_max_num", "num_expected_neg_stage2", "fpn_out_channels")),
)


def too_large(values: Values) -> tuple[tuple[str, ...], str] | None:
    """What no device has the memory for.

    Args:
        values: all keys of a configuration.

    Returns:
        None, or the keys that ask for it and what is wrong with the first one's value.
    """
    most = max(_MOST, machine_memory() or 0)
    return _problem(values, _TRAINING, most) or _problem(values, "test_batch_size", most)


def require_memory(config: ConfigLike, batch_key: str = "") -> None:
    """Make sure that this machine has the memory, where it is the device.

    Args:
        config: the configuration.
        batch_key: of the images at a time; "" for one.

    Raises:
        UserError: it has less than the least that a run takes.
    """
    memory = machine_memory()
    if config.device_target != "CPU" or memory is None:
        return
    found = _problem({key: getattr(config, key) for key in config}, batch_key, memory)
    if found:
        keys, problem = found
        raise UserError(
            f"{config.origin(keys[0])}: {keys[0]}: {getattr(config, keys[0])} {problem}"
        )


def _problem(values: Values, batch_key: str, most: float) -> tuple[tuple[str, ...], str] | None:
    batch = values[batch_key] if batch_key else 1
    for part, keys in _PARTS:
        needed = part(values, batch)
        if needed <= most or (part is _overlaps and batch_key != _TRAINING):
            continue
        if batch_key and part(values, 1) < needed:  # to blame when few images would fit
            keys = (batch_key, *keys) if part(values, _FEW) <= most else (*keys, batch_key)
        others = ", ".join(f"{key} {values[key]}" for key in keys[1:])
        return keys, (
            f"with {others} takes at least {needed / 1e9:.0f} GB of memory, of {most / 1e9:.0f} GB "
            "that a device may have; lower one of them"
        )
    return None


def machine_memory() -> int | None:
    """Bytes of this machine's memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
