# SPDX-License-Identifier: Apache-2.0
"""An ONNX file in OpenVINO as a measured program; see protocol.py. Needs openvino."""

import os
import time

from benchmarks.peers.inputs import count_found, make_model_inputs
from benchmarks.peers.protocol import memory, seconds_of, serve


class Inference:
    """Images to boxes."""

    def __init__(self, job):
        started = time.perf_counter()
        import openvino

        self.openvino, self.kind = openvino, job["kind"]
        imported = time.perf_counter()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
        if job["precision"]:
            settings["INFERENCE_PRECISION_HINT"] = job["precision"]
        self.model = openvino.Core().compile_model(job["model"], "CPU", settings)
        self.starting = {"import": imported - started, "build": time.perf_counter() - imported}
        self.inputs = make_model_inputs(job)
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
            "detections": [] if self.found is None else count_found(self.found, self.kind),
        }

    def memory(self):
        """Resident memory, bytes."""
        return memory()


if __name__ == "__main__":
    serve(Inference)
