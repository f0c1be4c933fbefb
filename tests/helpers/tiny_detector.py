# SPDX-License-Identifier: Apache-2.0
"""A detector of a few hundred parameters with the real one's contract, and helpers around it."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.checkpoints.file import describe_model
from src.FasterRcnn.layers import Dense
from src.network_define import TrainOneStep, make_optimizer

K = 5  # detections an image


class _Block(nn.Cell):
    def __init__(self, channels_in, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv_down_sample = nn.Conv2d(channels_in, channels, 1)
        self.bn_down_sample = nn.BatchNorm2d(channels)

    def construct(self, x):
        return ops.relu(self.bn1(self.conv1(x)) + self.bn_down_sample(self.conv_down_sample(x)))


class _Backbone(nn.Cell):
    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, stride=8)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.SequentialCell([_Block(4, 4) for _ in range(depth)])

    def construct(self, x):
        return self.layer1(ops.relu(self.bn1(self.conv1(x))))


class _Head(nn.Cell):
    def __init__(self, num_classes):
        super().__init__()
        self.shared_fc_0 = Dense(4, 8)
        self.cls_scores = Dense(8, num_classes)
        self.reg_scores = Dense(8, 4 * (num_classes - 1))

    def construct(self, x):
        x = ops.relu(self.shared_fc_0(x))
        return self.cls_scores(x), self.reg_scores(x)


class TinyDetector(nn.Cell):
    """(image, image_meta) -> K detections an image that depend on the weights."""

    def __init__(self, num_classes=4, depth=1, frozen=False):
        super().__init__()
        self.backbone = _Backbone(depth)
        self.fpn_neck = nn.Conv2d(4, 4, 1, has_bias=True)
        self.rcnn = _Head(num_classes)
        self.num_classes = num_classes
        self.offsets = Tensor(np.arange(K)[None, :, None] * np.ones((1, 1, 4)), ms.float32)
        if frozen:
            self.backbone.conv1.weight.requires_grad = False

    def features(self, image):
        return self.fpn_neck(self.backbone(image)).mean((2, 3))

    def construct(self, image, image_meta):
        scores, deltas = self.rcnn(self.features(image))
        size = image_meta[:, None, :2] / image_meta[:, None, 2:]
        corner = ops.sigmoid(deltas[:, None, :2]) * size * 0.4 + self.offsets[:, :, :2]
        boxes = ops.cat([corner, corner + size * 0.3], -1)
        batch = image.shape[0]
        labels = ops.ones((batch, K), ms.int32) * (scores[:, 1:].argmax(1, keepdims=True) + 1)
        return boxes, ops.sigmoid(scores[:, :1] - self.offsets[:, :, 0]), labels, labels > 0


class TinyWithLoss(nn.Cell):
    """The six losses: smooth functions of the weights and of every input."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image, image_meta, gt_boxes, gt_labels, gt_valid, gt_crowd, sampling_key):
        features = self.network.features(image)
        scores, deltas = self.network.rcnn(features)
        wanted = gt_boxes.mean((1, 2)) / 100.0 + gt_labels.astype(ms.float32).mean(1)
        noise = sampling_key.astype(ms.float32).mean() / 2.0**31
        rpn_cls = ops.square(features.mean(1) - wanted).mean()
        rpn_reg = ops.square(features).mean() * (1.1 + noise)
        rcnn_cls = ops.square(scores - 0.5).mean() * (1.0 + image_meta[:, 2].mean())
        rcnn_reg = ops.square(deltas - 0.1).mean() * (1.0 + gt_valid.astype(ms.float32).mean())
        rcnn_reg = rcnn_reg + 0.0 * gt_crowd.astype(ms.float32).sum()
        return rpn_cls + rpn_reg, rcnn_cls + rcnn_reg, rpn_cls, rpn_reg, rcnn_cls, rcnn_reg


def tiny_batch(batch=2, seed=0):
    """A batch in the columns' order without image_index."""
    rng = np.random.default_rng(seed)
    return tuple(
        Tensor(array)
        for array in (
            rng.standard_normal((batch, 3, 32, 32)).astype(np.float32),
            np.tile(np.array([32, 32, 1, 1], np.float32), (batch, 1)),
            rng.uniform(0, 32, (batch, 4, 4)).astype(np.float32),
            rng.integers(0, 4, (batch, 4)).astype(np.int32),
            np.ones((batch, 4), bool),
            np.zeros((batch, 4), bool),
            rng.integers(0, 1000, batch).astype(np.int32),
        )
    )


def tiny_settings(**changes):
    values = dict(
        backbone="resnet_v1.5_50",
        norm="frozen_bn",
        box_convention="legacy",
        class_names=("cat", "dog", "fox"),
        img_width=64,
        img_height=64,
        keep_ratio=True,
        resize="auto",
        min_size=(800,),
        max_size=1333,
        resize_like="opencv",
        canvases=(),
        padding="canvas",
        roi_layer=dict(type="RoIAlign", out_size=7, sample_num=2),
        roi_align_finest_scale=56,
        roi_level_formula="auto",
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(58.395, 57.12, 57.375),
        channel_order="rgb",
        pad_before_normalize=False,
        anchor_scales=(8.0,),
        anchor_ratios=(0.5, 1.0, 2.0),
        anchor_strides=(4, 8, 16, 32, 64),
        anchor_rounding=True,
        rpn_target_means=(0.0,) * 4,
        rpn_target_stds=(1.0,) * 4,
        rcnn_target_means=(0.0,) * 4,
        rcnn_target_stds=(0.1, 0.1, 0.2, 0.2),
        roi_align_aligned=False,
        stem_pool="same",
        bn_eps=1e-5,
        clip_to_canvas=False,
        fpn_out_channels=256,
        rpn_feat_channels=256,
        rcnn_fc_out_channels=1024,
        unused_outputs=0,
        fpn_norm="none",
        fpn_upsample="nearest",
        rpn_conv_depth=1,
        rcnn_head=dict(convs=0, dense=2, norm="none"),
        rcnn_class_agnostic=False,
    )
    return SimpleNamespace(**{**values, **changes})


def tiny_model(**changes):
    return describe_model(tiny_settings(**changes))


def tiny_run_meta(done=2, **changes):
    """What a checkpoint says of a run of 7 steps an epoch that has made `done` of the first one."""
    values = dict(
        **tiny_model(),
        batch_size=2,
        world_size=1,
        steps_per_epoch=7,
        epoch=1,
        step_in_epoch=done,
        global_step=done,
        loss_scaler={"scale": 256.0, "good_steps": 0},
        skipped=0,
        loss_log={"sums": [0.0] * 6, "count": 0},
        loss_logs=[{"sums": [0.0] * 6, "count": 0}],
        gradient_norm={"sum": 0.0, "count": 0},
        best={},
        epoch_parts=[],
    )
    return {**values, **changes}


def tiny_network(seed=0, **options):
    """Every parameter random, the normalisation's too."""
    network = TinyDetector(**options)
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(rng.random(parameter.shape).astype(np.float32)))
    return network


def tiny_trained(seed=0, steps=3, **options):
    network = tiny_network(seed, **options)
    optimizer = make_optimizer(
        network.trainable_params(), np.full(9, 0.01, np.float32), momentum=0.9, weight_decay=1e-4
    )
    step = TrainOneStep(TinyWithLoss(network), optimizer)
    step.set_train(True)
    for i in range(steps):
        step(Tensor(1.0, ms.float32), *tiny_batch(seed=i))
    return network, optimizer, step


def values_of(cell):
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def same_values(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
