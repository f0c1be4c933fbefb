# SPDX-License-Identifier: Apache-2.0
"""Builds the network that a configuration describes, and opens the one of a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from .checkpoints.file import Checkpoint, describe_model
from .checkpoints.loading import load_detector
from .checkpoints.settings import adopt_settings
from .FasterRcnn.anchor_generator import PyramidAnchors
from .FasterRcnn.backbones import build_backbone
from .FasterRcnn.bbox_assign_sample import BboxAssignSample
from .FasterRcnn.bbox_assign_sample_stage2 import BboxAssignSampleForRcnn
from .FasterRcnn.box_losses import build_box_loss
from .FasterRcnn.box_ops import BoxCoder, pixel_offset
from .FasterRcnn.class_loss import ClassLoss
from .FasterRcnn.detections import MIN_SIZE, DetectionSelector
from .FasterRcnn.faster_rcnn_resnet import FasterRcnn, FasterRcnnWithLoss
from .FasterRcnn.fpn_neck import FeatPyramidNeck
from .FasterRcnn.layers import at_least_one
from .FasterRcnn.matcher import Matcher
from .FasterRcnn.merged_views import MergedViews, ViewCandidates
from .FasterRcnn.names import BACKBONES, HARD, ROI_STRIDES, TIGHT
from .FasterRcnn.nms import build_nms, build_suppression
from .FasterRcnn.norms import share_statistics
from .FasterRcnn.proposal_generator import Proposal
from .FasterRcnn.rcnn import Rcnn, RcnnLoss
from .FasterRcnn.recomputation import recompute
from .FasterRcnn.roi_align import build_roi_align
from .FasterRcnn.rpn import RPN, RpnLoss
from .FasterRcnn.sampling import BalancedSampler
from .FasterRcnn.soft_nms import SoftNms
from .images.views import views_of
from .model_utils.config import Config
from .model_utils.configuration.class_weights import class_weights
from .model_utils.configuration.derived import resolved
from .model_utils.cpu_operators import cpu_library
from .model_utils.device_adapter import compute_dtype, nms_kind, roi_align_kind
from .native.operators import use_native_operators
from .processes.ranks import SharedCount, SumOverRanks
from .weights.opening import open_weights


def build_detector(config: Config) -> FasterRcnn:
    """Return the `FasterRcnn` that `config` describes, with freshly initialised weights.

    Args:
        config: a `Config`, or anything with its keys and derived values as attributes.
    """
    offset = pixel_offset(config.box_convention)
    tight = resolved(config, "padding") == TIGHT
    network = FasterRcnn(
        backbone=build_backbone(
            config.backbone,
            norm=config.norm,
            eps=config.bn_eps,
            frozen_stages=config.frozen_stages,
            stem_pool=config.stem_pool,
            fold=compute_dtype(config) == "float32",
        ),
        fpn_neck=FeatPyramidNeck(
            BACKBONES[config.backbone].channels,
            config.fpn_out_channels,
            config.fpn_norm,
            config.bn_eps,
            config.fpn_upsample,
        ),
        rpn_with_loss=RPN(
            config.fpn_out_channels,
            config.rpn_feat_channels,
            len(config.anchor_scales) * len(config.anchor_ratios),
            config.rpn_conv_depth,
        ),
        rcnn=Rcnn(
            config.fpn_out_channels,
            config.roi_layer["out_size"],
            config.rcnn_fc_out_channels,
            config.num_classes,
            config.unused_outputs,
            **config.rcnn_head,
            eps=config.bn_eps,
            class_agnostic=config.rcnn_class_agnostic,
        ),
        anchors=PyramidAnchors(
            config.anchor_strides,
            config.anchor_scales,
            config.anchor_ratios,
            offset,
            config.anchor_rounding,
        ),
        proposals=_proposals(config, offset, training=False),
        roi_align=_roi_align(config, offset),
        detections=_detections(config, offset),
        num_roi_levels=len(ROI_STRIDES),
        compute_dtype=getattr(ms, compute_dtype(config)),
        clip_to_canvas=config.clip_to_canvas,
        tight=tight,
    )
    kernels = cpu_library(config)
    if kernels:
        use_native_operators(network, kernels, tight, apart=bool(config.recompute))
    return network


@dataclass
class OpenDetector:
    """A checkpoint together with the configuration that its weights belong to.

    Attributes:
        config: the effective one.
        checkpoint: what `open_weights` made of the file.
        lines: what a user should know about the settings; `network` adds to them.
        key: the setting that named the file, for errors.
    """

    config: Config
    checkpoint: Checkpoint
    lines: list[str] = field(default_factory=list)
    key: str = "checkpoint_path"

    def network(self, **changes: Any) -> FasterRcnn:
        """Build the detector for evaluation, with the weights of the file.

        Args:
            changes: configuration keys that differ for this network.

        Raises:
            UserError: the weights do not fit the configuration.
        """
        config = self.config.replace(**changes)
        network = build_detector(config)
        notes = load_detector(network, self.checkpoint, describe_model(config), key=self.key)
        lines = (f"note: {note}" for note in notes)
        self.lines += [line for line in lines if line not in self.lines]
        network.set_train(False)
        return network


def open_detector(config: Config, path: str | Path, key: str = "checkpoint_path") -> OpenDetector:
    """Read a checkpoint, and let the defaults of `config` give way to its settings.

    The one way from a file to a network: evaluation, prediction, export and `Detector` take and
    refuse the same files.

    Args:
        config: of the user.
        path: the file, or the name of published weights.
        key: the setting that named it, for errors.

    Returns:
        `OpenDetector`.

    Raises:
        UserError: the file cannot be used, or contradicts what the user has set.
    """
    checkpoint = open_weights(path, key)
    config, lines = adopt_settings(config, checkpoint)
    return OpenDetector(config, checkpoint, lines, key)


class ViewsDetector:
    """A detector of pictures in the views of the configuration; of one view it is the network.

    Args:
        network: of `build_detector`.
        config: the same configuration; uses test_scales and test_flip.
        run: calls a Cell, such as a `CompileCache`.

    Attributes:
        views: `views_of` the configuration.
    """

    def __init__(
        self, network: FasterRcnn, config: Config, run: Callable[..., Sequence[Tensor]]
    ) -> None:
        self.views = views_of(config)
        self._network, self._run = network, run
        self._convention = config.box_convention
        if len(self.views) > 1:
            extent = max(max(canvas) for canvas in self.views[0].target.rule.canvases)
            self._candidates = ViewCandidates(network)
            self._merge = MergedViews(network.detections, extent, config.num_classes - 1)

    def __call__(self, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Detect.

        Args:
            inputs: image (B, 3, H, W) float32 and meta (B, 4) float32 of each view.

        Returns:
            boxes (B, K, 4) in pixels of the pictures, scores, labels and valid (B, K), as
            `FasterRcnn.construct`.
        """
        if len(self.views) == 1:
            return self.detect(*inputs[0])
        (image, meta), parts = inputs[0], []
        limits = np.array([image.shape[3], image.shape[2]] * 2, np.float32)
        for view, one in zip(self.views, inputs, strict=True):
            boxes, *others = self._outputs(self._candidates, *one)
            boxes = view.in_pixels_of(meta, boxes, one[1], self._convention)
            parts.append((np.clip(boxes, 0, limits), *others))
        together = (np.concatenate(part, 1) for part in zip(*parts, strict=True))
        boxes, scores, labels, valid = self._outputs(self._merge, *together)
        return [boxes / meta[:, None, [3, 2, 3, 2]], scores, labels, valid]

    def detect(self, image: np.ndarray, meta: np.ndarray) -> list[np.ndarray]:
        """Detect in one view, whatever `views` are.

        Args:
            image: (B, 3, H, W) float32.
            meta: (B, 4) float32.

        Returns:
            As `__call__`.
        """
        return self._outputs(self._network, image, meta)

    def _outputs(self, cell: nn.Cell, *arrays: np.ndarray) -> list[np.ndarray]:
        outputs = self._run(cell, *(Tensor(np.ascontiguousarray(array)) for array in arrays))
        return [output.asnumpy() for output in outputs]


def build_loss(network: FasterRcnn, config: Config, world_size: int = 1) -> FasterRcnnWithLoss:
    """Return the `FasterRcnnWithLoss` around `network`, the Cell to differentiate.

    With several ranks, the mean of their losses (and gradients) is that of their batches together.

    Args:
        network: of `build_detector`.
        config: the same configuration.
        world_size: number of ranks.

    Raises:
        UserError: rcnn_class_weights does not fit the classes.
    """
    if config.sync_bn and world_size > 1:
        share_statistics(network, SumOverRanks())
    recompute(network, config.recompute)
    offset = pixel_offset(config.box_convention)
    divisor = SharedCount(world_size) if world_size > 1 else at_least_one
    expects = resolved(config, "rpn_loss_divisor") == "expected"
    rpn_box_loss = build_box_loss(
        config.rpn_box_loss, _rpn_coder(config, offset), config.rpn_loss_beta
    )
    rcnn_box_loss = build_box_loss(
        config.rcnn_box_loss, _rcnn_coder(config, offset), config.rcnn_loss_beta
    )
    class_loss = ClassLoss(config.rcnn_label_smoothing, class_weights(config), divisor)
    return FasterRcnnWithLoss(
        network,
        _proposals(config, offset, training=True),
        _rpn_targets(config, offset),
        RpnLoss(rpn_box_loss, config.num_expected_neg if expects else None, divisor),
        _rcnn_targets(config, offset),
        RcnnLoss(rcnn_box_loss, class_loss, divisor),
        rpn_weights=(config.rpn_loss_cls_weight, config.rpn_loss_reg_weight),
        rcnn_weights=(config.rcnn_loss_cls_weight, config.rcnn_loss_reg_weight),
    )


def _rpn_targets(config: Config, offset: float) -> BboxAssignSample:
    targets = BboxAssignSample(
        Matcher(
            config.pos_iou_thr,
            config.neg_iou_thr,
            config.min_pos_iou,
            steal=resolved(config, "low_quality_target") == "best_of",
        ),
        BalancedSampler(config.num_expected_pos, config.num_expected_neg),
        _rpn_coder(config, offset),
        offset,
        config.anchor_filter,
    )
    kernels = cpu_library(config)
    if kernels:
        use_native_operators(targets, kernels)
    return targets


def _rcnn_targets(config: Config, offset: float) -> BboxAssignSampleForRcnn:
    matches_low_quality = resolved(config, "low_quality_stage2") == "match"
    return BboxAssignSampleForRcnn(
        Matcher(
            config.pos_iou_thr_stage2,
            config.neg_iou_thr_stage2,
            config.min_pos_iou_stage2 if matches_low_quality else None,
            steal=resolved(config, "low_quality_target") == "best_of",
        ),
        BalancedSampler(config.num_expected_pos_stage2, config.num_expected_neg_stage2),
        _rcnn_coder(config, offset),
        offset,
        tight=resolved(config, "padding") == TIGHT,
    )


def _rpn_coder(config: Config, offset: float) -> BoxCoder:
    return BoxCoder(config.rpn_target_means, config.rpn_target_stds, offset)


def _rcnn_coder(config: Config, offset: float) -> BoxCoder:
    return BoxCoder(config.rcnn_target_means, config.rcnn_target_stds, offset)


def _nms(config: Config, threshold: float) -> nn.Cell:
    return build_nms(nms_kind(config.device_target), threshold)


def _proposals(config: Config, offset: float, *, training: bool) -> Proposal:
    if training:
        threshold = config.rpn_proposal_nms_thr
        counts = {
            "nms_pre": config.rpn_proposal_nms_pre,
            "nms_post": config.rpn_proposal_nms_post,
            "max_num": config.rpn_proposal_max_num,
            "min_size": config.rpn_proposal_min_bbox_size,
        }
    else:
        threshold = config.rpn_nms_thr
        counts = {
            "nms_pre": config.rpn_nms_pre,
            "nms_post": config.rpn_nms_post,
            "max_num": config.rpn_max_num,
            "min_size": config.rpn_min_bbox_min_size,
        }
    if config.clip_to_canvas and not counts["min_size"]:
        counts["min_size"] = None
    return Proposal(_rpn_coder(config, offset), _nms(config, threshold), offset, **counts)


def _suppression(config: Config) -> nn.Cell:
    if config.test_nms_kind == HARD:
        return build_suppression(config.test_nms, _nms(config, config.test_iou_thr))
    return SoftNms(
        config.test_nms_kind,
        per_class=config.test_nms == "per_class",
        iou_threshold=config.test_iou_thr,
        sigma=config.test_nms_sigma,
        min_score=config.test_nms_min_score,
        most=config.test_max_per_img,
    )


def _detections(config: Config, offset: float) -> DetectionSelector:
    return DetectionSelector(
        _rcnn_coder(config, offset),
        _suppression(config),
        offset,
        score_threshold=config.test_score_thr,
        max_candidates=config.test_pre_nms_num,
        max_per_image=config.test_max_per_img,
        min_size=None if config.clip_to_canvas else offset + MIN_SIZE,
    )


def _roi_align(config: Config, offset: float) -> nn.Cell:
    return build_roi_align(
        roi_align_kind(config.device_target),
        strides=ROI_STRIDES,
        out_size=config.roi_layer["out_size"],
        sample_num=config.roi_layer["sample_num"],
        finest_scale=config.roi_align_finest_scale,
        offset=offset,
        aligned=config.roi_align_aligned,
        level_formula=resolved(config, "roi_level_formula"),
    )
