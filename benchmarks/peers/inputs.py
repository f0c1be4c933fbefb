# SPDX-License-Identifier: Apache-2.0
"""The inputs that all programs of a comparison get, from a seed. NumPy only."""

import json

import numpy as np


def make_images(batch, height, width, seed=0):
    """(B, 3, H, W) float32, as normalised pictures are: mean 0, standard deviation 1.

    Coarse blobs and noise, so that anchors of all sizes see differences.
    """
    rng = np.random.default_rng([1, seed])
    coarse = rng.standard_normal((batch, 3, -(-height // 32), -(-width // 32)))
    blobs = np.repeat(np.repeat(coarse, 32, 2), 32, 3)[:, :, :height, :width]
    noise = rng.standard_normal((batch, 3, height, width))
    return (0.8 * blobs + 0.6 * noise).astype(np.float32)


def make_model_inputs(job):
    """The arrays that an exported detector gets for a job's images, in order.

    torchvision's export has an input (3, H, W) for each image; ours has the batch and its sizes.
    """
    images = make_images(job["batch"], job["height"], job["width"], job["seed"])
    if job["kind"] != "own":
        return list(images)
    sizes = np.array([job["height"], job["width"], 1, 1], np.float32)
    return [images, np.tile(sizes, (job["batch"], 1))]


def count_found(outputs, kind):
    """How many detections of each image an exported detector returned.

    torchvision's export has boxes, labels and scores for each image; ours four outputs for all.
    """
    return outputs[3].sum(1).tolist() if kind == "own" else [len(boxes) for boxes in outputs[::3]]


def make_boxes(batch, count, height, width, num_classes, seed=0):
    """Ground truth: boxes (B, N, 4) float32 xyxy in pixels and labels (B, N) int64, 1..C-1.

    Sides are between an eighth and a half of the image's.

    Args:
        num_classes: C, with the background.
    """
    rng = np.random.default_rng([2, seed])
    size = np.array([width, height])
    sides = rng.uniform(1 / 8, 1 / 2, (batch, count, 2)) * size
    corners = rng.uniform(0, 1, (batch, count, 2)) * (size - sides)
    boxes = np.concatenate([corners, corners + sides], 2).astype(np.float32)
    return boxes, rng.integers(1, num_classes, (batch, count))


def read_safetensors(path):
    """{name: array} of a .safetensors file of float32 tensors."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        data = stream.read()
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")
        start, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[start:end], np.float32).reshape(entry["shape"])
    return arrays
