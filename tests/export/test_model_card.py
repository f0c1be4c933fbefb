# SPDX-License-Identifier: Apache-2.0
"""The description of exported models: what is written is read, and what others write is checked."""

import json

import numpy as np
import pytest

from src.base.errors import UserError
from src.export.exported_model import OUTPUT_NAMES
from src.export.model_card import ModelFile, card_path, make_card, model_paths, read_card
from src.export.model_set import ExportedModel
from src.images.geometry import ResizeRule
from src.images.ops import InputFormat
from tests.helpers.stand_ins import CLASS_NAMES, stand_in_config


def _config(**changes):
    values = {
        "resize": "short_edge",
        "min_size": (600, 800),
        "max_size": 1333,
        "resize_like": "torchvision",
        **changes,
    }
    return stand_in_config(64, 96, **values)


def _image(canvas):
    return {"image": ("image", np.broadcast_to(np.float32(0), (1, 3, *canvas)))}


def _card(config):
    canvases = ResizeRule.from_config(config).canvases
    outputs = {name: (name, np.zeros((1, 5), np.float32)) for name in OUTPUT_NAMES}
    files = [
        ModelFile(f"m_{number}.onnx", canvas, 1000 + number, inputs=_image(canvas), outputs=outputs)
        for number, canvas in enumerate(canvases)
    ]
    return make_card(config, target="CPU", files=files, checkpoint={})


@pytest.fixture
def place(tmp_path):
    """Writes a description, which a function may have changed; returns its path."""

    def write(config, change=lambda card: None):
        card = _card(config)
        change(card)
        path = tmp_path / "m.onnx.json"
        path.write_text(json.dumps(card))
        return path

    return write


def test_names(tmp_path):
    model = tmp_path / "my.model.onnx"
    assert card_path(model).name == "my.model.onnx.json"
    assert model_paths(model, [(800, 1344)]) == [model]
    names = [path.name for path in model_paths(model, [(800, 1344), (1344, 800)])]
    assert names == ["my.model_800x1344.onnx", "my.model_1344x800.onnx"]


def test_several_canvases_come_back_as_they_were(place):
    config = _config(channel_order="bgr", pixel_mean=(1.5, 2.0, 3.0), pad_before_normalize=True)
    card = read_card(place(config))
    assert card.content["version"] == 2 and card.class_names == CLASS_NAMES
    rule = ResizeRule("short_edge", ((800, 1344), (1344, 800)), (800,), 1333, "torchvision")
    expected = InputFormat.from_config(config)
    assert card.input == InputFormat(rule, expected.mean, expected.std, "bgr", True)
    files = [(file.name, file.canvas, file.size) for file in card.files]
    assert files == [("m_0.onnx", (800, 1344), 1000), ("m_1.onnx", (1344, 800), 1001)]


@pytest.mark.parametrize("keep_ratio", [True, False])
def test_one_canvas_is_told_as_older_readers_know_it(place, keep_ratio):
    config = stand_in_config(64, 96, keep_ratio=keep_ratio)
    card = read_card(place(config))
    assert card.content["version"] == 1 and card.content["model_bytes"] == 1000
    assert list(card.content["preprocessing"])[:3] == ["height", "width", "keep_ratio"]
    assert card.input.rule.kind == ("canvas" if keep_ratio else "stretch")
    assert card.input.rule.canvases == ((64, 96),)
    assert [(file.name, file.size) for file in card.files] == [("m.onnx", 1000)]


def test_descriptions_of_earlier_versions_are_read(tmp_path):
    values = {"height": 64, "width": 96, "keep_ratio": False, "channel_order": "bgr"}
    values |= {"pixel_mean": [1, 2.5, 3], "pixel_std": [1, 1, 2], "pad_before_normalize": True}
    card = {"format": "faster_rcnn_model", "version": 1, "file_format": "ONNX", "inputs": []}
    card |= {"class_names": ["cat", "dog"], "preprocessing": values, "model_bytes": 7}
    (tmp_path / "a.b.onnx.json").write_text(json.dumps(card))
    read = read_card(tmp_path / "a.b.onnx.json")
    rule = ResizeRule("stretch", ((64, 96),))
    assert read.input == InputFormat(rule, (1.0, 2.5, 3.0), (1.0, 1.0, 2.0), "bgr", True)
    assert read.class_names == ("cat", "dog") and read.files[0].name == "a.b.onnx"


@pytest.mark.parametrize(
    "changes",
    [{"resize": "canvas"}, {"resize_like": "opencv", "canvases": ("64x64",)}],
    ids=["other pixels", "other sizes"],
)
def test_one_canvas_that_older_readers_would_misunderstand(place, changes):
    config = _config(**changes)
    card = read_card(place(config))
    assert card.content["version"] == 2 and len(card.files) == 1
    assert card.input.rule.kind == config.resize


def test_damaged_descriptions(tmp_path):
    path = tmp_path / "m.json"
    for text in ("", "[]", "{}", '{"format": "faster_rcnn_model", "version": 1}', "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match="m.json"):
            read_card(path)
    with pytest.raises(UserError, match="export.py writes it"):
        read_card(tmp_path / "none.json")


def _name(name):
    return lambda card: card["files"][0].update(name=name)


HOSTILE = {
    "version": (lambda c: c.update(version=3), "not the description of a model"),
    "no classes": (lambda c: c.update(class_names=[]), "class_names names no class"),
    "no values": (lambda c: c.pop("preprocessing"), "preprocessing.resize is none of"),
    "rule": (lambda c: c["preprocessing"].update(resize=["canvas"]), "preprocessing.resize is"),
    "like": (lambda c: c["preprocessing"].update(resize_like="magic"), "resize_like is none of"),
    "order": (lambda c: c["preprocessing"].update(channel_order="grb"), "channel_order is none"),
    "min_size": (lambda c: c["preprocessing"].update(min_size=[800]), "min_size is not a whole"),
    "max_size": (lambda c: c["preprocessing"].update(max_size=1 << 40), "max_size is too large"),
    "std": (lambda c: c["preprocessing"].update(pixel_std=[1, 0, 1]), "pixel_std has the element"),
    "no files": (lambda c: c.update(files=[]), "files is not a list of 1 to 16"),
    "many files": (lambda c: c.update(files=c["files"] * 9), "files is not a list of 1 to 16"),
    "no entry": (lambda c: c.update(files=[7]), "name is not a file's name"),
    "equal canvases": (lambda c: c["files"][1].update(height=800, width=1344), "a canvas twice"),
    "equal names": (lambda c: c["files"][1].update(name="m_0.onnx"), "a name twice"),
    "height": (lambda c: c["files"][1].update(height=801), r"files\[1\].height is not a multiple"),
    "width": (lambda c: c["files"][1].update(width=True), r"files\[1\].width is not a"),
    "bytes": (lambda c: c["files"][0].update(bytes=-1), r"files\[0\].bytes is too small"),
    "a path": (_name("../m.onnx"), r"files\[0\].name is not a file's name without folders"),
    "an absolute path": (_name("/etc/passwd"), "without folders"),
    "a path of Windows": (_name("a\\b.onnx"), "without folders"),
    "a folder": (_name(".."), "without folders"),
    "a zero byte": (_name("m\0.onnx"), "without folders"),
    "half a letter": (_name("m\ud800.onnx"), "without folders"),
    "a long name": (_name("m" * 256), "without folders"),
}


@pytest.mark.parametrize("change, message", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_is_one_line(place, change, message):
    with pytest.raises(UserError, match=message) as raised:
        read_card(place(_config(), change))
    assert "m.onnx.json: " in str(raised.value) and "\n" not in str(raised.value)


def test_models_that_cannot_be_run(place, tmp_path):
    with pytest.raises(UserError, match="file_format AIR cannot be opened here"):
        ExportedModel(place(_config(), lambda card: card.update(file_format="AIR")))
    model = ExportedModel(place(_config()))
    image = InputFormat.from_config(_config()).table[None, :, :, None]
    with pytest.raises(UserError, match="the canvas 256x1; the model has 800x1344, 1344x800"):
        model(image, image)
    with pytest.raises(UserError, match="m_0.onnx: No such file"):
        model(image.repeat(800, 2)[:, :, :800].repeat(1344, 3), image)
    (tmp_path / "m_0.onnx").write_bytes(b"short")
    with pytest.raises(UserError, match="m_0.onnx: has 5 bytes, but its description says 1000"):
        model(image.repeat(800, 2)[:, :, :800].repeat(1344, 3), image)
