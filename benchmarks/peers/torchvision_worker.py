# SPDX-License-Identifier: Apache-2.0
"""torchvision's Faster R-CNN as a measured program; see protocol.py. Needs torch and torchvision.

The network is that of `fasterrcnn_resnet50_fpn(trainable_backbone_layers=3)` with pretrained
weights (frozen BatchNorm; the stem and the first stage fixed), put together by hand because without
weights torchvision would train everything. Weights come from the job's .safetensors file. Inputs
are normalised and have the canvas's size already: torchvision's own resizing is off.

The job's mode: channels_last (of weights, and with them of feature maps), bf16 (autocast of the
forward pass), compile (torch.compile of backbone, neck and heads: proposals and sampling have
shapes that follow from the data).
"""

import contextlib
import os
import time

from benchmarks.peers.backbones import TORCHVISION_BACKBONES
from benchmarks.peers.inputs import make_boxes, make_images, read_safetensors
from benchmarks.peers.protocol import memory, seconds_of, serve

_TRAINED_STAGES = 3
_ONNX_OPSET = 16


class Task:
    """What both tasks share: torch, the device, the network with its weights, the inputs."""

    def __init__(self, job):
        started = time.perf_counter()
        import torch
        import torchvision

        self.torch, self.torchvision, self.job = torch, torchvision, job
        if job["threads"]:
            torch.set_num_threads(job["threads"])
        self.device = torch.device("cuda" if job["device"] == "GPU" else "cpu")
        imported = time.perf_counter()
        torch.manual_seed(job["seed"])
        self.network = self._in_mode(self._build())
        self.images = [
            torch.from_numpy(image).to(self.device)
            for image in make_images(job["batch"], job["height"], job["width"], job["seed"])
        ]
        self.starting = {"import": imported - started, "build": time.perf_counter() - imported}

    def _build(self):
        from torchvision.models import resnet
        from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
        from torchvision.models.detection.faster_rcnn import FasterRCNN
        from torchvision.ops import FrozenBatchNorm2d

        job, counts = self.job, self.job["counts"]
        if job["backbone"] not in TORCHVISION_BACKBONES:
            raise ValueError(f"torchvision has no backbone {job['backbone']}")
        make = getattr(resnet, TORCHVISION_BACKBONES[job["backbone"]])
        backbone = make(weights=None, norm_layer=FrozenBatchNorm2d)
        network = FasterRCNN(
            _resnet_fpn_extractor(backbone, _TRAINED_STAGES),
            num_classes=job["num_classes"],
            min_size=job["height"],
            max_size=job["width"],
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            _skip_resize=True,
            rpn_pre_nms_top_n_train=counts["train_pre"],
            rpn_post_nms_top_n_train=counts["train_post"],
            rpn_pre_nms_top_n_test=counts["test_pre"],
            rpn_post_nms_top_n_test=counts["test_post"],
            box_score_thresh=counts["score_threshold"],
            box_detections_per_img=counts["detections"],
        )
        arrays = read_safetensors(job["weights"])
        tensors = {name: self.torch.from_numpy(array.copy()) for name, array in arrays.items()}
        network.load_state_dict(tensors)
        return network.to(self.device)

    def _in_mode(self, network):
        """The network with the settings of the job's mode."""
        mode, torch = self.job["mode"], self.torch
        if "channels_last" in mode:
            network = network.to(memory_format=torch.channels_last)
        if "compile" in mode:
            heads = network.roi_heads
            network.backbone = torch.compile(network.backbone)
            network.rpn.head = torch.compile(network.rpn.head)
            heads.box_head = torch.compile(heads.box_head)
            heads.box_predictor = torch.compile(heads.box_predictor)
        return network

    def precision(self):
        """A context in which the network computes as the mode says."""
        if "bf16" not in self.job["mode"]:
            return contextlib.nullcontext()
        return self.torch.autocast(self.device.type, dtype=self.torch.bfloat16)

    def run(self, count):
        """Do the work `count` times; return the seconds of each."""
        return seconds_of(self._work_to_its_end, count)

    def _work_to_its_end(self):
        self.work()
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def describe(self):
        """Versions and what is known of the work."""
        return {
            "versions": {
                "torch": self.torch.__version__,
                "torchvision": self.torchvision.__version__,
            },
            "threads": self.torch.get_num_threads(),
            "mode": self.job["mode"],
            "processors": len(os.sched_getaffinity(0)),
            "starting": self.starting,
            **self.outcome(),
        }

    def memory(self):
        """Resident memory, and on a GPU the device's high-water mark, bytes."""
        on_device = {}
        if self.device.type == "cuda":
            on_device["device_highest"] = self.torch.cuda.max_memory_allocated()
        return {**memory(), **on_device}


class Training(Task):
    """Forward, backward and an SGD update."""

    def __init__(self, job):
        super().__init__(job)
        boxes, labels = make_boxes(
            job["batch"], job["boxes"], job["height"], job["width"], job["num_classes"], job["seed"]
        )
        move = self.torch.from_numpy
        self.targets = [
            {"boxes": move(b).to(self.device), "labels": move(n).to(self.device)}
            for b, n in zip(boxes, labels)  # noqa: B905 (torch's environment may be any Python)
        ]
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = self.torch.optim.SGD(
            trained, lr=job["learning_rate"], momentum=0.9, weight_decay=1e-4
        )
        self.network.train()
        self.losses = {}

    def work(self):
        """One step; the losses are read, as a training loop does."""
        with self.precision():
            losses = self.network(self.images, self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        self.optimizer.step()
        self.losses = {name: loss.item() for name, loss in losses.items()}

    def outcome(self):
        """The last step's losses."""
        return {"losses": self.losses}


class Inference(Task):
    """Images to boxes."""

    def __init__(self, job):
        super().__init__(job)
        self.network.eval()
        self.found, self.proposals, self.logits = [], [], None
        self.network.rpn.register_forward_hook(self._see_proposals)
        self.network.roi_heads.box_predictor.register_forward_hook(self._see_logits)

    def _see_proposals(self, module, inputs, outputs):
        self.proposals = [len(boxes) for boxes in outputs[0]]

    def _see_logits(self, module, inputs, outputs):
        self.logits = outputs[0]

    def work(self):
        """One batch."""
        with self.torch.inference_mode(), self.precision():
            self.found = self.network(self.images)

    def export(self, path):
        """Write the network for these images as an ONNX file."""
        with self.torch.inference_mode():
            self.torch.onnx.export(
                self.network, (self.images,), path, opset_version=_ONNX_OPSET, dynamo=False
            )

    def outcome(self):
        """Proposals and detections of each image, and what entered the last NMS of all images."""
        if self.logits is None:
            return {}
        scores = self.logits.float().softmax(-1)[:, 1:]
        return {
            "proposals": self.proposals,
            "candidates": int((scores > self.job["counts"]["score_threshold"]).sum()),
            "detections": [len(one["boxes"]) for one in self.found],
        }


if __name__ == "__main__":
    serve(lambda job: {"training": Training, "inference": Inference}[job["task"]](job))
