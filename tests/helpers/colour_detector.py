# SPDX-License-Identifier: Apache-2.0
"""A detector without weights that sees a mirrored picture mirrored."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.FasterRcnn.box_ops import BoxCoder
from src.FasterRcnn.detections import MIN_SIZE, DetectionSelector
from src.FasterRcnn.nms import build_nms, build_suppression

CELL = 16


def selector(**changes):
    """The real network's last stage with low counts."""
    values = {
        "score_threshold": 0.2,
        "max_candidates": 60,
        "max_per_image": 20,
        "min_size": MIN_SIZE,
        **changes,
    }
    suppression = build_suppression("per_class", build_nms("kernel", 0.5))
    return DetectionSelector(BoxCoder((0.0,) * 4, (1.0,) * 4, 0.0), suppression, 0.0, **values)


class ColourDetector(nn.Cell):
    """Each cell of 16 pixels is a RoI, its colour says of which class.

    Args:
        num_classes: without the background, at most 2.
    """

    def __init__(self, num_classes):
        super().__init__()
        self.detections = selector()
        self.num_classes = num_classes

    def look(self, image, meta):
        """As `FasterRcnn.look`."""
        batch, _, height, width = image.shape
        rows, columns = height // CELL, width // CELL
        cells = image.reshape(batch, 3, rows, CELL, columns, CELL).mean((3, 5))
        logits = cells.transpose(0, 2, 3, 1).reshape(batch * rows * columns, 3)
        deltas = ops.zeros((batch * rows * columns, self.num_classes, 4), ms.float32)
        rois = ops.broadcast_to(_cells(rows, columns), (batch, rows * columns, 4))
        valid = ops.ones((batch, rows * columns), ms.bool_)
        return logits[:, : 1 + self.num_classes], deltas, rois, valid, meta[:, :2]

    def construct(self, image, meta):
        """As `FasterRcnn.construct`."""
        found = self.look(image, meta)
        boxes, scores, labels, valid = self.detections(*found, max(image.shape[2:]))
        scale = ops.stack((meta[:, 3], meta[:, 2], meta[:, 3], meta[:, 2]), 1)
        return boxes / ops.expand_dims(scale, 1), scores, labels, valid


@ops.constexpr
def _cells(rows, columns):
    x1, y1 = np.meshgrid(np.arange(columns) * CELL, np.arange(rows) * CELL)
    boxes = np.stack([x1, y1, x1 + CELL, y1 + CELL], -1).reshape(1, -1, 4)
    return Tensor(boxes.astype(np.float32))
