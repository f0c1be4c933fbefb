# SPDX-License-Identifier: Apache-2.0
"""One training run: its parts, put together from the configuration, and the verbs of the loop."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.callbacks import CheckpointKeeper, LossLog, Progress, StatusLine, StopSignals
from src.checkpoint import (
    checkpoint_name,
    describe_model,
    find_latest,
    load_training_state,
    remove_leftovers,
    require_file,
    save_checkpoint,
)
from src.data_source import file_digest
from src.dataset import iterate, steps_per_epoch
from src.detector import build_detector, build_loss
from src.errors import UserError
from src.evaluation import evaluate, read_ground_truth
from src.lr_schedule import learning_rates, scaled_rate
from src.mindrecord import ensure_mindrecord
from src.model_utils.device_adapter import init_device
from src.network_define import LOSS_NAMES, LossScaler, TrainOneStep, make_optimizer
from src.pretrained import load_pretrained

MAX_SKIPPED_STEPS = 50  # in a row; more than a dynamic scale needs from its highest value down to 1
BEST_NAME = "best.ckpt"


class TrainingDiverged(Exception):
    """The run cannot go on: a loss is not finite, or no gradient has been for too long."""


@dataclass
class Position:
    """Where a run stands: `step` steps of `epoch` (from 1) are done, `global_step` in all."""

    epoch: int = 1
    step: int = 0
    global_step: int = 0


class Run:
    """Everything that the loop uses, built from the configuration; its verbs are the methods.

    Attributes:
        config, rank, world_size, status: as their names say.
        data, annotations: the training images; what tells their annotation file from others.
        steps, epochs: steps an epoch, epochs of the whole run.
        rates: (epochs * steps,) float32, the learning rate of every step.
        step: `TrainOneStep`.
        position: where the run stands; the loop moves it.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        device = init_device(config)
        self.rank, self.world_size = device.rank, device.world_size
        self.status = StatusLine(sys.stdout if self.rank == 0 else open(os.devnull, "w"))  # noqa: SIM115
        self.folder = Path(config.output_dir)
        self.keeper = self._prepare_folder()
        self.data = ensure_mindrecord(config, "train", self.rank, self.world_size)
        self.annotations = file_digest(self.data.anno_path)
        self.steps = steps_per_epoch(config, self.data, self.world_size)
        self.epochs = config.epoch_size
        self.validation = self._prepare_validation()
        self.network = build_detector(config)
        self.rates = self._learning_rates()
        self._start_from_pretrained()
        self.step = self._make_step()
        self.scaler = LossScaler(config.loss_scale, dynamic=config.dynamic_loss_scale)
        self.skipped = 0
        self.best: dict[str, float] = {}
        self.position = Position()
        self.saved: tuple[int, int] | None = None
        meta = self._resume()
        self.log = LossLog(
            self.folder / f"loss_{self.rank}.log",
            interval=config.log_interval,
            steps_per_epoch=self.steps,
            resume_at=(self.position.epoch, self.position.step) if meta else None,
        )
        if meta and self.rank == 0:
            self.log.restore(meta["loss_log"])
        self.progress = Progress(
            self.status,
            epochs=self.epochs,
            steps_per_epoch=self.steps,
            images_per_step=config.batch_size * self.world_size,
            interval=config.log_interval,
        )
        self.vote = _StopVote() if self.world_size > 1 else None
        self._begin()
        self.status.say(
            f"training on {self.data.num_images} images: {self.epochs} epochs of {self.steps} "
            f"steps, batch {config.batch_size} on {self.world_size} device(s); output in "
            f"{self.folder.resolve()}"
        )

    # ------------------------------------------------------------------ what the loop says

    def next_epoch(self) -> bool:
        """Move on to the next epoch if the current one is done; False after the last one."""
        if self.position.step >= self.steps:
            if self.position.epoch >= self.epochs:
                return False
            self.position.epoch, self.position.step = self.position.epoch + 1, 0
        self.step.set_train(True)
        return True

    def until_stopped(self, batches: Any, stop: StopSignals) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches; fewer when a Ctrl-C hit the pipeline while it was starting."""
        try:
            for batch in iterate(batches):
                stop.listen()
                yield batch
        except RuntimeError:
            if not stop.wanted():
                raise

    def loss_scale(self) -> Tensor:
        """Return the loss scale of the next step."""
        return Tensor(self.scaler.scale, ms.float32)

    def check(self, losses: np.ndarray, grad_norm: float, image_index: Tensor) -> None:
        """Stop a run that has diverged; count and adapt to steps whose gradients overflowed.

        Raises:
            TrainingDiverged: for a loss that is not finite, or too many skipped steps in a row; the
                other ranks learn of it when they `agree` after this step.
        """
        at = self.position
        finite = bool(np.isfinite(grad_norm))
        self.scaler.update(finite)
        self.skipped = 0 if finite else self.skipped + 1
        if np.isfinite(losses).all() and self.skipped <= MAX_SKIPPED_STEPS:
            if not finite:
                self.status.say(
                    f"epoch {at.epoch} step {at.step}: gradients overflowed, step skipped"
                    f" (loss scale now {self.scaler.scale:g})"
                )
            return
        self.agree(False, diverged=True)
        named = ", ".join(f"{n} {v:.5g}" for n, v in zip(LOSS_NAMES, losses, strict=True))
        ids = [self.data.image_ids[i] for i in image_index.asnumpy()]
        cause = (
            f"the gradients of {self.skipped} steps in a row are not finite"
            if np.isfinite(losses).all()
            else "a loss is not finite"
        )
        raise TrainingDiverged(
            f"{cause} at epoch {at.epoch} step {at.step} (step {at.global_step} of the run, "
            f"learning rate {self.rates[at.global_step - 1]:.6g}): {named}; images {ids}; "
            "lower base_lr, lengthen warmup_step or set grad_clip, and look at these images' boxes"
        )

    def agree(self, stop: bool, *, diverged: bool = False) -> bool:
        """Say whether to stop now: all ranks after the same step, once one wants to.

        Raises:
            TrainingDiverged: another rank has `diverged`, and leaves; so must this one, which would
                wait for it for ever.
        """
        if self.vote is None:
            return stop
        votes = self.vote(Tensor([stop, diverged], ms.float32)).asnumpy()
        if votes[1] and not diverged:
            raise TrainingDiverged(
                f"another rank stopped at epoch {self.position.epoch} step {self.position.step}, "
                f"because its losses or gradients are not finite; see the error of that rank "
                f"(this is rank {self.rank})"
            )
        return bool(votes[0])

    def save(self) -> None:
        """Write the checkpoint of the current position (rank 0), unless it is there already."""
        if self.saved != (self.position.epoch, self.position.step) and self.rank == 0:
            name = checkpoint_name(self.position.epoch, self.position.step)
            save_checkpoint(self.keeper.path(name), self.network, self.step.optimizer, self._meta())
            self.keeper.added(name)
        self.saved = (self.position.epoch, self.position.step)
        self.progress.pause()

    def evaluate(self, stop: StopSignals) -> bool:
        """Evaluate after an epoch if it is due, keep the best weights; False means leave."""
        config, epoch = self.config, self.position.epoch
        due = config.eval_interval and (epoch % config.eval_interval == 0 or epoch == self.epochs)
        if not due or self.validation is None:
            return not self.agree(stop.wanted())
        outcome = evaluate(
            self.network, config, *self.validation, status=self.status, should_stop=stop.wanted
        )
        self.progress.pause()
        if outcome is None:
            return not self.agree(True)
        summary, detections = outcome
        for line in (f"evaluation after epoch {epoch}", *summary.lines, *summary.table()):
            self.status.say(line)
        self.status.say(f"{detections.images_per_second:.2f} images/s")
        if config.keep_best and summary.ap > self.best.get("ap", -1.0):
            self.best = {"ap": summary.ap, "epoch": epoch}
            save_checkpoint(self.keeper.path(BEST_NAME), self.network, meta=self._meta())
            self.status.say(f"best AP so far {summary.ap:.3f}: {self.keeper.path(BEST_NAME)}")
        return not self.agree(stop.wanted())

    def leave(self, stop: StopSignals) -> int:
        """Save a stopped run and say where it stands; return its exit code."""
        self.save()
        self.status.say(
            f"stopped after epoch {self.position.epoch} step {self.position.step}; "
            f"continue with --resume auto --output_dir {self.folder.resolve()}"
        )
        return stop.exit_code or 0

    def finish(self) -> int:
        """Say where everything is; return the exit code."""
        self.status.say(f"done; checkpoints in {self.keeper.folder.resolve()}")
        self.status.say(f"loss log: {self.log.path.resolve()}")
        return 0

    # ------------------------------------------------------------------ how a run is put together

    def _prepare_folder(self) -> CheckpointKeeper:
        """Make the output folders, and look at the named files: before the data is converted."""
        resume_path = self._resume_path()
        if resume_path:
            require_file(resume_path, "resume")
        elif self.config.pre_trained:
            require_file(self.config.pre_trained, "pre_trained")
        keeper = CheckpointKeeper(
            self.folder / "ckpt_0", self.config.keep_checkpoint_max, resume=bool(resume_path)
        )
        listed = None if resume_path else CheckpointKeeper.read_index(keeper.folder)
        if listed:
            raise UserError(
                f"{keeper.folder}: holds the checkpoints of another run (newest {listed[-1]}); go "
                "on with it by --resume auto, or choose another output_dir"
            )
        removed = remove_leftovers(keeper.folder) if self.rank == 0 else 0
        if removed:
            self.status.say(f"removed {removed} half-written file(s) from {keeper.folder}")
        return keeper

    def _prepare_validation(self):
        """Return (validation images, their ground truth), None when this rank does not evaluate."""
        if not self.config.eval_interval:
            return None
        data = ensure_mindrecord(self.config, "val", self.rank, self.world_size)
        return (data, read_ground_truth(self.config, data)) if self.rank == 0 else None

    def _begin(self) -> None:
        """Leave the run's mark on its folder, now that nothing can keep it from beginning."""
        if self.rank == 0:
            self.keeper.write_index()
            saved = self.config.save_in(self.folder)
            if saved.name != "config.yaml":
                self.status.say(f"config.yaml is yours; the effective one is {saved}")

    def _learning_rates(self) -> np.ndarray:
        config = self.config
        batch = config.batch_size * self.world_size
        rate = scaled_rate(config.base_lr, global_batch=batch, base_batch=config.lr_base_batch)
        self.status.say(
            f"learning rate {rate:.6g}: base_lr {config.base_lr:g} for {config.lr_base_batch} "
            f"images a step, scaled to {batch} "
            f"({config.batch_size} on each of {self.world_size} device(s))"
        )
        return learning_rates(
            config.lr_type,
            rate,
            steps_per_epoch=self.steps,
            epochs=self.epochs,
            warmup_steps=config.warmup_step,
            warmup_ratio=config.warmup_ratio,
            milestones=config.sgd_step,
            min_ratio=config.min_lr_ratio,
        )

    def _start_from_pretrained(self) -> None:
        if not self.config.pre_trained or self._resume_path():
            return
        report = load_pretrained(self.network, self.config.pre_trained, describe_model(self.config))
        for line in report.lines():
            self.status.say(line)

    def _make_step(self) -> TrainOneStep:
        config = self.config
        optimizer = make_optimizer(
            self.network.trainable_params(),
            self.rates,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        return TrainOneStep(
            build_loss(self.network, config),
            optimizer,
            clip_norm=config.clip_norm if config.grad_clip else 0.0,
            world_size=self.world_size,
        )

    # ------------------------------------------------------------------ stopping and going on

    def _contract(self) -> dict[str, int]:
        """Return what has to be the same when a run goes on, for its steps to mean the same."""
        return {
            "batch_size": self.config.batch_size,
            "world_size": self.world_size,
            "steps_per_epoch": self.steps,
            "num_images": self.data.num_images,
            "seed": self.config.seed,
            "annotations_sha256": self.annotations,
        }

    def _meta(self) -> dict[str, Any]:
        return {
            **describe_model(self.config),
            **self._contract(),
            "epoch": self.position.epoch,
            "step_in_epoch": self.position.step,
            "global_step": self.position.global_step,
            "loss_scaler": self.scaler.state(),
            "skipped": self.skipped,
            "loss_log": self.log.state(),
            "best": self.best,
        }

    def _resume_path(self) -> Path | None:
        """Return the checkpoint to go on from; None to start from the beginning."""
        wanted = self.config.resume
        if not wanted:
            return None
        # Every rank goes on from what rank 0 saved.
        folder = self.folder / "ckpt_0" if wanted == "auto" else Path(wanted)
        if wanted != "auto" and not os.path.isdir(folder):  # False for a name that is too long
            return folder
        listed = CheckpointKeeper.read_index(folder)
        latest = find_latest(folder) if listed is None else None
        if listed:
            latest = folder / listed[-1]
        if latest is None and wanted != "auto":
            raise UserError(
                f"{folder}: holds no faster_rcnn-*.ckpt to resume from; set resume to a training "
                "checkpoint or a folder with some, or to auto"
            )
        return latest

    def _resume(self) -> dict[str, Any]:
        """Load the checkpoint to go on from; return its meta, empty at the beginning of a run."""
        path = self._resume_path()
        if path is None:
            if self.config.resume:
                self.status.say(f"nothing to resume in {self.folder.resolve()}: a new run begins")
            return {}
        meta = load_training_state(
            self.network,
            self.step.optimizer,
            path,
            describe_model(self.config),
            self._contract(),
        )
        if meta["epoch"] > self.epochs:
            raise UserError(
                f"{path}: stands at step {meta['step_in_epoch']} of epoch {meta['epoch']}, but "
                f"epoch_size is {self.epochs}; raise epoch_size, or resume an earlier checkpoint"
            )
        self.position = Position(meta["epoch"], meta["step_in_epoch"], meta["global_step"])
        self.scaler.restore(meta["loss_scaler"])
        self.skipped, self.best = meta["skipped"], meta["best"]
        self.saved = (self.position.epoch, self.position.step)
        self.status.say(
            f"resumed {path} after epoch {self.position.epoch} step {self.position.step}"
        )
        return meta


class _StopVote(nn.Cell):
    """Sum of a number over all ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.total = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, wish):
        return self.total(wish)
