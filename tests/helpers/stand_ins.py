# SPDX-License-Identifier: Apache-2.0
"""Small networks with the detector's inputs and outputs, for the programs around models."""

import json

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.export.model_card import ModelFile, card_path, make_card, model_paths
from src.images.geometry import ResizeRule
from src.model_utils.config import load_config

CLASS_NAMES = ("cat", "dog", "fox")
_OUTPUTS = ("boxes", "scores", "labels", "valid")


class Echo(nn.Cell):
    """Returns its input: the image's floats as boxes, the meta as the first four scores."""

    def construct(self, image, image_meta):
        """(1, 3, H, W), (1, 4) -> boxes (1, 3*H*W/4, 4) and so on."""
        boxes = ops.reshape(image, (1, -1, 4))
        rest = boxes[:, 4:, 0] * 0.0
        scores = ops.concat((image_meta, rest), 1)
        labels = ops.cast(scores * 0.0, ms.int32) + 1
        return boxes, scores, labels, scores > -1.0


class SmallDetector(nn.Cell):
    """A convolution and a dense layer: six detections that depend on everything."""

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        weight = Tensor(rng.normal(0, 0.1, (8, 3, 7, 7)).astype(np.float32))
        self.conv = nn.Conv2d(
            3, 8, 7, 8, pad_mode="pad", padding=3, has_bias=True, weight_init=weight, bias_init=0.1
        )
        self.table = Parameter(Tensor(rng.normal(0, 0.5, (8, 36)).astype(np.float32)))

    def construct(self, image, image_meta):
        """(B, 3, H, W), (B, 4) -> boxes (B, 6, 4), scores, labels and valid (B, 6)."""
        batch = image.shape[0]
        features = ops.reduce_mean(ops.relu(self.conv(image)), (2, 3))
        values = ops.reshape(ops.sigmoid(ops.matmul(features, self.table)), (batch, 6, 6))
        size = ops.reshape(image_meta[:, :2] / image_meta[:, 2:], (batch, 1, 2))
        corner = values[:, :, :2] * size * 0.5
        boxes = ops.concat((corner, corner + values[:, :, 2:4] * size * 0.5), 2)
        scores = values[:, :, 4]
        labels = ops.cast(ops.floor(values[:, :, 5] * 2.9), ms.int32) + 1
        return boxes, scores, labels, scores > 0.5


def stand_in_config(height, width, **changes):
    """The configuration whose input format a stand-in's description gets."""
    values = {
        "device_target": "CPU",
        "img_height": height,
        "img_width": width,
        "coco_classes": CLASS_NAMES,
        "file_format": "ONNX",
        **changes,
    }
    return load_config([]).replace(**values)


def export_stand_in(network, config, path, batch=1, file_format="ONNX"):
    """Write `network` with its description; returns what names the model.

    A file for each canvas of the configuration; one is `path` itself.
    """
    canvases = ResizeRule.from_config(config).canvases
    files = []
    for file, canvas in zip(model_paths(path, canvases), canvases, strict=True):
        image = np.zeros((batch, 3, *canvas), np.float32)
        meta = np.ones((batch, 4), np.float32)
        outputs = [o.asnumpy() for o in network(Tensor(image), Tensor(meta))]
        ms.export(
            network, Tensor(image), Tensor(meta), file_name=str(file), file_format=file_format
        )
        file.chmod(0o644)
        files.append(model_file(file, canvas, (image, meta), outputs))
    describe(path, config, files)
    return path


def model_file(path, canvas, inputs, outputs):
    """What a description says of the file `path`."""
    return ModelFile(
        path.name,
        canvas,
        path.stat().st_size,
        inputs={n: (n, a) for n, a in zip(("image", "image_meta"), inputs, strict=True)},
        outputs={n: (n, a) for n, a in zip(_OUTPUTS, outputs, strict=True)},
    )


def describe(path, config, files):
    """Write the description of the model `path`, which is of `files`."""
    card = make_card(config, target="CPU", files=files, checkpoint={})
    card_path(path).write_text(json.dumps(card))
