# SPDX-License-Identifier: Apache-2.0
"""Configurations, batches and weights for the tests of the whole network."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src import detector
from src.FasterRcnn.backbones import block_of
from src.FasterRcnn.names import BACKBONES
from src.FasterRcnn.resnet import ResNetFea
from src.model_utils.config import load_config
from tests.helpers.recipe import make_weight

LOSSES = ("rpn_loss", "rcnn_loss", "rpn_cls", "rpn_reg", "rcnn_cls", "rcnn_reg")


def small_config(height=64, width=96, num_classes=2, **changes):
    """The real configuration on a small canvas; `num_classes` without the background."""
    values = {
        "device_target": "CPU",
        "img_height": height,
        "img_width": width,
        "coco_classes": [f"class {number}" for number in range(num_classes)],
        "num_gts": 4,
        "rpn_nms_pre": 60,
        "rpn_nms_post": 40,
        "rpn_max_num": 50,
        "rpn_proposal_nms_pre": 60,
        "rpn_proposal_nms_post": 40,
        "rpn_proposal_max_num": 50,
        "num_expected_pos": 8,
        "num_expected_neg": 16,
        "num_expected_pos_stage2": 4,
        "num_expected_neg_stage2": 16,
        "test_max_per_img": 20,
        **changes,
    }
    return load_config([]).replace(**values)


def fill_by_recipe(network):
    """Give every parameter the weights of its own name."""
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(make_weight(parameter.name, parameter.shape)))


def tiny_backbone(name, *, norm, eps, frozen_stages, stem_pool, fold):
    """Every kind of block of a backbone once; in the place of `src.detector.build_backbone`."""
    plan = BACKBONES[name]
    plan = plan._replace(blocks=(2, 1, 1, 1), base_width=min(plan.base_width, 32))
    return ResNetFea(block_of(plan), plan, norm, eps, frozen_stages, stem_pool, fold)


def detector_of_few_blocks(config):
    """The detector of a configuration with `tiny_backbone`: equal blocks only take compiling."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "build_backbone", tiny_backbone)
        return detector.build_detector(config)


def small_batch(height, width, num_classes, images=(0, 1), gts=4):
    """A batch in the columns' order; image n is the same in every batch. As NumPy arrays."""
    rows = []
    for number in images:
        rng = np.random.default_rng(number)
        valid_height, valid_width = height - 16 * (number % 2), width - 8 * (number % 3)
        image = np.zeros((3, height, width), np.float32)
        image[:, :valid_height, :valid_width] = rng.standard_normal((3, valid_height, valid_width))
        corner = rng.uniform(0, 0.4, (gts, 2)) * (valid_width, valid_height)
        side = rng.uniform(0.3, 0.6, (gts, 2)) * (valid_width, valid_height)
        boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
        real = np.arange(gts) < 2
        crowd = np.arange(gts) == 2
        boxes[3:] = 0
        labels = np.where(real | crowd, rng.integers(1, num_classes + 1, gts), 0)
        meta = np.array([valid_height, valid_width, 0.5, 0.8], np.float32)
        rows.append(
            (image, meta, boxes, labels.astype(np.int32), real, crowd, np.int32(1000 + number))
        )
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def tensors(arrays):
    """NumPy arrays -> Tensors."""
    return tuple(Tensor(np.ascontiguousarray(array)) for array in arrays)


ms.set_context(mode=ms.GRAPH_MODE)
