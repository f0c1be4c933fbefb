# SPDX-License-Identifier: Apache-2.0
"""What is measured: the configuration, the weights, and the jobs of the programs. No MindSpore."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peer_options import (
    ONNX_MODELS,
    OPENVINO_PRECISIONS,
    add_peer_options,
    onnxruntime_name,
    openvino_name,
    torchvision_name,
)
from benchmarks.turns import Program
from src.base.errors import UserError
from src.checkpoints.families import FAMILIES, TORCHVISION
from src.model_utils.config import DEFAULT_ORIGIN, Config, load_config

ROOT = Path(__file__).resolve().parent.parent
_EXIT_TERMINATED = 143  # 128 + SIGTERM, what a shell reports
LEARNING_RATE = 1e-5  # so that random weights stay where they are
# torchvision's 80 classes of COCO have 91 outputs; classes of other names have 81.
_CLASSES = [f"class {number}" for number in range(1, 81)]
# fasterrcnn_resnet50_fpn(trainable_backbone_layers=3) in the words of the configuration, with 2000
# candidates a level and 1000 proposals an image in training.
_TORCHVISION = {
    **FAMILIES[TORCHVISION],
    "resize": "canvas",  # of --height and --width
    "coco_classes": _CLASSES,
    "frozen_stages": 2,
    "anchor_filter": "all",
    "min_pos_iou": 0.0,
    "rpn_proposal_nms_pre": 2000,
    "rpn_proposal_nms_post": 2000,  # of a level: torchvision counts the whole image only
    "rpn_proposal_max_num": 1000,
    "rpn_proposal_min_bbox_size": 1.0e-3,
    "rcnn_loss_beta": 1 / 9,
}
SETTINGS = {"torchvision": _TORCHVISION, "model_zoo": {}}


def add_workload_options(parser: argparse.ArgumentParser, *, peer: bool = True) -> None:
    """Add the options of scripts that run the network."""
    add = parser.add_argument
    add(
        "--setting",
        choices=sorted(SETTINGS),
        default="torchvision",
        help="what the configuration starts from: torchvision's network, or the model zoo's "
        "(default_config.yaml as it is)",
    )
    add("--boxes", type=int, default=10, help="ground-truth boxes of an image")
    add("--timeout", type=float, default=3600.0, help="seconds that a program may take to answer")
    if peer:
        add_peer_options(parser)


def make_config(options: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Return the configuration of a measurement.

    Raises:
        UserError: keys that cannot work, or that are options of the script.
    """
    config = load_config(rest)
    wanted = {**SETTINGS[getattr(options, "setting", "model_zoo")], "compile_cache": "off"}
    changes = {key: value for key, value in wanted.items() if config.origin(key) == DEFAULT_ORIGIN}
    return config.replace(
        **changes,
        device_target=options.device_target,
        img_height=options.height,
        img_width=options.width,
        backbone=options.backbone,
        batch_size=options.batch,
        test_batch_size=options.batch,
        seed=options.seed,
    )


class Workload:
    """A folder with the configuration and weights of a measurement, and jobs made from them.

    Args:
        options: of the script.
        rest: configuration keys of the command line.
        folder: for what is written; the caller's to remove.
    """

    def __init__(self, options: argparse.Namespace, rest: Sequence[str], folder: str) -> None:
        self.options, self.folder = options, Path(folder)
        self.config_file = self.folder / "config.yaml"
        self.use(make_config(options, rest))
        self._checkpoint = self.config.checkpoint_path

    def use(self, config: Config) -> None:
        """Take another configuration for the programs that are started from now on."""
        self.config = config
        config.save(str(self.config_file))

    def job(self, task: str, **more: Any) -> dict[str, Any]:
        """Return a job for MindSpore's program."""
        own = self.options
        return {
            "task": task,
            "config": str(self.config_file),
            "checkpoint": self._checkpoint,
            "seed": own.seed,
            "threads": own.threads,
            "boxes": getattr(own, "boxes", 10),
            "learning_rate": LEARNING_RATE,
            **more,
        }

    def mindspore(self, task: str, *, name: str = "MindSpore", environment=None, **more) -> Program:
        """Start MindSpore's program."""
        return self._start(
            name, sys.executable, "mindspore_worker", self.job(task, **more), environment
        )

    def peers(self, task: str) -> dict[str, Callable[[], Program]]:
        """Return the programs that the options ask for: name -> what starts it.

        Raises:
            UserError: one of them cannot do the task.
        """
        chosen, starts = self.options.peer, {}
        if "torchvision" in chosen:
            for mode in self.options.peer_mode:
                starts[torchvision_name(mode)] = partial(self.torchvision, task, mode)
        for peer in ("onnxruntime", "openvino"):
            if peer in chosen and task != "inference":
                raise UserError(f"--peer {peer}: runs inference only, not {task}")
        for model in ONNX_MODELS:
            if "onnxruntime" in chosen:
                starts[onnxruntime_name(model)] = partial(self.onnxruntime, model)
            for precision in OPENVINO_PRECISIONS if "openvino" in chosen else ():
                name = openvino_name(model, precision)
                starts[name] = partial(self.openvino, model, precision)
        return starts

    def torchvision(self, task: str, mode: tuple[str, ...] = ()) -> Program:
        """Start torchvision's program, with the same weights.

        Args:
            mode: its settings.
        """
        if self.options.setting != "torchvision":
            raise UserError("--peer torchvision: needs --setting torchvision, to be the same work")
        own, config = self.options, self.config
        job = {
            "task": task,
            "mode": list(mode),
            "device": own.device_target,
            "weights": str(self._torchvision_weights()),
            "height": own.height,
            "width": own.width,
            "batch": own.batch,
            "boxes": own.boxes,
            "backbone": own.backbone,
            "num_classes": config.num_classes,
            "seed": own.seed,
            "threads": own.threads,
            "learning_rate": LEARNING_RATE,
            "counts": {
                "train_pre": config.rpn_proposal_nms_pre,
                "train_post": config.rpn_proposal_max_num,
                "test_pre": config.rpn_nms_pre,
                "test_post": config.rpn_max_num,
                "score_threshold": config.test_score_thr,
                "detections": config.test_max_per_img,
            },
        }
        name = torchvision_name(mode)
        return self._start(name, own.peer_python, "torchvision_worker", job)

    def onnxruntime(self, model: str = "own") -> Program:
        """Export a network as ONNX and start ONNX Runtime's program on it.

        Args:
            model: "own", or "torchvision" for its network with the same weights.
        """
        job = self._onnx_job(model)
        return self._start(onnxruntime_name(model), sys.executable, "onnxruntime_worker", job)

    def openvino(self, model: str, precision: str) -> Program:
        """Export a network as ONNX and start OpenVINO's program on it.

        Args:
            model: "own", or "torchvision" for its network with the same weights.
            precision: "f32", or "" for the one that OpenVINO takes by itself.
        """
        job = {**self._onnx_job(model), "precision": precision}
        name = openvino_name(model, precision)
        return self._start(name, self.options.peer_python, "openvino_worker", job)

    def _onnx_job(self, model: str) -> dict[str, Any]:
        own = self.options
        path = self._own_onnx() if model == "own" else self._torchvision_onnx()
        return {
            "model": str(path),
            "kind": model,
            "threads": own.threads,
            "seed": own.seed,
            "height": own.height,
            "width": own.width,
            "batch": own.batch,
        }

    def _torchvision_onnx(self) -> Path:
        path = self.folder / "torchvision.onnx"
        if not path.exists():
            with self.torchvision("inference") as program:
                program.ask("export", path=str(path))
        return path

    def _own_onnx(self) -> Path:
        model = self.folder / "detector.onnx"
        if model.exists():
            return model
        self._run(
            "export.py",
            "--config_path",
            self.config_file,
            "--ckpt_file",
            self.checkpoint(),
            "--file_format",
            "ONNX",
            "--file_name",
            model,
            "--check",
            "False",
            *(("--compute_type", "fp32") if self.config.compute_type == "bf16" else ()),
        )
        return model

    def checkpoint(self) -> str:
        """Return the checkpoint: the user's, or one of random weights that is written now."""
        if not self._checkpoint:
            path = str(self.folder / "random.ckpt")
            with self.mindspore("checkpoint", path=path):
                self._checkpoint = path
        return self._checkpoint

    def _torchvision_weights(self) -> Path:
        path = self.folder / "weights.safetensors"
        if not path.exists():
            self._run(
                "convert_checkpoint.py",
                "--ckpt_file",
                self.checkpoint(),
                "--to",
                "torchvision",
                "--output",
                path,
            )
        return path

    def _start(self, name, python, worker, job, environment=None) -> Program:
        # The current folder stays the user's, for relative paths; the interpreter may be of an
        # environment that does not have this project.
        return Program(
            name,
            [python, "-m", f"benchmarks.peers.{worker}"],
            job,
            environment={"PYTHONPATH": str(ROOT), **(environment or {})},
            pause=self.options.device_target == "CPU",
            timeout=self.options.timeout,
        )

    def _run(self, script: str, *arguments: object) -> None:
        """Run an entry script of this project to its end."""
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=self.options.timeout,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise UserError(f"{script}: {last[0]}")


@contextlib.contextmanager
def open_workload(options: argparse.Namespace, rest: Sequence[str]) -> Iterator[Workload]:
    """A `Workload` in a temporary folder, below TMPDIR, which goes on SIGTERM too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_EXIT_TERMINATED))
    with tempfile.TemporaryDirectory(prefix=f"benchmark-{os.getpid()}-") as folder:
        yield Workload(options, rest, folder)
