# SPDX-License-Identifier: Apache-2.0
"""Lenient loading: backbones of classifiers, older names, heads of other classes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.base.errors import UserError
from src.checkpoints.file import canonical_name, save_checkpoint, save_parameters
from src.checkpoints.pretrained import load_pretrained
from tests.helpers.checkpoint_files import load_detector_file
from tests.helpers.tiny_detector import same_values, tiny_model, tiny_network, values_of


@pytest.fixture
def saved(tmp_path):
    """A detector's checkpoint with its network."""
    network = tiny_network(1)
    path = tmp_path / "faster_rcnn-3_7.ckpt"
    save_checkpoint(path, network, meta={**tiny_model(), "epoch": 3})
    return path, network


def _write(path, arrays):
    ms.save_checkpoint([{"name": n, "data": Tensor(a)} for n, a in arrays.items()], str(path))
    return path


def _classifier(network):
    """The backbone's values under a classifier's names, in half precision, with its own extras."""
    arrays = {}
    for name, value in values_of(network).items():
        if name.startswith("backbone."):
            name = name.removeprefix("backbone.")
            name = name.replace("conv_down_sample", "down_sample_layer.0")
            name = name.replace("bn_down_sample", "down_sample_layer.1")
            arrays[name] = value.astype(np.float16)
    arrays["end_point.weight"] = np.ones((10, 4), np.float32)
    arrays["moments.conv1.weight"] = np.ones((4, 3, 7, 7), np.float32)
    arrays["learning_rate"] = np.ones(3, np.float32)
    arrays["global_step"] = np.ones(1, np.int32)
    return arrays


def test_backbone_of_a_classifier(tmp_path):
    source, network = tiny_network(1), tiny_network(2)
    before = values_of(network)
    path = _write(tmp_path / "resnet.ckpt", _classifier(source))
    report = load_pretrained(network, path, tiny_model())
    for name, value in values_of(network).items():
        if name.startswith("backbone."):
            expected = values_of(source)[name].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(value, expected, err_msg=name)
        else:
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert report.unused == ["end_point.weight"]
    assert all(name.startswith(("fpn_neck", "rcnn")) for name in report.missing)
    text = "\n".join(report.lines())
    assert f"{len(report.loaded)} of {len(before)} parameters loaded" in text
    assert "fpn_neck.* (2)" in text and "end_point.weight" in text


def test_older_names_of_a_detector(tmp_path):
    source, network = tiny_network(1), tiny_network(2)
    arrays = {
        name.replace("fpn_neck", "fpn_ncek"): value for name, value in values_of(source).items()
    }
    arrays |= {f"accum.{name}": value for name, value in values_of(source).items()}
    report = load_pretrained(network, _write(tmp_path / "a.ckpt", arrays), tiny_model())
    assert (
        same_values(values_of(source), values_of(network))
        and not report.unused
        and not report.missing
    )
    load_detector_file(tiny_network(3), tmp_path / "a.ckpt", tiny_model())


def test_heads_keep_the_classes_that_both_have(saved):
    """Of cat, dog and fox: dog moves, cat and fox go, and two are new."""
    network = tiny_network(2, num_classes=4)
    before, source = values_of(network), values_of(saved[1])
    report = load_pretrained(network, saved[0], tiny_model(class_names=("ant", "bee", "dog")))
    after, rows = values_of(network), {"cls": ([0, 3], [0, 2]), "reg": ([8, 11], [4, 7])}
    for name in after:
        part = name.removeprefix("rcnn.")[:3]
        if part not in rows:
            np.testing.assert_array_equal(after[name], source[name], err_msg=name)
            continue
        here, there = rows[part]
        np.testing.assert_array_equal(after[name][..., here], source[name][..., there])
        np.testing.assert_array_equal(after[name][..., 1:3], before[name][..., 1:3])
    text = "\n".join(report.lines())
    assert "classes: 1 of 3 from the file by name: dog; start fresh: ant, bee" in text
    assert "trained on the classes cat, dog, fox" in text and not report.fresh


def test_heads_of_unnamed_classes_start_fresh_by_name(tmp_path):
    source, network = tiny_network(1), tiny_network(2, num_classes=9)
    before = values_of(network)
    path = _write(tmp_path / "a.ckpt", values_of(source))
    report = load_pretrained(network, path, tiny_model(class_names=tuple("abcdefgh")))
    assert sorted(report.fresh) == [
        "rcnn.cls_scores.bias",
        "rcnn.cls_scores.weight",
        "rcnn.reg_scores.bias",
        "rcnn.reg_scores.weight",
    ]
    assert report.fresh["rcnn.cls_scores.bias"] == ((4,), (9,))
    after = values_of(network)
    for name in after:
        expected = before[name] if name in report.fresh else values_of(source)[name]
        np.testing.assert_array_equal(after[name], expected, err_msg=name)
    text = "\n".join(report.lines())
    assert all(name in text for name in report.fresh)


@pytest.mark.parametrize(
    "options, changes, message",
    [
        ({"depth": 2}, {}, "another backbone .*backbone.layer1.1"),
        ({}, {"box_convention": "modern"}, "box_convention legacy"),
        ({}, {"backbone": "resnet_v1_50"}, "backbone resnet_v1.5_50"),
    ],
)
def test_pretrained_of_another_model_is_refused(saved, options, changes, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(tiny_network(**options), saved[0], tiny_model(**changes))


@pytest.mark.parametrize(
    "key, value", [("fpn_norm", "bn"), ("rcnn_head", {"convs": 4, "dense": 1, "norm": "bn"})]
)
def test_another_form_of_the_heads_may_start_fresh_and_is_pointed_out(saved, key, value):
    expected = tiny_model(**{key: value})
    report = load_pretrained(tiny_network(2), saved[0], expected)
    (note,) = report.notes
    assert note.startswith(f"trained with {key} ") and f"set {key} to the checkpoint's" in note
    with pytest.raises(UserError, match=f"trained with {key} .*; set {key} to "):
        load_detector_file(tiny_network(2), saved[0], expected)


def test_a_deeper_backbone_does_not_pass_for_a_shallower_one(tmp_path):
    path = _write(tmp_path / "a.ckpt", _classifier(tiny_network(depth=2)))
    with pytest.raises(UserError, match="another backbone .*layer1.1"):
        load_pretrained(tiny_network(depth=1), path, tiny_model())


@pytest.mark.parametrize(
    "old, new",
    [
        ("layer3.0.down_sample_layer.1.gamma", "backbone.layer3.0.bn_down_sample.gamma"),
        ("backbone.layer3.0.down_sample.0.weight", "backbone.layer3.0.conv_down_sample.weight"),
        ("fpn_ncek.lateral_convs_list.0.bias", "fpn_neck.lateral_convs_list.0.bias"),
        ("conv1.weight", "backbone.conv1.weight"),
        ("rcnn.cls_scores.bias", "rcnn.cls_scores.bias"),
        ("end_point.weight", "end_point.weight"),
    ],
)
def test_canonical_names(old, new):
    assert canonical_name(old) == new == canonical_name(new)


def test_outputs_of_no_class_are_left_out_of_a_fresh_start(tmp_path):
    """A detector converted from torchvision scores them too; the classes' scores are loaded."""
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    wide = Parameter(Tensor(values), "rcnn.cls_scores.weight")
    path = tmp_path / "wide.ckpt"
    save_parameters(path, [wide], {"unused_outputs": 2})
    target = nn.Cell()
    target.scores = Parameter(Tensor(np.zeros((4, 4), np.float32)), "rcnn.cls_scores.weight")
    report = load_pretrained(target, path, {"unused_outputs": 0})
    assert report.loaded == ["rcnn.cls_scores.weight"] and not report.fresh
    np.testing.assert_array_equal(target.scores.asnumpy(), values[:, [0, 3, 4, 5]])
