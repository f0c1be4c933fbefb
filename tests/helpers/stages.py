# SPDX-License-Identifier: Apache-2.0
"""The network with its inner stages, or its gradients, as outputs."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.FasterRcnn.names import total_loss


class Stages(nn.Cell):
    """Inference with the pyramid and the proposals as outputs: P2..P6, boxes, valid.

    With a `selector` (`DetectionSelector`) its detections come behind them, in pixels of the input.
    """

    def __init__(self, network, selector=None):
        super().__init__(auto_prefix=False)
        self.network = network
        self.selector = selector

    def construct(self, image, image_meta):
        network = self.network
        features, logits, deltas = network.extract(image, image_meta)
        bounds = network.clip_bounds(image, image_meta)
        extent = max(image.shape[2:])
        rois, valid = network.proposals(logits, deltas, network.anchors(features), bounds, extent)
        outputs = features + (rois, valid)
        if self.selector is None:
            return outputs
        head = network.classify(features, rois, image_meta)
        return outputs + self.selector(*head, rois, valid, bounds, extent)


class GivenProposals(nn.Cell):
    """In the place of a network's own proposals: those of another program."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = ms.Tensor(boxes)
        self.valid = ms.Tensor(np.ones(boxes.shape[:2], bool))

    def construct(self, logits, deltas, anchors, height_width, extent):
        return self.boxes, self.valid


class LossAndGradients(nn.Cell):
    """((total, the six losses), the gradients of all trainable parameters, `weights`)."""

    def __init__(self, loss):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.weights = ms.ParameterTuple(loss.trainable_params())
        self.differentiate = ops.value_and_grad(self.total, None, self.weights, has_aux=True)

    def total(self, *batch):
        losses = self.loss(*batch)
        return total_loss(losses), losses

    def construct(self, *batch):
        return self.differentiate(*batch)
