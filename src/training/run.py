# SPDX-License-Identifier: Apache-2.0
"""One training run: the verbs of the loop, over parts that `assembly` makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..base.errors import UserError
from ..base.progress import Display
from ..checkpoints.file import describe_model
from ..checkpoints.names import BEST_NAME, checkpoint_name
from ..data.record_set import MindRecordSet
from ..dataset import create_train_dataset, images_per_step, iterate
from ..evaluation.run import GroundTruth
from ..FasterRcnn.names import total_loss
from ..graph_cache.compile_cache import CompileCache
from ..model_utils.config import Config
from ..network_define import TrainingStep
from ..processes.ranks import Ranks
from ..report.build import try_report
from ..run_record.environment import note_early_end
from ..run_record.recorder import Recorder
from ..run_record.schema import Row
from .best import BestMetric
from .divergence import DivergenceGuard, FinishedStep, TrainingDiverged
from .loss_log import LossLog
from .resume import Position
from .run_folder import RunFolder
from .saving import CheckpointSaver
from .step_report import StepReport
from .stop_signals import StopSignals
from .validation import validate
from .weights import Weights

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
        weights: of the network, with their moving average if there is one.
        train_one_step: makes one step of training it.
        graphs: calls Cells, and compiles them.
        steps_per_epoch: on this rank.
        rates: (steps of the run,) float32, the learning rate of each.
        contract: what has to be the same when the run goes on, for its steps to mean the same.
        guard: looks at what every step gives.
        log: this rank's loss log.
        recorder: the record of the run, and its hooks.
        saver: writes checkpoints.
        step_report: shows the steps.
        position: where the run stands.
        best: which weights are the best so far; None where no number says so.
        saved: the (epoch, step) of the newest checkpoint, None before there is one.
    """

    config: Config
    ranks: Ranks
    display: Display
    folder: RunFolder
    data: MindRecordSet
    validation: tuple[MindRecordSet, GroundTruth] | None
    network: nn.Cell
    weights: Weights
    train_one_step: TrainingStep
    graphs: CompileCache
    steps_per_epoch: int
    rates: np.ndarray
    contract: dict[str, Any]
    guard: DivergenceGuard
    log: LossLog
    recorder: Recorder
    saver: CheckpointSaver
    step_report: StepReport
    position: Position
    best: BestMetric | None = None
    saved: tuple[int, int] | None = None
    _is_save_due: bool = False

    def next_epoch(self) -> bool:
        """Move on to the next epoch if the current one is done; False where none comes."""
        if self.epoch_is_done():
            if self._is_last_epoch() or self._ends_early():
                return False
            self.position.next_epoch()
        self.train_one_step.set_train(True)
        return True

    def epoch_is_done(self) -> bool:
        """Say whether all steps of the current epoch have been made."""
        return self.position.step_in_epoch >= self.steps_per_epoch

    def _is_due(self, every: int, *, is_last: bool) -> bool:
        """Say so of what is done after `every` epochs (0: never) and after the last one."""
        return every > 0 and (self.position.epoch % every == 0 or is_last)

    def _is_last_epoch(self) -> bool:
        """Say whether no epoch comes after the current one."""
        return self.position.epoch >= self.config.epoch_size

    def _is_over(self) -> bool:
        """Say, to all ranks alike, whether the run gets no better; rank 0 knows."""
        over = self.best is not None and self.best.is_over()
        return bool(self.ranks.all_reduce([over])[0])

    def batches(self, stop: StopSignals) -> Iterator[list[tuple[Tensor, ...]]]:
        """Yield the batches of every step that is left of the epoch; fewer after a wish to stop.

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
        batches: list[tuple[Tensor, ...]] = []
        try:
            for batch in iterate(dataset, records=self.data):
                stop.listen()
                batches.append(batch)
                if len(batches) == self.config.accumulate_steps:
                    yield batches
                    batches = []
        except UserError:  # an image or a record that has been damaged meanwhile
            if self.ranks.world_size == 1:  # the others would be waited for in vain
                self.save()
                self.saver.finish()
            raise
        except RuntimeError:
            if not stop.wanted():
                raise

    def train_on(self, batches: list[tuple[Tensor, ...]]) -> FinishedStep:
        """Make one step with the columns of its batches; return what it gave.

        Args:
            batches: as `batches` yields them; the last column, the images' indices, stays here.
        """
        self.saver.trained()
        scale = Tensor(self.guard.scaler.scale, ms.float32)
        known = self.graphs.compilations
        columns = [batch[:-1] for batch in batches]
        losses, grad_norm = self.train_one_step.make(self.graphs, scale, columns)
        if self.graphs.compilations > known:  # that is no part of a step's time
            self.step_report.pause()
        at = self.position
        at.advance()
        self.weights.trained(at.global_step)
        return FinishedStep(
            at.epoch,
            at.step_in_epoch,
            at.global_step,
            rate=self.rates[at.global_step - 1],
            losses=losses,
            grad_norm=grad_norm,
            image_ids=[self.data.image_ids[i] for batch in batches for i in batch[-1].asnumpy()],
            loss_scale=self.guard.scaler.scale,
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
        """Put a step into the loss log and the record, and show it.

        Args:
            step: what it gave.
        """
        is_due = self.log.update(step.epoch, step.step_in_epoch, step.losses)
        means = self.log.means
        if is_due:
            means = self.ranks.all_reduce(means) / self.ranks.world_size
        self.step_report.show(step, total_loss(means))
        self.recorder.step(step.global_step, step.grad_norm, self.step_report.elapsed)
        if is_due:
            self.recorder.training(
                self._place(),
                means.tolist(),
                learning_rate=float(step.rate),
                loss_scale=step.loss_scale,
            )

    def _place(self) -> tuple[int, int, int]:
        """Where the run stands in its record: step of the run, epoch, images of the epoch."""
        at = self.position
        images = at.step_in_epoch * images_per_step(self.config, self.ranks.world_size)
        return at.global_step, at.epoch, images

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
        if self._is_due(self.config.save_checkpoint_epochs, is_last=self._is_last_epoch()):
            self.save()

    def save(self) -> None:
        """Write the checkpoint of the current position (rank 0), unless it is there already."""
        at = self.position
        if self.saved != (at.epoch, at.step_in_epoch):
            self.weights.share_statistics()
            self.log.sync()
            self.recorder.sync()
            meta = self._meta(self.ranks.all_gather(self.log.state()))
            if self.ranks.rank == 0:
                ends_epoch = self.epoch_is_done() and self._is_due(
                    self.config.save_checkpoint_epochs, is_last=self._is_last_epoch()
                )
                name = checkpoint_name(at.epoch, at.step_in_epoch)
                if self.saver.save(name, meta, within_epoch=not ends_epoch):
                    self.recorder.saved(self.folder.keeper.path(name))
                self.folder.keep_settings(self.config)
        self.saved = (at.epoch, at.step_in_epoch)
        self.step_report.pause()

    def _meta(self, logs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what a checkpoint says of the run; `logs`: the unfinished lines of every rank."""
        return {
            **describe_model(self.config),
            **self.contract,
            "frozen_stages": self.config.frozen_stages,
            "batch_size": self.config.batch_size,
            "accumulate_steps": self.config.accumulate_steps,
            "world_size": self.ranks.world_size,
            "steps_per_epoch": self.steps_per_epoch,
            **vars(self.position),
            "loss_scaler": self.guard.scaler.state(),
            "skipped": self.guard.skipped,
            "loss_log": self.log.state(),
            "loss_logs": logs,
            "gradient_norm": self.recorder.state(),
            "best": self.best.state() if self.best else {},
        }

    def evaluate(self, stop: StopSignals) -> bool:
        """Evaluate after an epoch if it is due, keep the best weights; False means leave.

        Every rank looks at its share of the images; rank 0 judges them all. A number of the
        training comes first: the run's last epoch, which it may decide on, is evaluated.

        Args:
            stop: looked at while images are evaluated, and afterwards.
        """
        judges_training = self.best is not None and not self.best.of_evaluation
        if judges_training:
            self.weights.share_statistics()
            self._judge(self.recorder.newest)
        is_last = self._is_last_epoch() or self._is_over()
        due = self._is_due(self.config.eval_interval, is_last=is_last)
        if self.validation is not None and (due or (self.config.report and is_last)):
            self.weights.share_statistics()
            with self.weights.evaluated():
                validation = validate(
                    self.network,
                    self.train_one_step.loss_net,
                    self.config,
                    self.validation,
                    ranks=self.ranks,
                    display=self.display,
                    graphs=self.graphs,
                    should_stop=lambda: self.agree_to_stop(stop),
                )
            self.step_report.pause()
            if validation is None:
                return not self._vote(True)
            if validation.found is not None:
                for line in (f"evaluation after epoch {self.position.epoch}", *validation.lines()):
                    self.display.say(line)
                row = self.recorder.evaluation(self._place(), validation.found, **validation.cost())
                if not judges_training:
                    self._judge(row)
            validation.look_closer(
                self.config,
                self.folder.path,
                self.position.epoch,
                is_last=is_last or (self.best is not None and self.best.is_over()),
                say=self.display.say,
            )
        return not self.agree_to_stop(stop)

    def _judge(self, row: Row) -> None:
        """Write the weights when none were better (rank 0)."""
        if not self.best or self.ranks.rank or not self.best.take(row, self.position.epoch):
            return
        if self.config.keep_best:
            path = self.folder.keeper.path(BEST_NAME)
            if self.saver.save_weights(BEST_NAME, self._meta([])):
                self.display.say(f"best so far, {self.best}: {path}")
                self.recorder.saved(path)
            else:
                self.best.not_kept()

    def _ends_early(self) -> bool:
        """Say whether the run gets no better; it is saved then."""
        if not self._is_over():
            return False
        if self.best and self.ranks.rank == 0:
            self.display.say(f"stopped early: {self.best.why_over()}")
            note_early_end(self.folder.path, self.best.why_over())
        self.save()
        return True

    def leave(self, stop: StopSignals) -> int:
        """Save a stopped run and say where it stands; return its exit code.

        Args:
            stop: has the exit code of the signal, if one came to this rank.

        Raises:
            UserError: it cannot be saved.
        """
        self.save()
        self.saver.finish()
        at = self.position
        self.display.say(f"stopped after epoch {at.epoch} step {at.step_in_epoch}")
        for line in self.folder.after_a_stop(self.config):
            self.display.say(line)
        return stop.exit_code or EXIT_STOPPED

    def finish(self) -> int:
        """Say where everything is; return the exit code.

        Raises:
            UserError: the last checkpoint cannot be written.
        """
        self.log.sync()
        self.recorder.sync()
        self.saver.finish()
        self.display.say(f"done; checkpoints in {self.folder.keeper.folder.resolve()}")
        self.display.say(f"loss log: {self.log.path.resolve()}")
        wanted = self.config.run_report and self.ranks.rank == 0
        if wanted and (path := try_report(self.config, self.folder.path)):
            self.display.say(f"report: {path.resolve()}")
        return 0
