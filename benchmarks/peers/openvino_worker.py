# SPDX-License-Identifier: Apache-2.0
"""An ONNX file in OpenVINO as a measured program; see protocol.py. Needs openvino.

torchvision's export has an input (3, H, W) for each image and three outputs for each; ours has the
batch and its sizes, and four outputs.
"""

import os
import time

from benchmarks.peers.inputs import make_images
from benchmarks.peers.protocol import memory, seconds_of, serve


class Inference:
    """Images to boxes."""

    def __init__(self, job):
        import numpy as np

        started = time.perf_counter()
        import openvino

        self.openvino, self.is_own = openvino, job["kind"] == "own"
        imported = time.perf_counter()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
        if job["precision"]:
            settings["INFERENCE_PRECISION_HINT"] = job["precision"]
        self.model = openvino.Core().compile_model(job["model"], "CPU", settings)
        self.starting = {"import": imported - started, "build": time.perf_counter() - imported}
        images = make_images(job["batch"], job["height"], job["width"], job["seed"])
        sizes = np.array([job["height"], job["width"], 1, 1], np.float32)
        self.inputs = [images, np.tile(sizes, (job["batch"], 1))] if self.is_own else list(images)
        self.found = None

    def run(self, count):
        """Do the work `count` times; return the seconds of each."""
        return seconds_of(self._work, count)

    def _work(self):
        outputs = self.model(self.inputs)
        self.found = [outputs[place] for place in range(len(self.model.outputs))]

    def describe(self):
        """Versions, the precision that it chose, and what is known of the work."""
        return {
            "versions": {"openvino": self.openvino.__version__},
            "precision": self.model.get_property("INFERENCE_PRECISION_HINT").to_string(),
            "processors": len(os.sched_getaffinity(0)),
            "starting": self.starting,
            "detections": self._detections(),
        }

    def _detections(self):
        if self.found is None:
            return []
        return self.found[3].sum(1).tolist() if self.is_own else [len(b) for b in self.found[::3]]

    def memory(self):
        """Resident memory, bytes."""
        return memory()


if __name__ == "__main__":
    serve(Inference)
