# SPDX-License-Identifier: Apache-2.0
"""One training run: the verbs of the loop, over parts that `assembly` makes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..base.errors import UserError
from ..base.progress import Display
from ..checkpoints.file import checkpoint_name, describe_model
from ..data.record_set import MindRecordSet
from ..dataset import create_train_dataset, iterate
from ..evaluation.analysis.report import show_report, write_report
from ..evaluation.coco import CocoSummary
from ..evaluation.run import Detections, GroundTruth, closer_look, evaluate
from ..graph_cache.compile_cache import CompileCache
from ..model_utils.config import Config
from ..network_define import TrainOneStep
from ..processes.ranks import Ranks, moving_statistics
from .divergence import DivergenceGuard, FinishedStep, TrainingDiverged
from .loss_log import LossLog
from .resume import Position
from .run_folder import RunFolder
from .saving import CheckpointSaver
from .step_report import StepReport
from .stop_signals import StopSignals

BEST_NAME = "best.ckpt"
EXIT_STOPPED = 143  # of a rank that leaves because another one was told to


@dataclass
class Run:
    """Everything that the loop uses. `assemble_run` makes the parts; the methods are the verbs.

    Attributes:
        config: the effective configuration.
        ranks: the processes that train together.
        display: where rank 0 shows what happens.
        folder: the output folder.
        data: the training images.
        validation: the validation images with their ground truth; None when nothing is evaluated.
        network: the detector.
        train_one_step: the Cell around it that makes one step.
        graphs: calls Cells, and compiles them.
        steps_per_epoch: on this rank.
        rates: (steps of the run,) float32, the learning rate of each.
        contract: what has to be the same when the run goes on, for its steps to mean the same.
        guard: looks at what every step gives.
        log: this rank's loss log.
        saver: writes checkpoints.
        step_report: shows the steps.
        position: where the run stands.
        best: the best AP so far and its epoch; empty before there is one.
        saved: the (epoch, step) of the newest checkpoint, None before there is one.
    """

    config: Config
    ranks: Ranks
    display: Display
    folder: RunFolder
    data: MindRecordSet
    validation: tuple[MindRecordSet, GroundTruth] | None
    network: nn.Cell
    train_one_step: TrainOneStep
    graphs: CompileCache
    steps_per_epoch: int
    rates: np.ndarray
    contract: dict[str, Any]
    guard: DivergenceGuard
    log: LossLog
    saver: CheckpointSaver
    step_report: StepReport
    position: Position
    best: dict[str, float] = field(default_factory=dict)
    saved: tuple[int, int] | None = None
    _is_save_due: bool = False

    def next_epoch(self) -> bool:
        """Move on to the next epoch if the current one is done; False after the last one."""
        if self.epoch_is_done():
            if self.position.epoch >= self.config.epoch_size:
                return False
            self.position.next_epoch()
        self.train_one_step.set_train(True)
        return True

    def epoch_is_done(self) -> bool:
        """Say whether all steps of the current epoch have been made."""
        return self.position.step_in_epoch >= self.steps_per_epoch

    def _is_due(self, every: int) -> bool:
        """Say so of what is done after `every` epochs (0: never) and after the last one."""
        epoch = self.position.epoch
        return every > 0 and (epoch % every == 0 or epoch == self.config.epoch_size)

    def _evaluation_is_due(self) -> bool:
        """Say so every `eval_interval` epochs, and for a report after the last one."""
        at_the_end = self.config.report and self.position.epoch == self.config.epoch_size
        return at_the_end or self._is_due(self.config.eval_interval)

    def batches(self, stop: StopSignals) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches that are left of the epoch; fewer after a wish to stop.

        Args:
            stop: a Ctrl-C may hit the pipeline while it is starting.
        """
        dataset = create_train_dataset(
            self.config,
            self.data,
            epoch=self.position.epoch,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            skip_steps=self.position.step_in_epoch,
            parts=self.position.epoch_parts,
        )
        try:
            for batch in iterate(dataset, records=self.data):
                stop.listen()
                yield batch
        except UserError:  # an image or a record that has been damaged meanwhile
            if self.ranks.world_size == 1:  # the others would be waited for in vain
                self.save()
                self.saver.finish()
            raise
        except RuntimeError:
            if not stop.wanted():
                raise

    def train_on(self, batch: tuple[Tensor, ...]) -> FinishedStep:
        """Make one step with the columns of a batch; return what it gave.

        Args:
            batch: what `batches` yields; the last column, the images' indices, stays here.
        """
        self.saver.trained()
        scale = Tensor(self.guard.scaler.scale, ms.float32)
        losses, grad_norm = self.graphs(self.train_one_step, scale, *batch[:-1])
        if self.graphs.compiled:  # that is no part of a step's time
            self.step_report.pause()
        at = self.position
        at.advance()
        return FinishedStep(
            at.epoch,
            at.step_in_epoch,
            at.global_step,
            rate=self.rates[at.global_step - 1],
            losses=losses.asnumpy(),
            grad_norm=float(grad_norm.asnumpy()),
            image_ids=[self.data.image_ids[i] for i in batch[-1].asnumpy()],
        )

    def check(self, step: FinishedStep) -> None:
        """Stop a run that has diverged.

        Args:
            step: the step that has just been made.

        Raises:
            TrainingDiverged: it has, on this rank; the others learn of it in their `agree`.
        """
        try:
            self.guard.check(step)
        except TrainingDiverged:
            self._vote(False, diverged=True)
            raise

    def report(self, step: FinishedStep) -> None:
        """Put a step into the loss log, and show it.

        Args:
            step: what it gave.
        """
        self.log.update(step.epoch, step.step_in_epoch, step.losses)
        self.step_report.show(step)

    def agree_to_stop(self, stop: StopSignals) -> bool:
        """Say whether to stop now: all ranks after the same step, once one is told to.

        Args:
            stop: knows whether this rank has been told to.

        Raises:
            TrainingDiverged: another rank has diverged, and leaves; so must this one, which would
                wait for it for ever.
        """
        return self._vote(stop.wanted())

    def _vote(self, stop: bool, *, diverged: bool = False) -> bool:
        """Exchange what the ranks want; rank 0 also decides whether the step is to be saved."""
        due = self.ranks.rank == 0 and self.saver.due(self.position.global_step)
        votes = self.ranks.all_reduce([stop, diverged, due])
        self._is_save_due = bool(votes[2])
        if votes[1] and not diverged:
            raise TrainingDiverged(
                f"another rank stopped at epoch {self.position.epoch} step "
                f"{self.position.step_in_epoch}, because its losses or gradients are not finite; "
                f"see the error of that rank (this is rank {self.ranks.rank})"
            )
        return bool(votes[0])

    def save_if_due(self) -> None:
        """Save within an epoch, when the ranks have agreed to."""
        if self._is_save_due:
            self.save()

    def end_epoch(self) -> None:
        """Save after an epoch, when that is due.

        Raises:
            RuntimeError: the data had fewer batches than it said.
        """
        if not self.epoch_is_done():
            raise RuntimeError(
                f"epoch {self.position.epoch} ended after {self.position.step_in_epoch} of "
                f"{self.steps_per_epoch} steps"
            )
        if self._is_due(self.config.save_checkpoint_epochs):
            self.save()

    def save(self) -> None:
        """Write the checkpoint of the current position (rank 0), unless it is there already."""
        at = self.position
        if self.saved != (at.epoch, at.step_in_epoch):
            self._share_statistics()
            self.log.sync()
            meta = self._meta(self.ranks.all_gather(self.log.state()))
            if self.ranks.rank == 0:
                ends_epoch = self.epoch_is_done() and self._is_due(
                    self.config.save_checkpoint_epochs
                )
                name = checkpoint_name(at.epoch, at.step_in_epoch)
                self.saver.save(name, meta, within_epoch=not ends_epoch)
                self.folder.keep_settings(self.config)
        self.saved = (at.epoch, at.step_in_epoch)
        self.step_report.pause()

    def _share_statistics(self) -> None:
        """Give BatchNorm's moving statistics, of each rank's own batches, their mean.

        They take no part in training, and averaging is linear: when it is done changes nothing.
        """
        if self.config.norm == "bn":
            self.ranks.average(moving_statistics(self.network))

    def _meta(self, logs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what a checkpoint says of the run; `logs`: the unfinished lines of every rank."""
        return {
            **describe_model(self.config),
            **self.contract,
            "frozen_stages": self.config.frozen_stages,
            "batch_size": self.config.batch_size,
            "world_size": self.ranks.world_size,
            "steps_per_epoch": self.steps_per_epoch,
            **vars(self.position),
            "loss_scaler": self.guard.scaler.state(),
            "skipped": self.guard.skipped,
            "loss_log": self.log.state(),
            "loss_logs": logs,
            "best": self.best,
        }

    def evaluate(self, stop: StopSignals) -> bool:
        """Evaluate after an epoch if it is due, keep the best weights; False means leave.

        Every rank looks at its share of the images; rank 0 judges them all.

        Args:
            stop: looked at while images are evaluated, and afterwards.
        """
        if self._evaluation_is_due() and self.validation is not None:
            self._share_statistics()
            outcome = evaluate(
                self.network,
                self.config.replace(test_flip=False, test_scales=[1.0]),  # in one view
                *self.validation,
                ranks=self.ranks,
                display=self.display,
                graphs=self.graphs,
                should_stop=lambda: self.agree_to_stop(stop),
            )
            self.step_report.pause()
            if outcome is None:
                return not self._vote(True)
            summary, detections = outcome
            if summary is not None:  # rank 0 sees to the results
                for line in (f"evaluation after epoch {self.position.epoch}", *summary.report()):
                    self.display.say(line)
                self.display.say(f"{detections.images_per_second:.2f} images/s")
                self._keep_best(summary.ap)
                self._look_closer(summary, detections, self.validation[1])
        return not self.agree_to_stop(stop)

    def _look_closer(
        self, summary: CocoSummary, detections: Detections, truth: GroundTruth
    ) -> None:
        """Write the report of an evaluation; show what the last one says."""
        if not self.config.report:
            return
        report = closer_look(
            self.config,
            summary,
            detections,
            truth,
            detector=self.folder.path,
            epoch=self.position.epoch,
        )
        if self.position.epoch == self.config.epoch_size:
            show_report(report, self.folder.path, self.display.say)
        else:
            write_report(self.folder.path, report)

    def _keep_best(self, ap: float) -> None:
        """Write the weights when none were better."""
        if not self.config.keep_best or ap <= self.best.get("ap", -1.0):
            return
        before, self.best = self.best, {"ap": ap, "epoch": self.position.epoch}
        if self.saver.save_weights(BEST_NAME, self._meta([])):
            self.display.say(f"best AP so far {ap:.3f}: {self.folder.keeper.path(BEST_NAME)}")
        else:
            self.best = before  # whose file is there

    def leave(self, stop: StopSignals) -> int:
        """Save a stopped run and say where it stands; return its exit code.

        Args:
            stop: has the exit code of the signal, if one came to this rank.

        Raises:
            UserError: it cannot be saved.
        """
        self.save()
        self.saver.finish()
        self.display.say(
            f"stopped after epoch {self.position.epoch} step {self.position.step_in_epoch}; "
            f"continue with --config_path {self.folder.settings.resolve()} --resume auto "
            f"--output_dir {self.folder.path.resolve()}"
        )
        return stop.exit_code or EXIT_STOPPED

    def finish(self) -> int:
        """Say where everything is; return the exit code.

        Raises:
            UserError: the last checkpoint cannot be written.
        """
        self.log.sync()
        self.saver.finish()
        self.display.say(f"done; checkpoints in {self.folder.keeper.folder.resolve()}")
        self.display.say(f"loss log: {self.log.path.resolve()}")
        return 0
