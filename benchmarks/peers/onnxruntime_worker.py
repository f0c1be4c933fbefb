# SPDX-License-Identifier: Apache-2.0
"""An ONNX file in ONNX Runtime as a measured program; see protocol.py."""

import os
import time
from pathlib import Path

from benchmarks.peers.inputs import count_found, make_model_inputs
from benchmarks.peers.protocol import memory, seconds_of, serve


class Inference:
    """Images to boxes."""

    def __init__(self, job):
        from src.runtimes.onnx_runtime import OnnxRuntimeSession

        started = time.perf_counter()
        self.session = OnnxRuntimeSession(Path(job["model"]), job["threads"])
        self.starting = {"build": time.perf_counter() - started}
        self.kind, self.inputs, self.found = job["kind"], make_model_inputs(job), None

    def run(self, count):
        """Do the work `count` times; return the seconds of each."""
        return seconds_of(self._work, count)

    def _work(self):
        self.found = self.session.run(*self.inputs)

    def describe(self):
        """Versions and what is known of the work."""
        import onnxruntime

        return {
            "versions": {"onnxruntime": onnxruntime.__version__},
            "processors": len(os.sched_getaffinity(0)),
            "starting": self.starting,
            "detections": [] if self.found is None else count_found(self.found, self.kind),
        }

    def memory(self):
        """Resident memory, bytes."""
        return memory()


if __name__ == "__main__":
    serve(Inference)
