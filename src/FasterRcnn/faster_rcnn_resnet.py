# SPDX-License-Identifier: Apache-2.0
"""Faster R-CNN: backbone, pyramid, RPN, proposals, RoIAlign, second stage."""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .layers import compute_in
from .own_canvas import Cells, own_size, pyramid_cells
from .roi_sampling import spatial_shapes
from .sampling import Grids


class FasterRcnn(nn.Cell):
    """The detector for inference, assembled from its parts.

    Args:
        backbone: image -> C2..C5.
        fpn_neck: C2..C5 -> P2..P6.
        rpn_with_loss: P2..P6 -> logits and deltas of the anchors. (The name is that of published
            checkpoints.)
        rcnn: RoI features -> class logits and deltas.
        anchors: P2..P6 -> the anchors of each level.
        proposals: `Proposal`.
        roi_align: a Cell of `roi_align.py`.
        detections: `DetectionSelector`.
        num_roi_levels: how many levels, from P2, RoIs are pooled from.
        compute_dtype: of the convolutions and dense layers (see `compute_in`); boxes are always
            float32.
        clip_to_canvas: clip boxes to the whole input instead of the valid area, as the model
            zoo's network does.
        tight: compute every picture as if it had a canvas of its own (see `own_canvas`).
    """

    def __init__(
        self,
        backbone: nn.Cell,
        fpn_neck: nn.Cell,
        rpn_with_loss: nn.Cell,
        rcnn: nn.Cell,
        anchors: nn.Cell,
        proposals: nn.Cell,
        roi_align: nn.Cell,
        detections: nn.Cell,
        *,
        num_roi_levels: int = 4,
        compute_dtype: Any = ms.float32,
        clip_to_canvas: bool = False,
        tight: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn_neck = fpn_neck
        self.rpn_with_loss = rpn_with_loss
        self.rcnn = rcnn
        self.anchors = anchors
        self.proposals = proposals
        self.roi_align = roi_align
        self.detections = detections
        self.num_roi_levels = num_roi_levels
        self.clip_to_canvas = clip_to_canvas
        self.tight = tight
        if compute_dtype != ms.float32:
            for part in (backbone, fpn_neck, rpn_with_loss, rcnn):
                compute_in(part, compute_dtype)

    def construct(self, image: Tensor, image_meta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            image: (B, 3, H, W) float32, normalised and padded; H and W multiples of 32.
            image_meta: (B, 4) float32: height and width of the valid area, network-input pixels
                per image pixel vertically and horizontally.

        Returns:
            boxes: (B, K, 4) float32 xyxy in pixels of the original image.
            scores: (B, K) float32, falling.
            labels: (B, K) int32, 1..C; 0 where not valid.
            valid: (B, K) bool.
        """
        found = self.look(image, image_meta)
        boxes, scores, labels, valid = self.detections(*found, max(image.shape[2:]))
        return boxes / _xyxy_scale(image_meta), scores, labels, valid

    def look(self, image: Tensor, image_meta: Tensor) -> tuple[Tensor, ...]:
        """Return what detections are made of: the first arguments of `DetectionSelector`.

        Args:
            image, image_meta: see `construct`.
        """
        features, logits, deltas = self.extract(image, image_meta)
        bounds = self.clip_bounds(image, image_meta)
        extent = max(image.shape[2:])
        rois, roi_valid = self.proposals(logits, deltas, self.anchors(features), bounds, extent)
        return self.classify(features, rois, image_meta) + (rois, roi_valid, bounds)

    def extract(
        self, image: Tensor, image_meta: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return P2..P6 and the RPN's logits and deltas of each level.

        Args:
            image, image_meta: see `construct`.
        """
        own = self.own_canvas(image_meta)
        cells = pyramid_cells(own)
        features = self.fpn_neck(self.backbone(image, own), cells)
        logits, deltas = self.rpn_with_loss(features, cells)
        return features, logits, deltas

    def classify(
        self,
        features: tuple[Tensor, ...],
        rois: Tensor,
        image_meta: Tensor,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return what `rcnn` returns: logits (B*R, 1 + C), deltas (B*R, C, 4).

        Args:
            features: P2, P3, ... of `extract`; the first `num_roi_levels` are read.
            rois: (B, R, 4) float32 xyxy in network-input pixels.
            image_meta: see `construct`.
            chosen: (B, R) bool, the RoIs of a training step; None: all.
        """
        levels = self.num_roi_levels
        cells = pyramid_cells(self.own_canvas(image_meta))
        return self.rcnn(self.roi_align(features[:levels], rois, cells[:levels]), chosen)

    def own_canvas(self, image_meta: Tensor) -> Cells:
        """Return (B, 2) float32: height and width of the pictures' own canvases, px; None: all.

        Args:
            image_meta: see `construct`.
        """
        return own_size(image_meta) if self.tight else None

    def clip_bounds(self, image: Tensor, image_meta: Tensor) -> Tensor:
        """Return (B, 2) float32: height and width that boxes are clipped to, px.

        Args:
            image, image_meta: see `construct`.
        """
        if self.clip_to_canvas and self.tight:
            return own_size(image_meta)
        if self.clip_to_canvas:
            return ops.zeros_like(image_meta[:, :2]) + _height_width(*image.shape[2:])
        return image_meta[:, :2]


class FasterRcnnWithLoss(nn.Cell):
    """The detector's training losses (Faster R-CNN, section 3.2: approximate joint training).

    Args:
        network: `FasterRcnn`; parameter names stay its own.
        proposals: `Proposal` with the training counts.
        rpn_targets: `BboxAssignSample`.
        rpn_loss: `RpnLoss`.
        rcnn_targets: `BboxAssignSampleForRcnn`.
        rcnn_loss: `RcnnLoss`.
        rpn_weights, rcnn_weights: factors of the classification and the regression loss.
    """

    def __init__(
        self,
        network: FasterRcnn,
        proposals: nn.Cell,
        rpn_targets: nn.Cell,
        rpn_loss: nn.Cell,
        rcnn_targets: nn.Cell,
        rcnn_loss: nn.Cell,
        *,
        rpn_weights: tuple[float, float] = (1.0, 1.0),
        rcnn_weights: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.proposals = proposals
        self.rpn_targets = rpn_targets
        self.rpn_loss = rpn_loss
        self.rcnn_targets = rcnn_targets
        self.rcnn_loss = rcnn_loss
        self.rpn_weights = rpn_weights
        self.rcnn_weights = rcnn_weights

    def construct(
        self,
        image: Tensor,
        image_meta: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor,
        gt_valid: Tensor,
        gt_crowd: Tensor,
        sampling_key: Tensor,
    ) -> tuple[Tensor, ...]:
        """Compute the losses of a batch.

        Args:
            image, image_meta: see `FasterRcnn.construct`.
            gt_boxes: (B, G, 4) float32 xyxy in network-input pixels.
            gt_labels: (B, G) int32, 1..C.
            gt_valid: (B, G) bool, real boxes.
            gt_crowd: (B, G) bool, crowd regions; padding is neither.
            sampling_key: (B,) int32, decides the random choice of samples.

        Returns:
            float32 scalars in the order of `names.Losses`.
        """
        features, logits, deltas = self.network.extract(image, image_meta)
        anchors = self.network.anchors(features)
        all_anchors = ops.concat(anchors, 0)
        index, is_object, chosen, targets = self.rpn_targets(
            all_anchors,
            image_meta[:, :2],
            gt_boxes,
            gt_valid,
            gt_crowd,
            sampling_key,
            self.network.own_canvas(image_meta),
            self._grids(features, anchors),
        )
        rpn_losses = self.rpn_loss(
            logits,
            deltas,
            ops.stop_gradient(index),
            is_object,
            chosen,
            ops.stop_gradient(targets),
            all_anchors,
        )

        bounds = self.network.clip_bounds(image, image_meta)
        proposals, proposal_valid = self.proposals(
            logits, deltas, anchors, bounds, max(image.shape[2:])
        )
        rois, labels, chosen, targets = self.rcnn_targets(
            proposals, proposal_valid, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key
        )
        rois = ops.stop_gradient(rois)
        head = self.network.classify(features, rois, image_meta, chosen)
        rcnn_losses = self.rcnn_loss(*head, labels, chosen, ops.stop_gradient(targets), rois)

        rpn_loss = _weighted(rpn_losses, self.rpn_weights)
        rcnn_loss = _weighted(rcnn_losses, self.rcnn_weights)
        return (rpn_loss, rcnn_loss) + rpn_losses + rcnn_losses

    def _grids(self, features: tuple[Tensor, ...], anchors: tuple[Tensor, ...]) -> Grids | None:
        """Return rows, columns and anchors a cell of each level, where the choice is to know them:
        it is the same on every canvas then."""
        if not self.network.tight:
            return None
        grids: Grids = ()
        for (height, width), level in zip(spatial_shapes(features), anchors):
            grids += ((height, width, level.shape[0] // (height * width)),)
        return grids


def _weighted(losses: tuple[Tensor, ...], weights: tuple[float, float]) -> Tensor:
    """Return the weighted sum; a loss that a stage adds behind those with weights counts once."""
    total = weights[0] * losses[0] + weights[1] * losses[1]
    for loss in losses[2:]:
        total = total + loss
    return total


@ops.constexpr
def _height_width(height: int, width: int) -> Tensor:
    return Tensor(np.array([height, width], np.float32))


def _xyxy_scale(image_meta: Tensor) -> Tensor:
    """Return (B, 1, 4): network-input pixels per image pixel of x1, y1, x2, y2."""
    scale_y, scale_x = image_meta[:, 2], image_meta[:, 3]
    return ops.expand_dims(ops.stack((scale_x, scale_y, scale_x, scale_y), 1), 1)


def Faster_Rcnn_Resnet(config: Any) -> FasterRcnn:  # noqa: N802, the model zoo's name
    """Return the detector that a configuration describes, as scripts of the model zoo build it.

    Args:
        config: see `detector.build_detector`.
    """
    from ..detector import build_detector  # this package knows no configuration otherwise

    return build_detector(config)
