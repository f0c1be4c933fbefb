# SPDX-License-Identifier: Apache-2.0
"""What is told of a run while it goes: the methods that a hook of the user's may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindspore import nn

    from ..evaluation.coco import CocoSummary
    from ..model_utils.config import Config


@dataclass(frozen=True)
class RunInfo:
    """A run, as hooks get it.

    Attributes:
        config: the effective configuration; `config.to_dict()` has plain values.
        folder: of the run.
        class_names: (C,) without the background.
        environment: what `environment.json` holds.
        step: steps that are done; 0 at the beginning of a run.
        epoch: the current one, from 1.
        steps_per_epoch, epochs: of the run.
        resumed: whether the run goes on.
        network: the detector.
        train_step: the Cell that makes a step of training.
    """

    config: "Config"
    folder: Path
    class_names: tuple[str, ...]
    environment: Mapping[str, Any]
    step: int
    epoch: int
    steps_per_epoch: int
    epochs: int
    resumed: bool
    network: "nn.Cell"
    train_step: "nn.Cell"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation has found.

    Attributes:
        summary: COCO's numbers.
        results: the detections as COCO results: image_id, category_id, bbox, score.
        truth: the COCO annotation dict that they were compared with.
        image_folder: that the file names in `truth` are relative to.
    """

    summary: "CocoSummary"
    results: Sequence[Mapping[str, Any]]
    truth: Mapping[str, Any]
    image_folder: str


class Callback:
    """A hook into a run: a class of the user's with some of these methods.

    Named by the key `callbacks` as `module.Class`, made without arguments, and called in the first
    process only. What `on_start` raises ends the run before its first step; what a later method
    raises is said, and the hook is left out from then on.
    """

    def on_start(self, run: RunInfo) -> None:
        """The run is about to make its first step.

        Args:
            run: what it is.
        """

    def on_step(self, step: int) -> None:
        """A step has been made. Keep it short: this is called after every one.

        Args:
            step: steps of the run that are done.
        """

    def on_train_row(self, row: Mapping[str, Any]) -> None:
        """A row of kind "train" has been written.

        Args:
            row: as in `metrics.jsonl`.
        """

    def on_evaluation(self, row: Mapping[str, Any], evaluation: Evaluation) -> None:
        """An evaluation is done.

        Args:
            row: of kind "eval", as in `metrics.jsonl`.
            evaluation: all that it has found.
        """

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint has been written.

        Args:
            path: the file; older ones may be removed later.
        """

    def on_end(self, exit_code: int) -> None:
        """The run is over, finished or stopped.

        Args:
            exit_code: of the program; 0 when it is finished.
        """
