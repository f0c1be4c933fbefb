# SPDX-License-Identifier: Apache-2.0
"""The forms of an ONNX file: each is written, run and compared with the network."""

import cv2
import numpy as np
import pytest

from src.base.errors import UserError
from src.export.checking import after_nms, make_reference, run_file, verdict
from src.export.exported_model import kept
from src.export.onnx_form import OnnxForm
from src.export.plan import plan_export
from src.images.ops import InputFormat, normalize_and_pad, preprocess_image
from src.images.reading import read_image
from tests.helpers.network_helpers import detector_of_few_blocks, fill_by_recipe, small_config
from tests.helpers.odd_images import picture

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CANVAS = (64, 96)


@pytest.fixture(scope="module")
def made():
    """A network with its configuration, an input and what it finds there."""
    config = small_config(
        *CANVAS,
        3,
        backbone="resnet_v1.5_18",
        box_convention="modern",
        channel_order="bgr",
        cpu_kernels="off",
        rcnn_fc_out_channels=128,
        test_batch_size=2,
        test_score_thr=0.3,
    )
    network = detector_of_few_blocks(config)
    fill_by_recipe(network)
    network.set_train(False)
    return network, config, make_reference(network, config, CANVAS)


@pytest.fixture(scope="module")
def write(made):
    """Writes a file of a form; MindSpore's part is written once."""
    from src.export.onnx_graph import detector, writing

    network, config, reference = made
    parts = detector.write_extractor(network, CANVAS), detector.write_head(network)

    def written(path, form):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(detector, "write_extractor", lambda *_: parts[0])
            patched.setattr(detector, "write_head", lambda *_: parts[1])
            target = InputFormat.from_config(config)
            writing.write_detector(network, CANVAS, 2, path, form, target)
        return run_file(path, "ONNX", form, reference).found

    return written


def test_pixels_in_instead_of_a_normalised_picture(made, write, tmp_path):
    form = OnnxForm(with_preprocessing=True)
    found = write(tmp_path / "m.onnx", form)
    assert made[2].inputs(form)[0].dtype == np.uint8
    assert "0 without a partner" in verdict("m.onnx", form, made[2].expected, found)


def test_what_lies_behind_a_picture_does_not_matter(made, write, tmp_path):
    form = OnnxForm(with_preprocessing=True)
    expected = write(tmp_path / "m.onnx", form)
    reference = made[2]
    pixels = reference.pixels.copy()
    for own, (height, width, *_) in zip(pixels, reference.image_meta.astype(int), strict=True):
        own[height:], own[:, width:] = 200, 90
    from src.export.exported_model import open_onnx

    found = open_onnx(tmp_path / "m.onnx")[0](pixels, reference.image_meta)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_nms_all_boxes_come_out(made, write, tmp_path):
    form = OnnxForm(without_nms=True)
    network, config, reference = made
    boxes, scores = write(tmp_path / "m.onnx", form)
    assert boxes.shape == (2, config.rpn_max_num, 3, 4) and scores.shape == boxes.shape[:3]
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node[-30:]}
    assert "NonMaxSuppression" not in operators
    assert scores.max() > config.test_score_thr and (scores[scores > 0] > 0.3).all()
    found = after_nms(network, (boxes, scores))
    assert "0 without a partner" in verdict("m.onnx", form, reference.expected, found)


def test_half_is_half_the_file_and_finds_the_same(made, write, tmp_path):
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    write(whole, OnnxForm())
    found = write(half, OnnxForm(half=True))
    assert half.stat().st_size <= 0.52 * whole.stat().st_size
    expected = made[2].expected
    assert kept(expected, found) >= 0.5 * expected[3].sum() > 0  # of random weights
    assert "found again" in verdict("m.onnx", OnnxForm(half=True), expected, found)


def test_int8_quantises_the_layers_and_leaves_the_last_ones(made, write, tmp_path):
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(60, 90 - number)[..., ::-1])
    form = OnnxForm(
        int8=True,
        calibration=str(tmp_path),
        calibration_images=5,
        calibration_method="percentile",
        dynamic_batch=True,
    )
    path = tmp_path / "m.onnx"
    found = write(path, form)
    assert [output.shape for output in found] == [o.shape for o in made[2].expected]
    assert path.stat().st_size < 0.4 * (tmp_path / "float32_m.onnx").stat().st_size
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    floats = [n for n in layers if makers.get(n.input[1]) is None]
    assert len(floats) == 2 * 5 + 2 and len(layers) > 2 * len(floats)
    boxes = [n for n in graph.node if n.op_type in ("RoiAlign", "NonMaxSuppression", "TopK")]
    names = {name for node in boxes for name in node.input}
    assert not any(makers[n].op_type == "DequantizeLinear" for n in names if n in makers)


def test_int8_is_compared_on_the_pictures_that_it_was_fitted_to(made, tmp_path):
    network, config, _ = made
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(60, 90 - number)[..., ::-1])
    form = OnnxForm(int8=True, calibration=str(tmp_path), calibration_images=5)
    target = InputFormat.from_config(config)
    reference = make_reference(network, config, CANVAS, form)
    for number in range(2):
        image, meta = preprocess_image(read_image(str(tmp_path / f"{number}.png")), target)
        np.testing.assert_array_equal(reference.image[number], image)
        np.testing.assert_array_equal(reference.image_meta[number], meta)
        height, width = meta[:2].astype(int)
        pixels = normalize_and_pad(reference.pixels[number, :height, :width], target, CANVAS)
        np.testing.assert_allclose(pixels, image, atol=0.01)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"half": True, "file_format": "MINDIR"}, "half True .* only ONNX files have it"),
        ({"dynamic_batch": True, "file_format": "MINDIR"}, "dynamic_batch True"),
        ({"half": True, "int8": True}, "a file has one of them"),
        ({"int8": True}, "calibration '' .* is no folder"),
        ({"int8": True, "calibration": "/nowhere"}, "calibration '/nowhere' .* is no folder"),
    ],
)
def test_forms_that_contradict_each_other(tmp_path, changes, message):
    config = small_config(ckpt_file="a.ckpt", file_name=str(tmp_path / "m"), file_format="ONNX")
    with pytest.raises(UserError, match=message):
        plan_export(config.replace(**changes))


def test_a_model_that_has_lost_most_is_refused(made):
    expected = made[2].expected
    moved = [expected[0] + 500, *expected[1:]]
    with pytest.raises(UserError, match="only 0 of .* found again"):
        verdict("m.onnx", OnnxForm(int8=True), expected, moved)
