# SPDX-License-Identifier: Apache-2.0
"""What torchvision's Faster R-CNN of version 2 computes on weights by the recipe, as files.

    PYTHON -m tests.torchvision_reference tests/resources

with a Python that has torchvision, in the repository: torchvision_v2.npz, with which `tests.parity`
compares, and the shapes of its parameters. Pictures and boxes are those of torchvision_r50.npz. In
training every candidate is sampled, all BatchNorm is of the batch, and all numbers are of float64:
in float32 gradients lose a part in a thousand on their way through so much BatchNorm.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2
from torchvision.models.detection.image_list import ImageList

from tests.helpers.paths import RESOURCES
from tests.helpers.recipe import make_weight

_NAME = "torchvision_v2"
_EVERYTHING = 10**6  # more than there are candidates
_SAMPLES = 256  # of each level


def build(**settings):
    """The network with its weights."""
    network = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, trainable_backbone_layers=5, **settings
    )
    state = network.state_dict()
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            value.copy_(torch.from_numpy(make_weight(name, tuple(value.shape))))
    network.load_state_dict(state)
    return network


def inputs(source):
    """The normalised batch of two pictures on one canvas, and their sizes."""
    image = torch.from_numpy(source["image_uint8"].astype(np.float64))
    image = (image - torch.from_numpy(source["mean"])) / torch.from_numpy(source["std"])
    sizes = [tuple(map(int, size)) for size in source["valid_hw"]]
    for number, (height, width) in enumerate(sizes):
        image[number, height:] = 0
        image[number, :, width:] = 0
    return ImageList(image.permute(0, 3, 1, 2).float().contiguous(), sizes)


def inference(images):
    """Samples of the pyramid, proposals and detections."""
    network, found = build().eval(), {}
    with torch.no_grad():
        features = network.backbone(images.tensors)
        proposals, _ = network.rpn(images, features)
        detections, _ = network.roi_heads(features, proposals, images.image_sizes)
    for number, level in enumerate(features.values(), 2):
        flat = level.numpy().reshape(-1)
        index = np.random.default_rng(number).choice(len(flat), _SAMPLES, replace=False)
        found[f"p{number}_index"], found[f"p{number}_value"] = index, flat[index]
        found[f"p{number}_std"] = flat.std()
    for number, (boxes, one) in enumerate(zip(proposals, detections, strict=True)):
        found[f"proposals_{number}"] = boxes.numpy()
        for part in ("boxes", "scores", "labels"):
            found[f"det_{part}_{number}"] = one[part].numpy()
    return found


def training(images, source):
    """The four losses, the L2 norm of each parameter's gradient, and the proposals they are of."""
    network = build(
        rpn_batch_size_per_image=_EVERYTHING,
        rpn_positive_fraction=1.0,
        box_batch_size_per_image=_EVERYTHING,
        box_positive_fraction=1.0,
    )
    network.double().train()
    targets = [
        {
            "boxes": torch.from_numpy(source[f"gt_boxes_{number}"]).double(),
            "labels": torch.from_numpy(source[f"gt_labels_{number}"]),
        }
        for number in range(2)
    ]
    images = ImageList(images.tensors.double(), images.image_sizes)
    features = network.backbone(images.tensors)
    proposals, losses = network.rpn(images, features, targets)
    _, others = network.roi_heads(features, proposals, images.image_sizes, targets)
    losses = {**losses, **others}
    sum(losses.values()).backward()
    found = {name: loss.detach().numpy() for name, loss in losses.items()}
    for number, boxes in enumerate(proposals):
        found[f"train_proposals_{number}"] = boxes.numpy().astype(np.float32)
    for name, parameter in network.named_parameters():
        found[f"grad_l2:{name}"] = np.linalg.norm(parameter.grad.numpy())
    for name, value in network.named_buffers():  # what the step has made of the statistics
        if name.startswith(("backbone.fpn", "roi_heads")) and "running" in name:
            found[f"moved:{name}"] = value.numpy()
    return found


def main(argv):
    """Write the files."""
    torch.manual_seed(0)
    with np.load(RESOURCES / "torchvision_r50.npz") as arrays:
        source = dict(arrays)
    images = inputs(source)
    found = inference(images)
    found |= training(images, source)
    found["versions"] = np.array([torch.__version__, torchvision.__version__])
    np.savez_compressed(Path(argv[0], f"{_NAME}.npz"), **found)
    shapes = {name: list(value.shape) for name, value in build().state_dict().items()}
    Path(argv[0], f"{_NAME}_params.json").write_text(json.dumps(shapes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
