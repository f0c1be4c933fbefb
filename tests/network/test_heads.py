# SPDX-License-Identifier: Apache-2.0
"""Other forms of neck and heads: what they compute, and whose statistics they take."""

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoints.foreign.parameters import HeadForm, detector_shapes
from src.detector import build_detector
from src.FasterRcnn.fpn_neck import AddInterpolated, FeatPyramidNeck
from src.FasterRcnn.rcnn import Rcnn
from src.FasterRcnn.rpn import RpnRegClsBlock
from tests.helpers.network_helpers import fill_by_recipe, small_config

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def filled(cell, *, training=False):
    fill_by_recipe(cell)
    return cell.set_train(training)


@pytest.mark.parametrize(
    "form",
    [
        HeadForm("bn", 2, convs=4, dense=1, norm="bn"),
        HeadForm("gn", 3, convs=1, dense=2, norm="gn", class_agnostic=True),
        HeadForm("none", 1, convs=2, dense=1, norm="none"),
    ],
)
def test_the_listed_parameters_are_the_built_networks(form):
    network = build_detector(small_config(num_classes=3, **form.settings()))
    built = {p.name: tuple(p.shape) for p in network.get_parameters()}
    assert built == detector_shapes("resnet_v1.5_50", 4, form=form)


def test_levels_are_doubled_as_pictures_are():
    fine, coarse = numbers(2, 3, 8, 12), numbers(2, 3, 4, 6)
    add = AddInterpolated()
    expected = [
        np.stack([cv2.resize(c, (12, 8), interpolation=cv2.INTER_LINEAR) for c in image])
        for image in coarse
    ]
    found = add(Tensor(fine), Tensor(coarse)).asnumpy()
    np.testing.assert_allclose(found, fine + np.stack(expected), atol=1e-5)
    # Of a smaller picture on the same canvas, nothing behind its own is read.
    own = add(Tensor(fine[:, :, :6, :8].copy()), Tensor(coarse[:, :, :3, :4].copy())).asnumpy()
    found = add(Tensor(fine), Tensor(coarse), Tensor(np.float32([[3, 4]] * 2))).asnumpy()
    np.testing.assert_allclose(found[:, :, :6, :8], own, atol=1e-5)


def test_an_unknown_upsampling_is_refused():
    with pytest.raises(ValueError, match="'cubic' is none of nearest, bilinear"):
        FeatPyramidNeck((8, 8, 8, 8), 8, upsample="cubic")


def test_rpn_convolutions_one_behind_the_other():
    """The second one is applied to what ReLU leaves of the first."""
    deep, first, second = (filled(RpnRegClsBlock(4, 4, 3, depth)) for depth in (2, 1, 1))
    for part, one in ((first, "rpn_conv.0"), (second, "rpn_conv.1")):
        values = {p.name: p for p in deep.get_parameters()}
        for kind in ("weight", "bias"):
            getattr(part.rpn_conv, kind).set_data(values[f"{one}.{kind}"].value())
    for kind in ("rpn_cls", "rpn_reg"):
        getattr(second, kind).weight.set_data(getattr(deep, kind).weight.value())
        getattr(second, kind).bias.set_data(getattr(deep, kind).bias.value())
    x = Tensor(numbers(1, 4, 6, 5))
    hidden = ms.ops.relu(first.rpn_conv(x))
    for found, expected in zip(deep(x), second(hidden), strict=True):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), atol=1e-5)


def test_one_box_for_all_classes():
    head = filled(Rcnn(8, 3, 16, 6, 2, class_agnostic=True))
    logits, deltas = (x.asnumpy() for x in head(Tensor(numbers(5, 8, 3, 3))))
    assert (logits.shape, deltas.shape) == ((5, 8), (5, 5, 4))
    np.testing.assert_array_equal(deltas, np.broadcast_to(deltas[:, :1], deltas.shape))
    assert head.reg_scores.weight.shape == (16, 4) and np.abs(deltas).min() > 0


def test_rois_that_were_not_chosen_are_in_no_statistics():
    x, chosen = numbers(6, 32, 3, 3), np.array([1, 0, 1, 1, 0, 1], bool)
    x[~chosen] *= 100
    results = []
    for some in (True, False):
        head = filled(Rcnn(32, 3, 16, 4, convs=2, dense=1, norm="bn", eps=1e-5), training=True)
        if some:
            logits, deltas = head(Tensor(x), Tensor(chosen))
            outputs = [logits.asnumpy()[chosen], deltas.asnumpy()[chosen]]
        else:
            outputs = [output.asnumpy() for output in head(Tensor(x[chosen]))]
        states = [p.asnumpy() for p in head.get_parameters() if "moving" in p.name]
        results.append(outputs + states)
    assert len(results[0]) == 2 + 4
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    nobody = head(Tensor(x), Tensor(np.zeros(6, bool)))
    assert all(np.isfinite(output.asnumpy()).all() for output in nobody)


def test_group_norm_is_of_each_roi():
    head = filled(Rcnn(32, 3, 16, 4, convs=1, dense=1, norm="gn", eps=1e-5), training=True)
    x = numbers(4, 32, 3, 3)
    chosen = Tensor(np.array([1, 0, 0, 1], bool))
    together = [output.asnumpy() for output in head(Tensor(x), chosen)]
    alone = [output.asnumpy() for output in head(Tensor(x[:1].copy()))]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one[:1], other, rtol=1e-4, atol=1e-5)
