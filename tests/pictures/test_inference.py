# SPDX-License-Identifier: Apache-2.0
"""The detector for Python programs: what goes in, what comes out, what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.inference import Detector
from src.model_utils.config import load_config
from tests.helpers.tiny_detector import TinyDetector
from tests.helpers.tiny_run import use_tiny_detector

CANVAS = {"img_height": 64, "img_width": 96}
IMAGE = np.zeros((2, 3, 64, 96), np.float32)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A tiny detector's checkpoint, of two classes and in the modern convention."""
    use_tiny_detector(monkeypatch.setattr)
    config = load_config([]).replace(coco_classes=["cat", "dog"], box_convention="modern", **CANVAS)
    path = tmp_path / "tiny.ckpt"
    save_checkpoint(path, TinyDetector(config.num_classes), meta=describe_model(config))
    return path


@pytest.fixture
def detector(path):
    return Detector(path, device_target="CPU")


def test_settings_come_from_the_checkpoint_and_keywords_go_first(path, detector):
    assert detector.class_names == ("cat", "dog")
    assert detector.config.box_convention == "modern" and detector.config.img_width == 96
    assert any("box_convention modern" in note for note in detector.notes)
    other = Detector(path, device_target="CPU", test_score_thr=0.5)
    assert other.config.test_score_thr == 0.5
    with pytest.raises(UserError, match="trained with box_convention modern"):
        Detector(path, device_target="CPU", box_convention="legacy")


def test_one_result_an_image_with_valid_detections_alone(detector):
    found = detector(IMAGE, [[64, 96], [40, 50]])
    assert len(found) == 2
    for one in found:
        assert one.boxes.shape == (len(one.scores), 4) and len(one.labels) == len(one.scores)
        assert ((one.labels >= 1) & (one.labels <= 2)).all()


def test_pictures_of_any_size_and_number(detector):
    pictures = [np.full((30 + 7 * n, 50, 3), 90, np.uint8) for n in range(3)]
    assert len(detector.detect(pictures)) == 3 and detector.detect([]) == []


@pytest.mark.parametrize(
    "image, valid_hw, message",
    [
        (IMAGE[0], None, r"image: is float32 \(3, 64, 96\)"),
        (IMAGE[:, :2], None, "give .B, 3, H, W. floats"),
        (IMAGE[:0], None, "image: is"),
        (IMAGE.astype(np.uint8), None, "image: is uint8.*normalised"),
        (IMAGE, [64, 96], "valid_hw: is"),
        (IMAGE, [[64, 96], [65, 96]], "at most 64 and 96"),
        (IMAGE, [[64, 96], [0, 96]], "valid_hw"),
        (IMAGE[:, :, :50], None, "img_height: 50 is not a multiple of 32"),
    ],
)
def test_arrays_of_another_form_are_refused(detector, image, valid_hw, message):
    with pytest.raises(UserError, match=message):
        detector(image, valid_hw)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 9), np.uint8),
        np.zeros((8, 9, 3), np.float32),
        np.zeros((8, 9, 4), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
        [[1, 2], [3, 4]],
    ],
)
def test_other_things_than_pictures_are_refused(detector, picture):
    with pytest.raises(UserError, match="picture 1: is"):
        detector.detect([np.zeros((8, 9, 3), np.uint8), picture])


def test_arrays_are_bounded_like_files(detector):
    """A view of one number may claim any size."""
    with pytest.raises(UserError, match="picture 0: has 400000000 pixels, more than max_image_pix"):
        detector.detect([np.broadcast_to(np.uint8(7), (20_000, 20_000, 3))])
    with pytest.raises(UserError, match="image: has 819200000 pixels, more than max_image_pixels"):
        detector(np.broadcast_to(np.float32(0), (2, 3, 12_800, 32_000)))


def test_mindspore_may_have_been_at_work_before(path, repo_root):
    """An operator has run, so the device is chosen: it is the CPU. Convolutions are kept fast."""
    code = (
        "import sys, mindspore as ms\n"
        "(ms.Tensor([1.0]) + 1).asnumpy()\n"
        "import os; from tests.helpers.tiny_run import use_tiny_detector; use_tiny_detector()\n"
        "del os.environ['ONEDNN_MAX_CPU_ISA']  # tiny_run sets it\n"
        "from src.inference import Detector\n"
        "Detector(sys.argv[1], device_target='CPU')\n"
        "print(os.environ['ONEDNN_MAX_CPU_ISA'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=repo_root,
        text=True,
        capture_output=True,
        timeout=120,
        env={"PATH": "", "GLOG_v": "3", "PYTHONPATH": str(repo_root)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "AVX2\n"
