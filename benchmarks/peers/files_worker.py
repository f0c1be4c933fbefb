# SPDX-License-Identifier: Apache-2.0
"""Image files, or tensors, to boxes in another program's own way; see protocol.py. Needs that
program.

The network is the peer's usual Faster R-CNN with a ResNet-FPN, for COCO, in fp32 on the CPU, one
picture at a time. Its weights come from a .safetensors file in the peer's own names.
"""

from benchmarks.peers.backbones import DETECTRON2_BACKBONES, TORCHVISION_BACKBONES
from benchmarks.peers.inputs import make_images, read_safetensors
from benchmarks.peers.protocol import serve

TORCH_MEAN, TORCH_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class Peer:
    """The commands; a subclass has `network`, and `look` for one picture."""

    def __init__(self, job):
        import torch

        self.torch = torch
        if job["threads"]:
            torch.set_num_threads(job["threads"])
        self.network = self.build(job["backbone"], job["options"]).eval()

    def shapes(self):
        """The shape of every parameter, by the peer's name."""
        return {name: list(value.shape) for name, value in self.network.state_dict().items()}

    def load(self, weights):
        """Take the weights from a .safetensors file."""
        arrays = read_safetensors(weights)
        tensors = {name: self.torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.network.load_state_dict(tensors)

    def detect(self, path):
        """What is found in a file: boxes (xyxy in its pixels), scores, labels from 1."""
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(path) as image:
            rgb = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        with self.torch.no_grad():
            boxes, scores, labels = self.look(rgb)
        return {
            "height": rgb.shape[0],
            "width": rgb.shape[1],
            "boxes": boxes.tolist(),
            "scores": scores.tolist(),
            "labels": labels.tolist(),
        }

    def tensors(self, batch, height, width, output):
        """What becomes of `inputs.make_images`, as arrays in an .npz file.

        P2 to P6 as p2 ... p6, and of image i what is found: det_boxes_i (xyxy), det_scores_i,
        det_labels_i (from 1).
        """
        import numpy as np

        images = self.torch.from_numpy(make_images(batch, height, width))
        with self.torch.no_grad():
            levels, found = self.look_at_tensors(images, [(height, width)] * batch)
        arrays = {f"p{number}": level.numpy() for number, level in enumerate(levels, 2)}
        for number, parts in enumerate(found):
            for name, values in zip(("boxes", "scores", "labels"), parts, strict=True):
                arrays[f"det_{name}_{number}"] = values.numpy()
        np.savez(output, **arrays)


class Torchvision(Peer):
    """`fasterrcnn_resnet50_fpn` as it is, or the same with a deeper backbone; or its v2."""

    def build(self, backbone, options):
        """Return the network, with random weights; `options`: v2, or none."""
        from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        if options == ["v2"]:
            return fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91)
        name = TORCHVISION_BACKBONES[backbone]
        return FasterRCNN(resnet_fpn_backbone(backbone_name=name, weights=None), num_classes=91)

    def look(self, rgb):
        """Detect in (H, W, 3) uint8."""
        from torchvision.transforms.functional import to_tensor

        found = self.network([to_tensor(rgb)])[0]
        return found["boxes"], found["scores"], found["labels"]

    def look_at_tensors(self, images, sizes):
        """P2 to P6, and (boxes, scores, labels) of each of the normalised images."""
        from torchvision.models.detection.image_list import ImageList

        features = self.network.backbone(images)
        proposals, _ = self.network.rpn(ImageList(images, sizes), features)
        found, _ = self.network.roi_heads(features, proposals, sizes)
        return features.values(), [(f["boxes"], f["scores"], f["labels"]) for f in found]

    def version(self):
        """Of the peer."""
        import torchvision

        return torchvision.__version__


class Detectron2(Peer):
    """`DefaultPredictor` of its model zoo's configuration."""

    def build(self, backbone, options):
        """Return the network, with random weights; `options`: keys and values of its own."""
        from detectron2 import model_zoo
        from detectron2.engine import DefaultPredictor

        name, like_torchvision = DETECTRON2_BACKBONES[backbone]
        config = model_zoo.get_config(f"COCO-Detection/faster_rcnn_{name}_FPN_3x.yaml")
        config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
        if like_torchvision:
            config.MODEL.RESNETS.STRIDE_IN_1X1 = False
            config.MODEL.PIXEL_MEAN, config.MODEL.PIXEL_STD = TORCH_MEAN, TORCH_STD
            config.INPUT.FORMAT = "RGB"
        config.merge_from_list(options)
        self.predictor = DefaultPredictor(config)
        return self.predictor.model

    def look(self, rgb):
        """Detect in (H, W, 3) uint8."""
        found = self.predictor(rgb[..., ::-1])["instances"]
        return found.pred_boxes.tensor, found.scores, found.pred_classes + 1

    def look_at_tensors(self, images, sizes):
        """P2 to P6, and (boxes, scores, labels) of each of the normalised images."""
        from detectron2.structures import ImageList

        images = ImageList(images, sizes)
        features = self.network.backbone(images.tensor)
        proposals, _ = self.network.proposal_generator(images, features)
        found, _ = self.network.roi_heads(images, features, proposals)
        parts = [(f.pred_boxes.tensor, f.scores, f.pred_classes + 1) for f in found]
        return [features[f"p{number}"] for number in range(2, 7)], parts

    def version(self):
        """Of the peer."""
        import detectron2

        return detectron2.__version__


if __name__ == "__main__":
    serve(lambda job: {"torchvision": Torchvision, "detectron2": Detectron2}[job["peer"]](job))
