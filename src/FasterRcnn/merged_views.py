# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: what several views of a picture show goes through one last NMS."""

import mindspore as ms
from mindspore import Tensor, nn, ops

from .box_ops import gather_rows
from .detections import DetectionSelector
from .faster_rcnn_resnet import FasterRcnn


class ViewCandidates(nn.Cell):
    """The detector up to its last NMS.

    Args:
        network: the detector; parameter names stay its own.
    """

    def __init__(self, network: FasterRcnn) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image: Tensor, image_meta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what `DetectionSelector.candidates` does.

        Args:
            image, image_meta: see `FasterRcnn.construct`.
        """
        return self.network.detections.candidates(*self.network.look(image, image_meta))


class MergedViews(nn.Cell):
    """The last NMS over the candidates of all views.

    Args:
        selector: the detector's own.
        extent: upper bound of the boxes' coordinates, px.
        num_classes: C, without the background.
    """

    def __init__(self, selector: DetectionSelector, extent: int, num_classes: int) -> None:
        super().__init__(auto_prefix=False)
        self.selector = selector
        self.extent = extent
        self.num_classes = num_classes

    def construct(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            boxes: (B, N, 4) float32 xyxy of all views, in the same pixels.
            scores: (B, N) float32, in any order.
            classes: (B, N) int32, 0..C-1.
            valid: (B, N) bool.

        Returns:
            As `DetectionSelector.construct`, boxes in these pixels. As many candidates enter NMS as
            those of one view could.
        """
        scores = scores * ops.cast(valid, ms.float32)
        limit = self.selector.max_candidates or scores.shape[1]
        scores, order = ops.topk(scores, min(limit, scores.shape[1]))
        boxes, classes = gather_rows(boxes, order), gather_rows(classes, order)
        return self.selector.select(
            boxes, scores, classes, scores > 0, self.extent, self.num_classes
        )
