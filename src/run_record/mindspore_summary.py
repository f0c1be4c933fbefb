# SPDX-License-Identifier: Apache-2.0
"""MindSpore's own summaries of a run, by the model zoo's key `log_summary`.

`SummaryCollector`, which the model zoo hands to `Model.train`, writes through `SummaryRecord`; a
loop of one's own, as here, uses that directly. MindSpore Insight reads both.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .callback import Callback, Evaluation, RunInfo
from .schema import KIND, PER_CLASS, PLACE, SUMMARY_FOLDER, class_column

if TYPE_CHECKING:
    from mindspore.train import SummaryRecord

_HISTOGRAMS = 5  # parameters that have one, as with SummaryCollector


class MindSporeSummary(Callback):
    """Writes `summary/` in the folder of a run: scalars, the graph, histograms of weights."""

    def __init__(self) -> None:
        self._record: SummaryRecord | None = None
        self._parameters: list[Any] = []

    def on_start(self, run: RunInfo) -> None:
        """Begin the files."""
        from mindspore.train import SummaryRecord

        self._record = SummaryRecord(
            str(run.folder / SUMMARY_FOLDER), network=run.train_step, raise_exception=False
        )
        self._parameters = list(run.network.trainable_params())[:_HISTOGRAMS]

    def on_train_row(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of a row, and the weights' histograms."""
        assert self._record is not None
        self._record.set_mode("train")
        for parameter in self._parameters:
            self._record.add_value("histogram", f"{parameter.name}/auto", parameter.value())
        self._scalars(row)

    def on_evaluation(self, row: Mapping[str, Any], evaluation: Evaluation) -> None:
        """Write the numbers of an evaluation."""
        assert self._record is not None
        self._record.set_mode("eval")
        classes = {class_column(name): ap for name, ap in row[PER_CLASS].items()}
        self._scalars({**{key: row[key] for key in row if key != PER_CLASS}, **classes})

    def on_end(self, exit_code: int) -> None:
        """Write what is left, and end the processes that write."""
        if self._record is not None:
            self._record.close()

    def _scalars(self, row: Mapping[str, Any]) -> None:
        from mindspore import Tensor

        assert self._record is not None
        for name, value in row.items():
            if value is not None and name not in (KIND, *PLACE, "time"):
                self._record.add_value("scalar", name, Tensor(np.float32(value)))
        self._record.record(row["step"])
        self._record.flush()
