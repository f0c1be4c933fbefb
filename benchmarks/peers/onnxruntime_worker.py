# SPDX-License-Identifier: Apache-2.0
"""An exported ONNX file in onnxruntime as a measured program; see protocol.py."""

import os
import time

from benchmarks.peers.inputs import make_images
from benchmarks.peers.protocol import memory, seconds_of, serve


class Inference:
    """Images to boxes."""

    def __init__(self, job):
        import numpy as np

        from src.export.exported_model import open_onnx

        started = time.perf_counter()
        self.session = open_onnx(job["model"], job["threads"])[0]
        self.starting = {"build": time.perf_counter() - started}
        self.image = make_images(job["batch"], job["height"], job["width"], job["seed"])
        self.meta = np.tile(
            np.array([job["height"], job["width"], 1, 1], np.float32), (job["batch"], 1)
        )
        self.found = None

    def run(self, count):
        """Do the work `count` times; return the seconds of each."""
        return seconds_of(self._work, count)

    def _work(self):
        self.found = self.session(self.image, self.meta)

    def describe(self):
        """Versions and what is known of the work."""
        import onnxruntime

        return {
            "versions": {"onnxruntime": onnxruntime.__version__},
            "processors": len(os.sched_getaffinity(0)),
            "starting": self.starting,
            "detections": [] if self.found is None else self.found[3].sum(1).tolist(),
        }

    def memory(self):
        """Resident memory, bytes."""
        return memory()


if __name__ == "__main__":
    serve(Inference)
