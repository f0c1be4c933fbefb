# SPDX-License-Identifier: Apache-2.0
"""The detector for Python programs: what goes in, what comes out, what is refused."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import src
from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.images.pictures import load_picture
from src.images.reading import decode_image
from src.inference import Detector, Found
from src.model_utils.config import load_config
from tests.helpers.data_helpers import picture
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
    assert len(detector.detect(np.stack(pictures[:1] * 2))) == 2


def test_pictures_of_both_orientations_keep_their_order(path):
    """Each as if it were alone, though batches are of one canvas."""
    detector = Detector(path, device_target="CPU", canvases=["64x96", "96x64"], test_batch_size=2)
    sizes = [(40, 60), (60, 40), (61, 40), (40, 63), (50, 50)]
    pictures = [picture(*size, n) for n, size in enumerate(sizes)]
    found = detector.detect(pictures)
    assert all(same(one, detector.detect(rgb)) for one, rgb in zip(found, pictures, strict=True))
    assert any(len(one.boxes) for one in found)
    for one, (height, width) in zip(found, sizes, strict=True):
        assert (one.boxes <= np.float32([width, height] * 2) + 1e-3).all()


def test_inputs_of_every_size_go_through_the_same_network(detector):
    for shape in ((1, 3, 32, 32), (2, 3, 96, 64)):
        assert len(detector(np.zeros(shape, np.float32))) == shape[0]


def test_the_package_gives_the_class():
    assert src.Detector is Detector and src.Found is Found
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        src.Detecter  # noqa: B018


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_paths_pil_images_and_arrays_are_the_same_picture(detector, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    expected = detector.detect([rgb])
    assert type(expected) is list and len(expected) == 1
    with Image.open(path) as image:
        for one in (rgb, path, str(path), image):
            found = detector.detect(one)
            assert isinstance(found, Found) and same(found, expected[0])
        found = detector.detect((path, image, rgb))
    assert len(found) == 3 and all(same(one, expected[0]) for one in found)


def test_pil_images_are_seen_as_a_viewer_shows_them():
    """As `decode_image` decodes the same file."""
    rng = np.random.default_rng(1)
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "a.png": Image.fromarray(rng.integers(0, 255, (9, 7, 4), np.uint8)),
        "b.png": Image.fromarray(rng.integers(0, 65535, (9, 7), np.uint16)),
        "c.png": Image.fromarray(rng.integers(0, 255, (9, 7), np.uint8)),
        "d.png": Image.fromarray(rng.integers(0, 255, (9, 7, 3), np.uint8)),
        "e.png": Image.fromarray(rng.integers(0, 2, (9, 7), np.uint8) * 255).convert("1"),
    }
    for name, image in images.items():
        file = io.BytesIO()
        image.save(file, "PNG", **({"exif": turned} if name == "d.png" else {}))
        data = file.getvalue()
        seen = load_picture(Image.open(file), name)
        expected = decode_image(data, name)
        assert seen.shape == expected.shape == ((7, 9, 3) if name == "d.png" else (9, 7, 3))
        assert np.abs(seen.astype(int) - expected).max() <= 1, name


def test_pictures_that_cannot_be_read_are_refused(detector, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for path in (tmp_path / "none.png", str(tmp_path / "text.png")):
        with pytest.raises(UserError, match=f"^image {path} "):
            detector.detect(path)
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "whole.bmp")
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "whole.bmp").read_bytes()[:5000])
    with pytest.raises(UserError, match="picture 0: cannot be read"):
        detector.detect(Image.open(tmp_path / "cut.bmp"))
    with pytest.raises(UserError, match="picture 0: cannot be read .*mode F"):
        detector.detect(Image.new("F", (9, 9)))
    small = Detector(detector.config.checkpoint_path, device_target="CPU", max_image_pixels=4096)
    with pytest.raises(UserError, match="picture 0: has 5000 pixels, more than max_image_pixels"):
        small.detect(Image.new("RGB", (100, 50)))


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
        (IMAGE[:, :, :50], None, "50 x 96 pixels, not multiples of 32; pad it"),
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
