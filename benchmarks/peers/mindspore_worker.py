# SPDX-License-Identifier: Apache-2.0
"""This project's network as a measured program; see protocol.py."""

import ctypes
import itertools
import os
import time

from benchmarks.peers.inputs import make_boxes, make_images
from benchmarks.peers.protocol import memory, seconds_of, serve

# Random weights: the last scale of a residual branch, so that sixteen of them in a row do not make
# activations grow without bound while BatchNorm is frozen; and the factor on the class scores'
# weights that brings some hundred scores of an image above the threshold.
_BRANCH_SCALE = 0.2
_SCORE_SCALE = 8.0


class Task:
    """What the tasks share: MindSpore, the configuration, the network with its weights."""

    def __init__(self, job):
        from src.model_utils.config import load_config
        from src.model_utils.device_adapter import init_device, prepare_environment

        self.job, self.starting = job, {}
        self.config = load_config(["--config_path", job["config"]])
        prepare_environment(self.config.device_target)
        with self._timing("import mindspore"):
            import mindspore

            self.ms = mindspore
        if job.get("phases"):
            from mindspore.graph._parse import compile_config

            compile_config.COMPILE_PROFILE = "1"  # read when the first graph is compiled
        with self._timing("import network"):
            import src.network_define  # noqa: F401 (and with it what a step needs)
            from src.detector import OpenDetector, build_detector
            from src.graph_cache.compile_cache import CompileCache
        init_device(self.config)
        with self._timing("build"):
            if job["checkpoint"]:
                from src.checkpoints.file import read_checkpoint

                checkpoint = read_checkpoint(job["checkpoint"])
                self.network = OpenDetector(self.config, checkpoint).network()
            else:
                self.network = build_detector(self.config)
                tame(self.network)
        self.call = CompileCache(self.config)  # as train.py and eval.py call a network
        self.outputs = None

    def _timing(self, name):
        return _Timing(self.starting, name)

    def run(self, count):
        """Do the work `count` times; return the seconds of each."""
        seconds = seconds_of(self.work, count)
        if self.job.get("phases"):
            ctypes.CDLL(None).fflush(None)  # what MindSpore has printed
        return seconds

    def describe(self):
        """Versions and what is known of the work."""
        return {
            "versions": {"mindspore": self.ms.__version__},
            "processors": len(os.sched_getaffinity(0)),
            "starting": self.starting,
            **self.outcome(),
        }

    def outcome(self):
        """What came out of the last run; nothing by default."""
        return {}

    def memory(self):
        """Resident memory, and off a CPU the device's high-water mark, bytes."""
        on_device = {}
        if self.config.device_target != "CPU":
            on_device["device_highest"] = self.ms.runtime.max_memory_allocated()
        return {**memory(), **on_device}

    def profile(self, folder):
        """Run once under MindSpore's profiler; return the tables."""
        from benchmarks.peers.mindspore_profile import profile

        return profile(self.work, folder, self.config.device_target)

    def image_and_meta(self, batch):
        """The input tensors: images that fill the canvas."""
        import numpy as np

        height, width = self.config.img_height, self.config.img_width
        image = make_images(batch, height, width, self.job["seed"])
        meta = np.tile(np.array([height, width, 1, 1], np.float32), (batch, 1))
        return self.ms.Tensor(image), self.ms.Tensor(meta)


class _Timing:
    """Context that writes its seconds into a dict."""

    def __init__(self, values, name):
        self.values, self.name = values, name

    def __enter__(self):
        self.started = time.perf_counter()

    def __exit__(self, *_):
        self.values[self.name] = time.perf_counter() - self.started


class Training(Task):
    """Forward, backward and an update, as src/training/assembly.py puts them together."""

    def __init__(self, job):
        super().__init__(job)
        import numpy as np

        from src.detector import build_loss
        from src.processes.ranks import Ranks
        from src.training.assembly import training_step

        config, ms = self.config, self.ms
        with self._timing("build loss and optimizer"):
            rates = np.full(100_000, job["learning_rate"], np.float32)
            self.loss = build_loss(self.network, config)
            self.step = training_step(config, self.network, self.loss, rates, Ranks())
            self.step.set_train(True)
        self.scale = ms.Tensor(config.loss_scale, ms.float32)
        self.batch = (*self.image_and_meta(config.batch_size), *self._ground_truth())

    def _ground_truth(self):
        import numpy as np

        config, count = self.config, min(self.job["boxes"], self.config.num_gts)
        batch, places = config.batch_size, config.num_gts
        real_boxes, real_labels = make_boxes(
            batch, count, config.img_height, config.img_width, config.num_classes, self.job["seed"]
        )
        boxes = np.zeros((batch, places, 4), np.float32)
        labels = np.zeros((batch, places), np.int32)
        boxes[:, :count], labels[:, :count] = real_boxes, real_labels
        keys = np.random.default_rng(self.job["seed"]).integers(-(2**31), 2**31, batch)
        columns = (boxes, labels, labels > 0, np.zeros_like(labels, bool), keys.astype(np.int32))
        return tuple(self.ms.Tensor(column) for column in columns)

    def work(self):
        """One step; the losses and the gradients' norm are read, as the training loop does."""
        self.outputs = self.step.make(self.call, self.scale, [self.batch])

    def outcome(self):
        """The last step's losses by name, and the gradients' norm."""
        from src.FasterRcnn.names import LOSS_NAMES

        if self.outputs is None:
            return {}
        losses, norm = self.outputs
        named = dict(zip(LOSS_NAMES, map(float, losses), strict=True))
        return {"losses": named, "gradient_norm": norm}

    def parts(self, warmup, repeats):
        """Time the step's parts alone."""
        from benchmarks.peers.mindspore_parts import time_parts, training_parts

        parts = training_parts(self.step, self.batch)
        return time_parts(parts, warmup, repeats)


class Inference(Task):
    """Images to boxes."""

    def __init__(self, job):
        super().__init__(job)
        self.network.set_train(False)
        self.batch = self.image_and_meta(self.config.test_batch_size)

    def work(self):
        """One batch; the boxes are read."""
        self.outputs = [output.asnumpy() for output in self.call(self.network, *self.batch)]

    def outcome(self):
        """Detections of each image."""
        return {} if self.outputs is None else {"detections": self.outputs[3].sum(1).tolist()}

    def parts(self, warmup, repeats):
        """Time the network's parts alone."""
        from benchmarks.peers.mindspore_parts import inference_parts, time_parts

        return time_parts(inference_parts(self.network, self.batch), warmup, repeats)


class TrainingLoop(Training):
    """Training steps on batches of the data pipeline."""

    def loop(self, epoch, count):
        """Train on an epoch's first batches; return [seconds waited, seconds of the step] of each.

        The first wait is for the pipeline's start.
        """
        from src.data.mindrecord import ensure_mindrecord
        from src.dataset import create_train_dataset, iterate

        data = ensure_mindrecord(self.config, "train")
        batches = iterate(create_train_dataset(self.config, data, epoch=epoch))
        seconds, own_batch, started = [], self.batch, time.perf_counter()
        for batch in batches:
            waited = time.perf_counter()
            self.batch = batch[:-1]
            self.work()
            done = time.perf_counter()
            seconds.append([waited - started, done - waited])
            if len(seconds) == count:
                break
            started = done
        self.batch = own_batch  # what `run` repeats
        return seconds


class Evaluation(Inference):
    """The validation images through `src.evaluation.run`."""

    def __init__(self, job):
        super().__init__(job)
        from src.data.mindrecord import ensure_mindrecord
        from src.evaluation.run import read_ground_truth

        self.data = ensure_mindrecord(self.config, "val")
        self.truth = read_ground_truth(self.config, self.data)

    def evaluate(self):
        """Evaluate once; return seconds of the whole and of its parts, and how much it was."""
        from src.evaluation.coco import evaluate_results
        from src.evaluation.run import detect

        forward = []
        started = time.perf_counter()
        found = detect(
            self._timed_network(forward), self.config, self.data, self.truth.category_ids
        )
        detected = time.perf_counter()
        evaluate_results(
            self.truth.data,
            found.results,
            self.config.class_names,
            image_ids=found.image_ids,
            name=self.truth.source,
        )
        done = time.perf_counter()
        return {
            "whole": done - started,
            "forward": sum(forward),
            "images and results": detected - started - sum(forward),
            "COCO": done - detected,
            "images": len(found.image_ids),
            "detections": len(found.results),
        }

    def _timed_network(self, seconds):
        def network(image, meta):
            started = time.perf_counter()
            outputs = self.call(self.network, image, meta)
            for output in outputs:
                output.asnumpy()
            seconds.append(time.perf_counter() - started)
            return outputs

        return network


class Files:
    """Image files to boxes through `src.inference.Detector`, and its network alone."""

    def __init__(self, job):
        from src.images.ops import preprocess_image
        from src.images.reading import read_image
        from src.inference import Detector
        from src.model_utils.config import load_config

        values = load_config(["--config_path", job["config"]]).to_dict()
        del values["checkpoint_path"]
        self.detector = Detector(job["checkpoint"], **values)
        self.size = self.detector.config.test_batch_size
        self.next_files = itertools.cycle(job["files"])
        self.read, self.preprocess = read_image, preprocess_image
        self.found = 0

    def run(self, count):
        """Take `count` batches from files to boxes; return the seconds of each."""
        return [self._from_files()[0] for _ in range(count)]

    def run_both(self, count):
        """`count` times a batch from files to boxes, then its forward pass alone.

        Returns:
            a list of (files to boxes, forward) seconds, and of (read, prepare) in the first of them
            measured again by themselves.
        """
        return [self._once() for _ in range(count)]

    def _from_files(self):
        paths = list(itertools.islice(self.next_files, self.size))
        started = time.perf_counter()
        found = self.detector.detect([self.read(path) for path in paths])
        seconds = time.perf_counter() - started
        self.found = [len(one.boxes) for one in found]
        return seconds, paths

    def _once(self):
        import numpy as np
        from mindspore import Tensor

        whole, paths = self._from_files()
        started = time.perf_counter()
        pictures = [self.read(path) for path in paths]
        read_done = time.perf_counter()
        prepared = [self.preprocess(rgb, self.detector.config) for rgb in pictures]
        image, meta = (np.stack(part) for part in zip(*prepared, strict=True))
        prepare_done = time.perf_counter()
        network = self.detector.network
        tensors = Tensor(image), Tensor(meta)
        forward_started = time.perf_counter()
        for output in network(*tensors):
            output.asnumpy()
        return {
            "whole": whole,
            "forward": time.perf_counter() - forward_started,
            "read": read_done - started,
            "prepare": prepare_done - read_done,
        }

    def describe(self):
        """Versions and what is known of the work."""
        import mindspore

        return {"versions": {"mindspore": mindspore.__version__}, "detections": self.found}


class Checkpoint(Task):
    """Writes the network's random weights as a checkpoint, and is done."""

    def __init__(self, job):
        super().__init__(job)
        from src.checkpoints.file import describe_model, save_checkpoint

        save_checkpoint(job["path"], self.network, meta=describe_model(self.config))


def tame(network):
    """Make random weights give finite activations, and scores on both sides of the threshold."""
    from mindspore import Tensor

    for parameter in network.get_parameters():
        if parameter.name.endswith("bn3.gamma"):
            parameter.set_data(Tensor(parameter.asnumpy() * _BRANCH_SCALE))
        elif parameter.name == "rcnn.cls_scores.weight":
            parameter.set_data(Tensor(parameter.asnumpy() * _SCORE_SCALE))


_TASKS = {
    "training": Training,
    "training_loop": TrainingLoop,
    "inference": Inference,
    "evaluation": Evaluation,
    "files": Files,
    "checkpoint": Checkpoint,
}

if __name__ == "__main__":
    serve(lambda job: _TASKS[job["task"]](job))
