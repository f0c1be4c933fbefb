# SPDX-License-Identifier: Apache-2.0
"""What a run finds on its validation images: COCO's numbers, and the losses."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from ..base.errors import UserError
from ..base.messages import counted
from ..base.progress import Display
from ..data.epoch_sampling import SHUFFLE
from ..data.record_set import MindRecordSet
from ..dataset import create_train_dataset, iterate
from ..detector import ViewsDetector
from ..evaluation.analysis.report import show_report, write_report
from ..evaluation.run import Detections, GroundTruth, closer_look, evaluate
from ..FasterRcnn.names import LOSS_NAMES, total_loss
from ..graph_cache.compile_cache import CompileCache
from ..model_utils.config import Config
from ..processes.ranks import Ranks
from ..run_record.callback import Evaluation

_EPOCH = 1  # always the same order and the same samples, so that evaluations compare


@dataclass(frozen=True)
class Validation:
    """What the validation images say of a network.

    Attributes:
        detections: of all ranks.
        truth: what they were compared with.
        found: COCO's numbers; None on other ranks than the first.
        losses: (6,) in the order of `names.Losses`; None where they were not computed.
        seconds: of all of it.
    """

    detections: Detections
    truth: GroundTruth
    found: Evaluation | None
    losses: list[float] | None
    seconds: float

    def lines(self) -> list[str]:
        """Return it as lines, on the first rank."""
        lines = list(self.found.summary.report()) if self.found else []
        if self.losses is not None:
            named = zip(
                ("total_loss", *LOSS_NAMES), (total_loss(self.losses), *self.losses), strict=True
            )
            values = ", ".join(f"{name} {value:.5f}" for name, value in named)
            lines.append(f"validation losses: {values}")
        return [*lines, f"{self.detections.images_per_second:.2f} images/s"]

    def cost(self) -> dict[str, Any]:
        """Return what a row of the record says besides COCO's numbers."""
        speed = self.detections.images_per_second
        return {"losses": self.losses, "seconds": self.seconds, "images_per_second": speed}

    def look_closer(
        self, config: Config, folder: Path, epoch: int, *, is_last: bool, say: Callable[[str], None]
    ) -> None:
        """Write the report of an evaluation, if there is room for it (rank 0).

        Args:
            config: `report` asks for it after every evaluation, `run_report` after the last one.
            folder: of the run.
            epoch: the network's.
            is_last: whether it is the run's last; `report` also shows what that one says.
            say: prints a line.
        """
        if self.found is None or not (config.report or (config.run_report and is_last)):
            return
        summary = self.found.summary
        report = closer_look(
            config, summary, self.detections, self.truth, detector=folder, epoch=epoch
        )
        try:
            if config.report and is_last:
                show_report(report, folder, say)
            else:
                write_report(folder, report)
        except UserError as error:  # as of the record and the loss log: the training goes on
            say(f"WARNING: no report of this evaluation: {error}")


def validate(
    network: nn.Cell,
    loss_net: nn.Cell,
    config: Config,
    images: tuple[MindRecordSet, GroundTruth],
    *,
    ranks: Ranks,
    display: Display,
    graphs: CompileCache,
    should_stop: Callable[[], bool],
) -> Validation | None:
    """Look at all validation images, on all ranks together.

    Args:
        network: the detector; is put into evaluation mode and left there, as `loss_net`.
        loss_net: the Cell around it that gives the losses.
        config: the effective configuration; uses eval_losses and the keys of an evaluation.
        images: with their ground truth.
        ranks: the processes of the run; all call this.
        display: shows how far it is.
        graphs: calls the Cells.
        should_stop: asked after every batch, to all ranks alike.

    Returns:
        None when it was given up.
    """
    start = time.perf_counter()
    network.set_train(False)
    one_view = config.replace(test_flip=False, test_scales=[1.0])
    outcome = evaluate(
        ViewsDetector(network, one_view, graphs),
        one_view,
        *images,
        ranks=ranks,
        display=display,
        should_stop=should_stop,
    )
    if outcome is None:
        return None
    (summary, detections), (records, truth) = outcome, images
    losses = None
    if config.eval_losses:
        losses = validation_losses(
            loss_net,
            config,
            records,
            ranks=ranks,
            graphs=graphs,
            say=display.say,
            should_stop=should_stop,
        )
    found = None
    if summary is not None:  # rank 0 sees to the results
        found = Evaluation(summary, detections.results, truth.data, truth.image_dir)
    return Validation(detections, truth, found, losses, time.perf_counter() - start)


def validation_losses(
    loss_net: nn.Cell,
    config: Config,
    records: MindRecordSet,
    *,
    ranks: Ranks,
    graphs: CompileCache,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> list[float] | None:
    """Return the means of the losses over whole batches of the validation images, (6,).

    The network is in evaluation mode: BatchNorm has its stored statistics and keeps them. Sampling
    is random as in training, and the same in every evaluation.

    Args:
        loss_net: Cell of `build_loss`; is put into evaluation mode and left there.
        config: the effective configuration.
        records: the validation images; `config.max_val_images` limits their number.
        ranks: the processes of the run; all call this.
        graphs: calls the Cell.
        say: told when there are too few images.
        should_stop: asked after every batch, to all ranks alike.

    Returns:
        None when there are fewer images than a batch, or it was given up.
    """
    plain = without_augmentation(config, ranks.world_size)
    try:
        dataset = create_train_dataset(
            plain, records, epoch=_EPOCH, rank=ranks.rank, world_size=ranks.world_size
        )
    except UserError:
        if records.num_images >= config.batch_size * ranks.world_size:
            raise
        say(f"no validation losses: {counted(records.num_images, 'image')}, fewer than a batch")
        return None
    loss_net.set_train(False)
    sums, count = np.zeros(len(LOSS_NAMES)), 0
    for batch in iterate(dataset, records=records):
        losses = graphs(loss_net, *batch[:-1])
        sums += [float(loss.asnumpy()) for loss in losses]
        count += 1
        if should_stop():
            return None
    return (ranks.all_reduce(sums / count) / ranks.world_size).tolist()


def without_augmentation(config: Config, world_size: int) -> Config:
    """Return the configuration whose training pictures are as evaluation has them.

    Args:
        config: of the run.
        world_size: number of ranks.
    """
    batch = config.batch_size * world_size
    return config.replace(
        train_sampler=SHUFFLE,
        augmentations=["resize"],
        scale_jitter=[1.0, 1.0],
        accumulate_steps=1,
        min_size=list(config.min_size)[-1:],
        steps_per_epoch_limit=-(-config.max_val_images // batch) if config.max_val_images else 0,
    )
