# SPDX-License-Identifier: Apache-2.0
"""Rows of classes by name: which are the same, and what a head says of them afterwards."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor, nn

from src.checkpoints.class_rows import ClassRows, HeadClasses, same_classes
from src.checkpoints.file import Checkpoint
from src.checkpoints.foreign.reading import Source
from src.checkpoints.pretrained import load_pretrained
from src.FasterRcnn.rcnn import Rcnn
from src.weights import opening
from tests.helpers import foreign_checkpoints as foreign

names = st.lists(st.text("abAB ", min_size=1, max_size=3).filter(str.strip), unique=True)


@given(names, names)
def test_a_class_is_taken_from_at_most_one_place(old, new):
    pairs = same_classes(old, new)
    assert len(set(pairs.values())) == len(pairs)
    for here, there in pairs.items():
        assert new[here].strip().casefold() == old[there].strip().casefold()


@given(names)
def test_the_same_names_are_the_same_classes(old):
    assert same_classes(old, old) == {place: place for place in range(len(old))}


@pytest.mark.parametrize(
    "old, new, pairs",
    [
        (["RBC", "WBC", "Platelets"], ["WBC", "Platelets"], {0: 1, 1: 2}),
        (["traffic light"], [" Traffic Light", "light"], {0: 0}),
        (["STRASSE"], ["straße"], {0: 0}),
        (["cat", "Cat"], ["cat"], {0: 0}),  # letter for letter
        (["cat", "Cat"], ["CAT"], {}),  # could be either
        (["cat"], ["CAT", "Cat"], {}),
        (["cats"], ["cat"], {}),
    ],
)
def test_which_names_are_the_same(old, new, pairs):
    assert same_classes(old, new) == pairs


def _head(classes, seed, **form):
    """A box head with random parameters, under the detector's names."""
    network = nn.Cell()
    network.rcnn = Rcnn(
        4,
        3,
        8,
        1 + len(classes.names),
        classes.unused,
        class_agnostic=classes.class_agnostic,
        **form,
    )
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    return network


def _loaded(old, new, tmp_path, **form):
    """Both networks and the report, after the second one has begun with the first one's weights."""
    source, target = _head(old, 1, **form), _head(new, 2, **form)
    arrays = {p.name: p.asnumpy() for p in source.get_parameters()}
    described = [
        {
            "class_names": list(classes.names),
            "unused_outputs": classes.unused,
            "rcnn_class_agnostic": classes.class_agnostic,
        }
        for classes in (old, new)
    ]
    before = {p.name: p.asnumpy() for p in target.get_parameters()}
    checkpoint = Checkpoint(tmp_path / "a.ckpt", arrays, described[0])
    report = load_pretrained(target, checkpoint, described[1])
    return source, target, before, report


@pytest.mark.parametrize("form", [{}, {"convs": 2, "dense": 1}], ids=["dense", "convolutions"])
@pytest.mark.parametrize("unused", [(0, 0), (2, 0), (3, 1), (0, 2)])
@pytest.mark.parametrize("agnostic", [False, True])
def test_shared_classes_are_seen_as_before(form, unused, agnostic, tmp_path):
    """Other classes, another order: the same logits and boxes of those that stay."""
    old = HeadClasses(("RBC", "WBC", "Platelets"), unused[0], agnostic)
    new = HeadClasses(("platelets", "dust", "WBC", "hair"), unused[1], agnostic)
    source, target, before, report = _loaded(old, new, tmp_path, **form)
    roi_features = Tensor(np.random.default_rng(3).random((5, 4, 3, 3)), ms.float32)
    logits, deltas = (x.asnumpy() for x in source.rcnn(roi_features))
    now, boxes = (x.asnumpy() for x in target.rcnn(roi_features))
    np.testing.assert_allclose(now[:, 0], logits[:, 0], rtol=1e-6)
    first, was = 1 + new.unused, 1 + old.unused
    for here, there in ((0, 2), (2, 1)):
        np.testing.assert_allclose(now[:, first + here], logits[:, was + there], rtol=1e-6)
        np.testing.assert_allclose(boxes[:, here], deltas[:, there], rtol=1e-6)
    scores = "rcnn.cls_scores.weight"
    after = {p.name: p.asnumpy() for p in target.get_parameters()}
    for here in (1, 3):  # classes that the file does not have
        column = first + here
        np.testing.assert_array_equal(after[scores][:, column], before[scores][:, column])
    rows = [scores, "rcnn.cls_scores.bias"]
    rows += [] if agnostic else ["rcnn.reg_scores.weight", "rcnn.reg_scores.bias"]
    assert report.by_class == rows and not report.fresh and not report.missing
    assert report.known_classes == 2
    text = "\n".join(report.lines())
    assert "classes: 2 of 4 from the file by name: platelets, WBC; start fresh: dust, hair" in text
    assert f"{len(report.loaded)} of {report.total} parameters loaded, {len(rows)} class" in text


def test_as_many_other_classes_do_not_pass_for_the_files(tmp_path):
    """The shapes fit, the meaning does not: only the background's scores are of use."""
    old, new = HeadClasses(("cat", "dog")), HeadClasses(("crane", "drone"))
    source, target, before, report = _loaded(old, new, tmp_path)
    after = {p.name: p.asnumpy() for p in target.get_parameters()}
    for part in ("weight", "bias"):
        name, boxes = f"rcnn.cls_scores.{part}", f"rcnn.reg_scores.{part}"
        found = source.rcnn.cls_scores.parameters_dict()[name].asnumpy()
        np.testing.assert_array_equal(after[name][..., 0], found[..., 0])
        np.testing.assert_array_equal(after[name][..., 1:], before[name][..., 1:])
        np.testing.assert_array_equal(after[boxes], before[boxes])
    assert "0 of 2 from the file by name, only its background; start fresh" in report.class_line


@pytest.mark.parametrize("stated", [True, False])
def test_the_same_classes_or_unnamed_ones_are_loaded_as_they_are(stated, tmp_path):
    classes = HeadClasses(("cat", "dog"))
    source = _head(classes, 1)
    arrays = {p.name: p.asnumpy() for p in source.get_parameters()}
    meta = {"class_names": ["cat", "dog"]} if stated else {}
    target = _head(classes, 2)
    expected = {"class_names": ["cat", "dog"] if stated else ["crane", "drone"]}
    report = load_pretrained(target, Checkpoint(tmp_path / "a.ckpt", arrays, meta), expected)
    assert len(report.loaded) == report.total and not report.class_line
    assert report.known_classes == (2 if stated else 0)
    for parameter in target.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), arrays[parameter.name])


def test_a_head_of_other_sizes_than_its_classes_starts_fresh(tmp_path):
    """A meta that does not tell the truth, or another width of the hidden layer."""
    rows = ClassRows(HeadClasses(("cat", "dog")), HeadClasses(("dog",)))
    fresh = np.zeros((8, 2), np.float32)
    for array in (np.ones((8, 4)), np.ones((9, 3)), np.ones(3), np.ones(())):
        assert rows.take("rcnn.cls_scores.weight", array, fresh) is None
    assert rows.take("rcnn.shared_fc_0.weight", np.ones((8, 3)), fresh) is None
    assert rows.take("rcnn.cls_scores.weight", np.ones((8, 3)), fresh).tolist() == [[1, 1]] * 8


@pytest.mark.parametrize(
    "name, arrays",
    [
        ("torchvision/fasterrcnn_resnet50_fpn_coco", foreign.torchvision),
        ("torchvision/fasterrcnn_resnet50_fpn_v2_coco", foreign.torchvision_v2),
        ("detectron2/faster_rcnn_R_50_FPN_1x", foreign.detectron2),
        ("mmdetection/faster_rcnn_r50_fpn_1x_coco", foreign.mmdetection),
    ],
)
def test_published_detectors_have_cocos_names(name, arrays, monkeypatch):
    """Their classes, at other outputs with each publisher, come by name."""
    monkeypatch.setattr(opening, "published_file", lambda row: Path(row.file_name))
    monkeypatch.setattr(opening, "read_source", lambda path: Source(path, foreign.fill(arrays())))
    source = opening.open_weights(name, "pre_trained")
    old = HeadClasses.described(source.meta)
    rows = ClassRows(old, HeadClasses(("Person", "crane", "Traffic Light")))
    assert len(old.names) == 80 and rows.shared == {0: 0, 2: 9}
    scores, deltas = (source.arrays[f"rcnn.{kind}_scores.weight"] for kind in ("cls", "reg"))
    taken = rows.take("rcnn.cls_scores.weight", scores, np.zeros((1024, 4), np.float32))
    first = 1 + old.unused
    np.testing.assert_array_equal(taken[:, [0, 1, 3]], scores[:, [0, first, first + 9]])
    boxes = rows.take("rcnn.reg_scores.weight", deltas, np.zeros((1024, 12), np.float32))
    np.testing.assert_array_equal(boxes[:, [0, 3, 8, 11]], deltas[:, [0, 3, 36, 39]])
    assert not taken[:, 2].any() and not boxes[:, 4:8].any()
