# SPDX-License-Identifier: Apache-2.0
"""One training run: its parts, put together from the configuration, and the verbs of the loop."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..base.errors import UserError
from ..base.files import remove_leftovers, sync_folder
from ..checkpoints.file import (
    Checkpoint,
    checkpoint_name,
    describe_model,
    require_file,
    save_checkpoint,
)
from ..checkpoints.loading import load_training_state, set_parameter
from ..checkpoints.pretrained import load_pretrained
from ..data.annotation_files import annotation_digest
from ..data.mindrecord import ensure_mindrecord
from ..dataset import iterate, steps_per_epoch
from ..detector import build_detector
from ..evaluation.run import evaluate
from ..graph_cache.compile_cache import CompileCache
from ..model_utils.configuration.memory import require_memory
from ..model_utils.device_adapter import init_device
from ..network_define import LossScaler
from ..processes.ranks import Ranks, moving_statistics
from ..processes.run_lock import hold_run_folder
from .assembly import run_log, run_rates, training_step, validation_of
from .checkpoint_keeper import CheckpointKeeper
from .divergence import TrainingDiverged, divergence, has_diverged
from .frozen_parts import settle_frozen_parts
from .progress import Progress, StatusLine
from .resume import Position, changed_lines, open_start, position_of, resumed_lines
from .saving import CheckpointSaver
from .stop_signals import StopSignals

BEST_NAME = "best.ckpt"
EXIT_STOPPED = 143  # of a rank that leaves because another one was told to


class Run:
    """Everything that the loop uses, built from the configuration; its verbs are the methods.

    Attributes:
        config, rank, world_size, ranks, status: as their names say.
        data, annotations: the training images; what tells their annotation file from others.
        steps, epochs: steps an epoch, epochs of the whole run.
        rates: (epochs * steps,) float32, the learning rate of every step.
        step: `TrainOneStep`; the loop calls `train_step`, which compiles it through the cache.
        position: where the run stands; the loop moves it.
        settings: the file with the effective configuration.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        require_memory(config, "batch_size")
        device = init_device(config)
        self.rank, self.world_size = device.rank, device.world_size
        self.ranks = Ranks(self.rank, self.world_size)
        self.status = StatusLine(sys.stdout if self.rank == 0 else open(os.devnull, "w"))  # noqa: SIM115
        self.folder = Path(config.output_dir)
        self._start: Checkpoint | None = None  # what rank 0 goes on from, until it is loaded
        self.keeper = self._prepare_folder()
        with self.ranks.watch(config.rank_timeout):
            stored = self._start.meta if self._start else None
            config = settle_frozen_parts(config, stored, self.ranks, self.status.say)
        self.config = config
        self.data = ensure_mindrecord(config, "train", self.rank, self.world_size)
        self.annotations = annotation_digest(self.data.anno_path)
        self.steps = steps_per_epoch(config, self.data, self.world_size)
        self.epochs = config.epoch_size
        self.validation = validation_of(config, self.data, self.ranks, self.status.say)
        self.network = build_detector(config)
        self.rates = run_rates(config, self.steps, self.world_size, self.status.say)
        self._start_from_pretrained()
        self.step = training_step(config, self.network, self.rates, self.world_size)
        self._cache = CompileCache(config, self.status.say)
        self.scaler = LossScaler(config.loss_scale, dynamic=config.dynamic_loss_scale)
        self.skipped = 0
        self.best: dict[str, float] = {}
        self.position = Position()
        self.saved: tuple[int, int] | None = None
        self._save_due = False
        with self.ranks.watch(config.rank_timeout):
            meta = self._resume()
        self.log = run_log(config, self.ranks, self.steps, meta)
        self.progress = Progress(
            self.status,
            epochs=self.epochs,
            steps_per_epoch=self.steps,
            images_per_step=config.batch_size * self.world_size,
            interval=config.log_interval,
        )
        self.saver = CheckpointSaver(
            self.keeper,
            self._write,
            steps=config.save_checkpoint_steps,
            minutes=config.save_checkpoint_minutes,
        )
        self._begin(resumed=bool(meta))
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
            for batch in iterate(batches, records=self.data):
                stop.listen()
                yield batch
        except RuntimeError:
            if not stop.wanted():
                raise

    def train_step(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Make one step with the columns of a batch; return its losses and gradient norm."""
        self.saver.trained()
        return self._cache(self.step, Tensor(self.scaler.scale, ms.float32), *batch[:-1])

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
        if not has_diverged(losses, self.skipped):
            if not finite:
                self.status.say(
                    f"epoch {at.epoch} step {at.step}: gradients overflowed, step skipped"
                    f" (loss scale now {self.scaler.scale:g})"
                )
            return
        self.agree(False, diverged=True)
        place = (
            f"epoch {at.epoch} step {at.step} (step {at.global_step} of the run, "
            f"learning rate {self.rates[at.global_step - 1]:.6g})"
        )
        ids = [self.data.image_ids[i] for i in image_index.asnumpy()]
        raise TrainingDiverged(divergence(losses, self.skipped, place, ids))

    def agree(self, stop: bool, *, diverged: bool = False) -> bool:
        """Say whether to stop now: all ranks after the same step, once one wants to.

        Rank 0 also decides here whether the step is to be saved: `save_if_due` is for that.

        Raises:
            TrainingDiverged: another rank has `diverged`, and leaves; so must this one, which would
                wait for it for ever.
        """
        due = self.rank == 0 and self.saver.due(self.position.global_step)
        votes = self.ranks.total([stop, diverged, due])
        self._save_due = bool(votes[2])
        if votes[1] and not diverged:
            raise TrainingDiverged(
                f"another rank stopped at epoch {self.position.epoch} step {self.position.step}, "
                f"because its losses or gradients are not finite; see the error of that rank "
                f"(this is rank {self.rank})"
            )
        return bool(votes[0])

    def save(self) -> None:
        """Write the checkpoint of the current position (rank 0), unless it is there already.

        One that cannot be written is said, and tried again later.
        """
        at = self.position
        if self.saved != (at.epoch, at.step):
            self._share_statistics()
            self.log.sync()
            meta = self._meta(self.ranks.gather(self.log.state()))
            if self.rank == 0:
                within = at.step < self.steps or not self.epoch_is_saved()
                self.saver.save(checkpoint_name(at.epoch, at.step), meta, within_epoch=within)
                self._keep_settings()
        self.saved = (at.epoch, at.step)
        self.progress.pause()

    def save_if_due(self) -> None:
        """Save within an epoch, when the ranks have agreed to."""
        if self._save_due:
            self.save()

    def epoch_is_saved(self) -> bool:
        """Say whether a checkpoint is to be written at the end of this epoch."""
        epoch = self.position.epoch
        return epoch % self.config.save_checkpoint_epochs == 0 or epoch == self.epochs

    def _keep_settings(self) -> None:
        """Write the configuration again if somebody has removed the run's folder."""
        if not os.path.lexists(self.settings):
            with contextlib.suppress(UserError):
                self.config.save(str(self.settings))

    def _write(self, path: Path, training: bool, meta: Mapping[str, Any]) -> None:
        save_checkpoint(path, self.network, self.step.optimizer if training else None, meta)

    def _share_statistics(self) -> None:
        """Give BatchNorm's moving statistics, of each rank's own batches, their mean.

        They take no part in training, and averaging is linear: when it is done changes nothing.
        """
        if self.config.norm == "bn":
            self.ranks.average(moving_statistics(self.network))

    def evaluate(self, stop: StopSignals) -> bool:
        """Evaluate after an epoch if it is due, keep the best weights; False means leave.

        Every rank looks at its share of the images; rank 0 judges them all.
        """
        config, epoch = self.config, self.position.epoch
        due = config.eval_interval and (epoch % config.eval_interval == 0 or epoch == self.epochs)
        if not due or self.validation is None:
            return not self.agree(stop.wanted())
        self._share_statistics()
        outcome = evaluate(
            self.network,
            config,
            *self.validation,
            ranks=self.ranks,
            status=self.status,
            should_stop=lambda: self.agree(stop.wanted()),
        )
        self.progress.pause()
        if outcome is None:
            return not self.agree(True)
        summary, detections = outcome
        if summary is None:  # rank 0 sees to the results
            return not self.agree(stop.wanted())
        for line in (f"evaluation after epoch {epoch}", *summary.report()):
            self.status.say(line)
        self.status.say(f"{detections.images_per_second:.2f} images/s")
        if config.keep_best and summary.ap > self.best.get("ap", -1.0):
            before, self.best = self.best, {"ap": summary.ap, "epoch": epoch}
            if self.saver.save_weights(BEST_NAME, self._meta([])):
                self.status.say(f"best AP so far {summary.ap:.3f}: {self.keeper.path(BEST_NAME)}")
            else:
                self.best = before  # whose file is there
        return not self.agree(stop.wanted())

    def leave(self, stop: StopSignals) -> int:
        """Save a stopped run and say where it stands; return its exit code.

        Raises:
            UserError: it cannot be saved.
        """
        self.save()
        self.saver.finish()
        self.status.say(
            f"stopped after epoch {self.position.epoch} step {self.position.step}; "
            f"continue with --config_path {self.settings.resolve()} --resume auto "
            f"--output_dir {self.folder.resolve()}"
        )
        return stop.exit_code or EXIT_STOPPED

    def finish(self) -> int:
        """Say where everything is; return the exit code.

        Raises:
            UserError: the last checkpoint cannot be written.
        """
        self.log.sync()
        self.saver.finish()
        self.status.say(f"done; checkpoints in {self.keeper.folder.resolve()}")
        self.status.say(f"loss log: {self.log.path.resolve()}")
        return 0

    # ------------------------------------------------------------------ how a run is put together

    def _prepare_folder(self) -> CheckpointKeeper:
        """Take the output folder, and look at the named files: before the data is converted.

        The files are rank 0's: on another server they need not be.
        """
        with self.ranks.watch(self.config.rank_timeout):
            hold_run_folder(self.folder, self.ranks)
        keep = self.config.keep_checkpoint_max
        if self.rank:
            return CheckpointKeeper(self.folder / "ckpt_0", keep)
        folder = self.folder / "ckpt_0"
        start = self._start = open_start(self.config.resume, folder, self.status.say)
        if self.config.pre_trained and not start:
            require_file(self.config.pre_trained, "pre_trained")
        keeper = CheckpointKeeper(folder, keep, resume=bool(start), say=self.status.say)
        goes_on_here = start and os.path.samefile(start.path.parent, folder)
        listed = None if goes_on_here else CheckpointKeeper.read_index(keeper.folder)
        if listed:
            raise UserError(
                f"{keeper.folder}: holds the checkpoints of another run (newest {listed[-1]}); go "
                "on with it by --resume auto, or choose another output_dir"
            )
        removed = remove_leftovers(keeper.folder) + remove_leftovers(self.folder)
        if removed:
            self.status.say(f"removed {removed} half-written file(s) from {keeper.folder}")
        return keeper

    def _begin(self, *, resumed: bool) -> None:
        """Leave the run's mark on its folder, now that nothing can keep it from beginning."""
        self.settings = self.config.path_in(self.folder)
        if self.rank == 0:
            self.keeper.write_index()
            for line in changed_lines(self.settings, self.config) if resumed else ():
                self.status.say(line)
            self.config.save(str(self.settings))
            sync_folder(self.folder)
            if self.settings.name != "config.yaml":
                self.status.say(f"config.yaml is yours; the effective one is {self.settings}")

    def _start_from_pretrained(self) -> None:
        if self.rank or not self.config.pre_trained or self._start:
            return
        report = load_pretrained(self.network, self.config.pre_trained, describe_model(self.config))
        for line in report.lines():
            self.status.say(line)

    # ------------------------------------------------------------------ stopping and going on

    def _contract(self) -> dict[str, Any]:
        """Return what has to be the same when a run goes on, for its steps to mean the same."""
        return {
            "num_images": self.data.num_images,
            "seed": self.config.seed,
            "annotations_sha256": self.annotations,
        }

    def _meta(self, logs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what a checkpoint says of the run; `logs`: the unfinished lines of every rank."""
        return {
            **describe_model(self.config),
            **self._contract(),
            "frozen_stages": self.config.frozen_stages,
            "batch_size": self.config.batch_size,
            "world_size": self.world_size,
            "steps_per_epoch": self.steps,
            "epoch": self.position.epoch,
            "step_in_epoch": self.position.step,
            "global_step": self.position.global_step,
            "loss_scaler": self.scaler.state(),
            "skipped": self.skipped,
            "loss_log": self.log.state(),
            "loss_logs": logs,
            "best": self.best,
        }

    def _resume(self) -> dict[str, Any]:
        """Start all ranks alike: with what rank 0 has, from the beginning or from a checkpoint.

        Returns:
            The checkpoint's meta, empty at the beginning of a run.
        """
        meta = self.ranks.from_first(self._load() if self.rank == 0 else None)
        self.ranks.copy_from_first(self.network.get_parameters())
        if not meta:
            return {}
        self.ranks.copy_from_first(self.step.optimizer.get_parameters())
        self.position = Position(**meta["position"])
        self.scaler.restore(meta["loss_scaler"])
        self.skipped, self.best = meta["skipped"], meta["best"]
        if self.world_size == meta["world_size"]:
            self.saved = (self.position.epoch, self.position.step)
        return meta

    def _load(self) -> dict[str, Any]:
        """Load the checkpoint to go on from; return its meta and this run's `position`."""
        start, self._start = self._start, None
        if start is None:
            if self.config.resume:
                self.status.say(f"nothing to resume in {self.folder.resolve()}: a new run begins")
            return {}
        optimizer = self.step.optimizer
        model = describe_model(self.config)
        meta = load_training_state(self.network, optimizer, start, model, self._contract())
        at = position_of(
            start.path,
            meta,
            batch_size=self.config.batch_size,
            world_size=self.world_size,
            steps=self.steps,
            epochs=self.epochs,
        )
        set_parameter(optimizer.global_step, np.array([at.global_step], np.int32))
        for line in resumed_lines(start.path, meta, at, self.world_size):
            self.status.say(line)
        return {**meta, "position": vars(at)}
