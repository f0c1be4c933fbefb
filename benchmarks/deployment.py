# SPDX-License-Identifier: Apache-2.0
"""One checkpoint in several programs: do they find the same, and how fast?

    python -m benchmarks.deployment --model NAME --main FILE --image_dir DIR --config_path FILE
        --ckpt_file FILE --coco_root DIR --device_target CPU --test_batch_size 1

Compares the network as eval.py runs it, NAME.mindir in MindSpore, NAME.onnx in ONNX Runtime, in
OpenVINO (where it is installed; at fp32 and at its own precision) and in the C++ application
(--main) over the validation images, whose files are in --image_dir. NAME.* come from export.py with
the same settings, in as many files as there are canvases. What runs NAME.onnx takes turns --rounds
times; speeds are medians.
"""

import argparse
import importlib.util
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
    parser.add_argument("--cpp_options", default="", help="such as '--streams=1 --threads=2'")
    parser.add_argument("--rounds", type=int, default=3)
    own, rest = parser.parse_known_args(argv)
    config = choose_device(load_config(rest))
    from src.model_utils.device_adapter import init_device

    init_device(config)
    programs = Programs(own, config)
    found, speeds = {}, {}
    for name, run in (("eval.py", programs.network), ("MINDIR", programs.mindir)):
        found[name], speed = run()
        speeds[name] = [speed]
    turns = {"ONNX Runtime": programs.onnx, "ONNX, C++": programs.cpp}
    if importlib.util.find_spec("openvino"):
        turns["OpenVINO fp32"] = lambda: programs.onnx("openvino")
        turns["OpenVINO auto"] = lambda: programs.onnx("openvino", "auto")
    for _ in range(own.rounds):
        for name, run in turns.items():
            found[name], speed = run()
            speeds.setdefault(name, []).append(speed)
    for name, results in found.items():
        _print_row(name, programs.stats(results), found["eval.py"], results)
    for name, values in speeds.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: {statistics.median(values):.2f} images/s (median of {shown})")


class Programs:
    """The ways to run one detector over the validation images; each returns COCO results."""

    def __init__(self, own, config):
        from src.backends.opening import open_backend
        from src.data.mindrecord import ensure_mindrecord
        from src.evaluation.run import read_ground_truth

        self.own = own
        self.opened = open_backend(config.replace(checkpoint_path=config.ckpt_file))
        self.config = self.opened.config
        self.records = ensure_mindrecord(self.config, "val")
        self.truth = read_ground_truth(self.config, self.records)

    def stats(self, results):
        """Return the twelve numbers."""
        from src.evaluation.coco import evaluate_results

        return evaluate_results(self.truth.data, results, self.config.class_names).stats

    def network(self):
        """Run as eval.py does; returns results and images/s, as all of them."""
        return self._detect(self.opened)

    def mindir(self):
        """Run NAME.mindir in MindSpore."""
        return self._exported("mindir")

    def onnx(self, runtime="onnxruntime", precision="fp32"):
        """Run NAME.onnx in a runtime, with eval.py's data pipeline."""
        threads = self.own.threads
        return self._exported(
            "onnx", runtime=runtime, runtime_precision=precision, runtime_threads=threads
        )

    def cpp(self):
        """Run the C++ application on NAME.onnx."""
        from src.evaluation.postprocessing import collect_results
        from src.evaluation.result_files import ResultFolder

        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    self.own.main,
                    f"--mindir_path={self.own.model}.onnx",
                    f"--dataset_path={self.own.image_dir}",
                    f"--output_path={folder}",
                    *self.own.cpp_options.split(),
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

    def _exported(self, ending, **settings):
        from src.backends.opening import open_backend

        model = f"{self.own.model}.{ending}"
        return self._detect(open_backend(self.config.replace(checkpoint_path=model, **settings)))

    def _detect(self, opened):
        from src.evaluation.run import detect

        found = detect(opened.backend, opened.config, self.records, self.truth.category_ids)
        return found.results, found.images_per_second


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
