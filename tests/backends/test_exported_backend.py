# SPDX-License-Identifier: Apache-2.0
"""Exported models as `Detector`, `predict` and `serve` run them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.backends.choosing import choose_runtime, exported_format
from src.base.errors import UserError
from src.commands import predict
from src.export.model_set import ExportedModel
from src.inference import Detector
from src.model_utils.config import load_config
from src.runtimes.session import RuntimeChoice, TensorSpec
from tests.helpers.data_helpers import edit_json, picture
from tests.helpers.exported_models import onnx_with_external_data
from tests.helpers.paths import REPO
from tests.helpers.stand_ins import CLASS_NAMES, SmallDetector, export_stand_in, stand_in_config

pytest.importorskip("onnxruntime")
BATCH = 2
CANVASES = ["64x96", "96x64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model.onnx and model.mindir of two canvases, and 5 pictures."""
    folder = tmp_path_factory.mktemp("exported")
    for file_format in ("ONNX", "MINDIR"):
        config = stand_in_config(64, 96, canvases=CANVASES, file_format=file_format)
        path = folder / f"model.{file_format.lower()}"
        export_stand_in(SmallDetector(seed=4), config, path, BATCH, file_format)
    (folder / "pictures").mkdir()
    for number, size in enumerate([(40, 60), (60, 40), (61, 40), (40, 63), (50, 50)]):
        Image.fromarray(picture(*size, number)).save(folder / f"pictures/{number}.png")
    return folder


def _pictures(folder):
    return sorted((folder / "pictures").iterdir())


def test_what_counts_as_an_exported_model():
    names = ["a.onnx", "b/A.ONNX", "a.onnx.json", "a.mindir", "a.mindir.json"]
    assert [exported_format(name) for name in names] == ["ONNX"] * 3 + ["MINDIR"] * 2
    assert not any(map(exported_format, ["a.ckpt", "a.json", "onnx", "torchvision/x", ""]))


@pytest.mark.parametrize("name", ["model.onnx", "model.mindir", "model_96x64.onnx"])
def test_a_detector_of_a_file_finds_what_the_network_finds(folder, name):
    """Batches of the file's size, whatever number of pictures there is on a canvas."""
    detector = Detector(folder / name, device_target="CPU", test_batch_size=7)
    assert detector.class_names == CLASS_NAMES and detector.network is None
    assert detector.config.test_batch_size == BATCH
    found = detector.detect(_pictures(folder))
    assert [len(one.scores) for one in found] == [len(one.boxes) for one in found]
    network = SmallDetector(seed=4)
    from mindspore import Tensor

    for path, one in zip(_pictures(folder), found, strict=True):
        rgb = np.asarray(Image.open(path))
        canvas = detector.views[0].target.rule.canvas_of(*rgb.shape[:2])
        image, meta = detector.views[0].prepare(rgb, canvas)
        outputs = [o.asnumpy()[0] for o in network(Tensor(image[None]), Tensor(meta[None]))]
        keeps = outputs[3]
        np.testing.assert_allclose(one.boxes, outputs[0][keeps], atol=1e-4)
        np.testing.assert_allclose(one.scores, outputs[1][keeps], atol=1e-5)
        assert np.array_equal(one.labels, outputs[2][keeps])


def test_prepared_images_of_any_number(folder):
    detector = Detector(folder / "model.onnx", device_target="CPU")
    images = np.random.default_rng(0).normal(size=(5, 3, 96, 64)).astype(np.float32)
    together = detector(images)
    assert len(together) == 5
    for number, one in enumerate(together):
        alone = detector(images[number : number + 1])[0]
        np.testing.assert_allclose(one.boxes, alone.boxes, atol=1e-4)
    with pytest.raises(UserError, match="the canvas 32x32; the model has 64x96, 96x64"):
        detector(images[:, :, :32, :32])


def test_openvino_finds_the_same(folder):
    pytest.importorskip("openvino")
    usual = Detector(folder / "model.onnx", device_target="CPU")
    other = Detector(folder / "model.onnx", device_target="CPU", runtime="openvino")
    for one, two in zip(
        usual.detect(_pictures(folder)), other.detect(_pictures(folder)), strict=True
    ):
        np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-3)
        assert np.array_equal(one.labels, two.labels)


def test_predict_writes_what_a_file_finds(folder, tmp_path, capsys):
    arguments = ["--checkpoint_path", str(folder / "model.onnx"), "--output_dir", str(tmp_path)]
    pictures = str(folder / "pictures")
    assert predict.main([*arguments, "--input", pictures, "--no_drawing"]) == 0
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert len(entries) == 5 and "graph is compiled" not in capsys.readouterr().out


def test_onnx_needs_no_mindspore(folder):
    """A machine for deployment has ONNX Runtime alone."""
    code = (
        "import sys; sys.modules['mindspore'] = None\n"
        "from src import Detector\n"
        f"detector = Detector({str(folder / 'model.onnx')!r})\n"
        f"print(len(detector.detect({[str(path) for path in _pictures(folder)]!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "5\n", done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_flip": True}, "test_flip: .*model.onnx.json is an exported model.*one view"),
        ({"test_scales": [1.0, 1.5]}, "test_scales: .*looks at one view"),
        ({"runtime": "mindspore"}, "is ONNX, which onnxruntime and openvino run"),
        ({"runtime_precision": "bf16"}, "onnxruntime computes as the file says"),
    ],
)
def test_what_a_file_cannot_do(folder, settings, message):
    settings = {"runtime": "onnxruntime", **settings}
    with pytest.raises(UserError, match=message):
        Detector(folder / "model.onnx", device_target="CPU", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "openvino"}, "c.ckpt is a checkpoint, which mindspore runs; export it"),
        ({"runtime_precision": "bf16"}, "give compute_type with a checkpoint"),
    ],
)
def test_what_a_checkpoint_cannot_do(settings, message):
    with pytest.raises(UserError, match=message):
        choose_runtime(load_config([]).replace(checkpoint_path="c.ckpt", **settings))


def _copied(folder, tmp_path):
    for path in folder.glob("model*.onnx*"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no model", "not an ONNX model, or a damaged one"),
        (onnx_with_external_data("/etc/passwd"), "which is no file in its folder"),
    ],
)
def test_a_hostile_file_is_one_line(folder, tmp_path, content, message):
    model = _copied(folder, tmp_path)
    (tmp_path / "model_96x64.onnx").write_bytes(content)
    edit_json(tmp_path / "model.onnx.json", lambda c: c["files"][1].update(bytes=len(content)))
    with pytest.raises(UserError, match=message) as raised:
        Detector(model)
    assert "\n" not in str(raised.value)


def test_a_file_of_another_model_is_one_line(folder, tmp_path):
    model = _copied(folder, tmp_path)
    size = Path(shutil.copy(tmp_path / "model_64x96.onnx", tmp_path / "model_96x64.onnx")).stat()
    edit_json(tmp_path / "model.onnx.json", lambda c: c["files"][1].update(bytes=size.st_size))
    with pytest.raises(UserError, match="is not the model of its description: it takes"):
        Detector(model)


def test_boxes_before_suppression_are_no_detections(folder, tmp_path):
    model = _copied(folder, tmp_path)
    edit_json(tmp_path / "model.onnx.json", lambda c: c["files"][0]["outputs"].pop())
    with pytest.raises(UserError, match="gives boxes, scores, labels, not boxes"):
        Detector(model)


# --------------------------------------------------------------------------- a library's outputs


class _Session:
    """A loaded file that gives the same whatever goes in, and remembers what did."""

    runtime, outputs = "a library", ()

    def __init__(self, given, inputs=()):
        self.given, self.inputs, self.seen = given, inputs, []

    def run(self, *arrays):
        self.seen.append(arrays)
        if not self.given:
            raise ValueError("of the library")
        return self.given


def _model(folder, monkeypatch, session, change=lambda card: None):
    path = folder / "model.onnx.json"
    card = json.loads(path.read_text())
    change(card)
    other = path.with_name("other.onnx.json")
    other.write_text(json.dumps(card))
    model = ExportedModel(other, RuntimeChoice("onnxruntime"))
    monkeypatch.setattr(model, "_session", lambda canvas: session)
    return model


def _outputs(label=1, rows=BATCH, valid=True, score=0.0):
    boxes = np.zeros((rows, 6, 4), np.float32)
    labels = np.full((rows, 6), label, np.int32)
    return (boxes, boxes[..., 0] + np.float32(score), labels, boxes[..., 0] == valid)


IMAGES = np.zeros((BATCH, 3, 64, 96), np.float32), np.ones((BATCH, 4), np.float32)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((), "of the library"),
        (_outputs()[:3], "its outputs have the shapes"),
        (_outputs(rows=1), "its outputs have the shapes"),
        (_outputs(label=4, valid=False), "gives labels 4 to 4 of 3 classes"),
        (_outputs(label=0, valid=False), "gives labels 0 to 0"),
        (_outputs(score=np.nan, valid=False), "that are no numbers"),
    ],
)
def test_a_file_that_is_no_detector_is_one_line(folder, monkeypatch, outputs, message):
    model = _model(folder, monkeypatch, _Session(outputs))
    with pytest.raises(UserError, match="is not the model of its description") as raised:
        model(*IMAGES)
    assert message in str(raised.value)


def test_rows_of_what_is_no_detection_do_not_matter(folder, monkeypatch):
    model = _model(folder, monkeypatch, _Session(_outputs(label=99, score=np.nan)))
    assert not model(*IMAGES)[3].any()


def _free_by_name(card):
    card["form"] = {"dynamic_batch": True}


def _free_by_shape(card):
    for file in card["files"]:
        for tensor in (*file["inputs"], *file["outputs"]):
            tensor["shape"][0] = None


@pytest.mark.parametrize("change", [_free_by_name, _free_by_shape])
def test_a_free_batch_goes_in_as_it_is(folder, monkeypatch, change):
    session = _Session(_outputs(rows=5))
    model = _model(folder, monkeypatch, session, change)
    assert model.batch is None
    images = (np.zeros((5, 3, 64, 96), np.float32), np.ones((5, 4), np.float32))
    assert len(model(*images)[0]) == 5 and len(session.seen) == 1


def test_a_file_that_normalises_itself_gets_its_pixels(folder, monkeypatch):
    def takes_pixels(card):
        card["preprocessing"]["channel_order"] = "bgr"
        for file in card["files"]:
            image = file["inputs"][0]
            image.update(dtype="uint8", shape=[BATCH, file["height"], file["width"], 3])

    inputs = [
        TensorSpec("image", "uint8", (BATCH, 64, 96, 3)),
        TensorSpec("image_meta", "float32", (BATCH, 4)),
    ]
    session = _Session(_outputs(), inputs)
    model = _model(folder, monkeypatch, session, takes_pixels)
    rgb = picture(64, 96)
    from src.images.ops import preprocess_image

    image, meta = preprocess_image(rgb, model.input)
    model(np.stack([image] * BATCH), np.stack([meta] * BATCH))
    seen = session.seen[0][0]
    assert seen.dtype == np.uint8 and np.array_equal(seen[0], rgb)
