# SPDX-License-Identifier: Apache-2.0
"""The network's parts as graphs of their own, timed alone on the tensors that really reach them.

Alone, a part pays for reading its inputs and writing its outputs, and nothing runs beside it: the
sum of the parts is not exactly the whole.
"""

import itertools
from typing import NamedTuple

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from benchmarks.peers.protocol import seconds_of
from src.FasterRcnn.anchor_generator import pyramid_anchors
from src.FasterRcnn.names import feature_shapes
from src.training.steps import StepInTwoGraphs


class Part(NamedTuple):
    """A part with its inputs.

    Attributes:
        name: for the table.
        cell: takes `inputs`.
        inputs: tensors.
        trained: whether gradients go through it.
        kept: tensors whose addresses are among the inputs.
    """

    name: str
    cell: nn.Cell
    inputs: tuple
    trained: bool = False
    kept: tuple = ()


class _Grouped(nn.Cell):
    """A part that takes tuples, as a Cell that takes their tensors one after the other."""

    def __init__(self, part, *sizes):
        super().__init__(auto_prefix=False)
        self.part = part
        ends = list(itertools.accumulate(sizes))
        self.slices = list(zip([0, *ends], ends, strict=False))  # the last start has no end
        self.grouped = ends[-1]

    def construct(self, *tensors):
        groups = ()
        for start, end in self.slices:
            groups = groups + (tensors[start:end],)
        return self.part(*groups, *tensors[self.grouped :])


class _Propose(nn.Cell):
    """Logits and deltas of all levels, then what boxes are clipped to -> proposals."""

    def __init__(self, proposals, anchors, extent):
        super().__init__(auto_prefix=False)
        self.proposals, self.anchors, self.levels = proposals, anchors, len(anchors)
        self.extent = extent

    def construct(self, *tensors):
        logits, deltas = tensors[: self.levels], tensors[self.levels : 2 * self.levels]
        return self.proposals(logits, deltas, self.anchors, tensors[-1], self.extent)


class _Detect(nn.Cell):
    """What `DetectionSelector` is given of one batch -> detections."""

    def __init__(self, detections, extent):
        super().__init__(auto_prefix=False)
        self.detections, self.extent = detections, extent

    def construct(self, *inputs):
        return self.detections(*inputs, self.extent)


class _Pool(nn.Cell):
    """RoIs, then the levels -> RoI features; no gradient goes to the RoIs."""

    def __init__(self, roi_align):
        super().__init__(auto_prefix=False)
        self.roi_align = roi_align

    def construct(self, rois, *features):
        return self.roi_align(features, ops.stop_gradient(rois))


class _RpnTargets(nn.Cell):
    def __init__(self, targets, anchors):
        super().__init__(auto_prefix=False)
        self.targets, self.anchors = targets, anchors

    def construct(self, *inputs):
        return self.targets(self.anchors, *inputs)


class _WithGradient(nn.Cell):
    """Forward and backward of a part: the gradients of its inputs and weights."""

    def __init__(self, part):
        super().__init__(auto_prefix=False)
        self.part = part
        self.weights = ParameterTuple(part.trainable_params())
        self.by_list = len(self.weights) > 0
        self.gradient = ops.GradOperation(get_all=True, get_by_list=self.by_list, sens_param=True)

    def construct(self, sens, *inputs):
        if self.by_list:
            return self.gradient(self.part, self.weights)(*inputs, sens)
        return self.gradient(self.part)(*inputs, sens)


class _Update(nn.Cell):
    """What a step does with its gradients: their norm, and the optimizer."""

    def __init__(self, update):
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, loss_scale, *gradients):
        return self.update(gradients, loss_scale)


def _anchors(network, image):
    """The anchors of each level on the canvas of `image`."""
    shapes = feature_shapes(*image.shape[2:])
    return tuple(Tensor(level) for level in pyramid_anchors(shapes, *network.anchors.settings))


def inference_parts(network, batch):
    """Return the parts of (image, image_meta) -> boxes; computes their inputs on the way."""
    image, meta = batch
    bounds = meta[:, :2] + 0
    parts, extracted = _extraction(network, image)
    features, logits, deltas = extracted
    extent = max(image.shape[2:])
    propose = _Propose(network.proposals, _anchors(network, image), extent)
    parts.append(Part("proposals", propose, (*logits, *deltas, bounds)))
    rois, valid = _outputs(parts[-1])
    parts += _second_stage(network, features, rois)
    head = _outputs(parts[-1])
    detect = _Detect(network.detections, extent)
    parts.append(Part("detections", detect, (*head, rois, valid, bounds)))
    return parts


def training_parts(step, batch):
    """Return the parts of a training step."""
    loss, network = step.loss_net, step.loss_net.network
    image, meta, gt_boxes, gt_labels, gt_valid, gt_crowd, key = batch
    bounds = meta[:, :2] + 0
    parts, (features, logits, deltas) = _extraction(network, image)
    anchors = _anchors(network, image)
    parts.append(
        Part(
            "RPN targets",
            _RpnTargets(loss.rpn_targets, ops.concat(anchors, 0)),
            (bounds, gt_boxes, gt_valid, gt_crowd, key),
        )
    )
    targets = _outputs(parts[-1])
    levels = len(logits)
    parts.append(
        Part(
            "RPN loss",
            _Grouped(loss.rpn_loss, levels, levels),
            (*logits, *deltas, *targets, ops.concat(anchors, 0)),
            trained=True,
        )
    )
    propose = _Propose(loss.proposals, anchors, max(image.shape[2:]))
    parts.append(Part("proposals", propose, (*logits, *deltas, bounds)))
    proposals = _outputs(parts[-1])
    parts.append(
        Part(
            "RCNN targets",
            loss.rcnn_targets,
            (*proposals, gt_boxes, gt_labels, gt_valid, gt_crowd, key),
        )
    )
    rois, labels, chosen, wanted = _outputs(parts[-1])
    parts += _second_stage(network, features, rois)
    parts.append(
        Part(
            "RCNN loss",
            loss.rcnn_loss,
            (*_outputs(parts[-1]), labels, chosen, wanted, rois),
            trained=True,
        )
    )
    gradients = tuple(ops.zeros_like(weight) for weight in step.optimizer.parameters)
    if isinstance(step, StepInTwoGraphs):
        update, inputs = step.update, (step.update.places(gradients),)
    else:
        update, inputs = _Update(step.update), gradients
    inputs = (ops.ones((), ms.float32), *inputs)
    parts.append(Part("norm and update", update, inputs, kept=gradients))
    return parts


def _extraction(network, image):
    """Backbone, neck and RPN head; and the features, logits and deltas."""
    backbone = Part("backbone", network.backbone, (image,), trained=True)
    stages = _outputs(backbone)
    neck = Part("neck", _Grouped(network.fpn_neck, len(stages)), stages, trained=True)
    features = _outputs(neck)
    head = Part("RPN head", _Grouped(network.rpn_with_loss, len(features)), features, trained=True)
    logits, deltas = head.cell(*head.inputs)
    return [backbone, neck, head], (features, tuple(logits), tuple(deltas))


def _second_stage(network, features, rois):
    """RoIAlign and the box head."""
    levels = features[: network.num_roi_levels]
    pool = Part("RoIAlign", _Pool(network.roi_align), (rois, *levels), trained=True)
    return [pool, Part("box head", network.rcnn, _outputs(pool), trained=True)]


def _outputs(part):
    """Run a part once; its outputs as a tuple of tensors that are there."""
    outputs = part.cell(*part.inputs)
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def time_parts(parts, warmup, repeats):
    """Time every part's forward pass, and forward and backward together where it is trained.

    Returns:
        A list of {"name", "forward": seconds, "with_gradient": seconds or None}, lists of `repeats`
        each.
    """
    training = any(part.name == "norm and update" for part in parts)
    rows = []
    for part in parts:
        row = {"name": part.name, "forward": _seconds(part.cell, part.inputs, warmup, repeats)}
        row["with_gradient"] = None
        if training and part.trained:
            sens = _ones_like(part.cell(*part.inputs))
            cell = _WithGradient(part.cell)
            inputs = (sens, *part.inputs)
            row["with_gradient"] = _seconds(cell, inputs, warmup, repeats)
        rows.append(row)
    return rows


def _ones_like(outputs):
    if isinstance(outputs, tuple | list):
        return tuple(_ones_like(output) for output in outputs)
    return ops.ones_like(outputs)


def _seconds(cell, inputs, warmup, repeats):
    return seconds_of(lambda: _wait(cell(*inputs)), warmup + repeats)[warmup:]


def _wait(outputs):
    """Return when the tensors have been computed: they are read."""
    if isinstance(outputs, Tensor):
        outputs.asnumpy()
    else:
        for output in outputs:
            _wait(output)
