# SPDX-License-Identifier: Apache-2.0
"""One checkpoint in four programs: do they find the same, and how fast?

    python -m benchmarks.deployment --model NAME --main FILE --image_dir DIR --config_path FILE
        --ckpt_file FILE --coco_root DIR --device_target CPU --test_batch_size 1

Compares the network as eval.py runs it, NAME.mindir in MindSpore, NAME.onnx in Python's onnxruntime
and NAME.onnx in the C++ application (--main) over the validation images, whose files are in
--image_dir. NAME.* come from export.py with the same settings, in as many files as there are
canvases. The two onnxruntime programs take turns --rounds times; their speeds are medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from src.model_utils.config import load_config
from src.model_utils.device_adapter import choose_device

_LIMIT = 0.05  # px


def main(argv):
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--main", required=True)
    parser.add_argument("--image_dir", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    own, rest = parser.parse_known_args(argv)
    config = choose_device(load_config(rest))
    from src.model_utils.device_adapter import init_device

    init_device(config)
    programs = Programs(own, config)
    found = {"eval.py": programs.network(), "MINDIR": programs.mindir()}
    speeds = {"ONNX, Python": [], "ONNX, C++": []}
    for _ in range(own.rounds):
        found["ONNX, Python"], speed = programs.onnx()
        speeds["ONNX, Python"].append(speed)
        found["ONNX, C++"], speed = programs.cpp()
        speeds["ONNX, C++"].append(speed)
    for name, results in found.items():
        _print_row(name, programs.stats(results), found["eval.py"], results)
    for name, values in speeds.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: {statistics.median(values):.2f} images/s (median of {shown})")


class Programs:
    """The ways to run one detector over the validation images; each returns COCO results."""

    def __init__(self, own, config):
        from src.data.mindrecord import ensure_mindrecord
        from src.detector import open_detector
        from src.evaluation.run import read_ground_truth

        self.own = own
        self.opened = open_detector(config, config.ckpt_file, "ckpt_file")
        self.config = self.opened.config
        self.records = ensure_mindrecord(self.config, "val")
        self.truth = read_ground_truth(self.config, self.records)

    def stats(self, results):
        """Return the twelve numbers."""
        from src.evaluation.coco import evaluate_results

        return evaluate_results(self.truth.data, results, self.config.class_names).stats

    def network(self):
        """Run as eval.py does."""
        return self._detect(self.opened.network()).results

    def mindir(self):
        """Run NAME.mindir in MindSpore."""
        from src.export.model_set import ExportedModel

        model = ExportedModel(f"{self.own.model}.mindir.json")
        return self._detect(self._as_network(model)).results

    def onnx(self):
        """Run NAME.onnx in onnxruntime, with eval.py's data pipeline; also returns images/s."""
        from src.export.model_set import ExportedModel

        model = ExportedModel(f"{self.own.model}.onnx.json", self.own.threads)
        found = self._detect(self._as_network(model))
        return found.results, found.images_per_second

    def cpp(self):
        """Run the C++ application on NAME.onnx; also returns its images/s."""
        from src.evaluation.postprocessing import collect_results
        from src.evaluation.result_files import ResultFolder

        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    self.own.main,
                    f"--mindir_path={self.own.model}.onnx",
                    f"--dataset_path={self.own.image_dir}",
                    f"--output_path={folder}",
                    f"--threads={self.own.threads}",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            results, missing = collect_results(
                ResultFolder(f"{folder}/result_Files"),
                self.truth.data,
                self.truth.category_ids,
                self.truth.source,
            )
            assert not missing, missing
            text = Path(folder, "time_Result/test_perform_static.txt").read_text()
        return results, float(text.split(" images/s")[0].split()[-1])

    def _detect(self, network):
        from src.evaluation.run import detect

        return detect(network, self.config, self.records, self.truth.category_ids)

    @staticmethod
    def _as_network(run):
        from mindspore import Tensor

        return lambda image, meta: [Tensor(o) for o in run(image.asnumpy(), meta.asnumpy())]


def _print_row(name, stats, reference, results):
    print(f"{name:<13} " + " ".join(f"{value:.4f}" for value in stats))
    near, worst = _near(reference, results)
    print(f"{'':<13} {len(results)} boxes, {near:.2%} within {_LIMIT} px, largest {worst:.2g} px")


def _near(reference, results):
    """Share of reference boxes with a box of the same image and class nearby; largest distance."""
    table = {}
    for result in results:
        x, y, w, h = result["bbox"]
        key = result["image_id"], result["category_id"]
        table.setdefault(key, []).append((x, y, x + w, y + h, result["score"]))
    distances = []
    for result in reference:
        x, y, w, h = result["bbox"]
        others = np.array(table.get((result["image_id"], result["category_id"]), []))
        others = others.reshape(-1, 5)
        others = others[np.abs(others[:, 4] - result["score"]) < 1e-3]
        gap = np.abs(others[:, :4] - (x, y, x + w, y + h)).max(1)
        distances.append(gap.min() if gap.size else np.inf)
    return float(np.mean(np.array(distances) <= _LIMIT)), max(distances)


if __name__ == "__main__":
    main(sys.argv[1:])
