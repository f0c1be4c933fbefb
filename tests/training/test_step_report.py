# SPDX-License-Identifier: Apache-2.0
"""What is shown of the steps of a training."""

import io

import numpy as np

from src.base.progress import Display
from src.training.divergence import FinishedStep
from src.training.step_report import StepReport


def _report(stream, times):
    clock = iter(times)
    return StepReport(
        Display(stream, seconds=0.0),
        epochs=2,
        steps_per_epoch=4,
        images_per_step=6,
        interval=2,
        clock=lambda: next(clock),
    )


def _step(number):
    losses = np.array([1.0, 0.25, 0.5, 0.5, 0.25, 0.0], np.float32)
    return FinishedStep(1, number, number, 0.005, losses, 1.0, [])


def test_a_line_an_interval_where_there_is_no_terminal():
    stream = io.StringIO()
    report = _report(stream, [100.0, 102.0, 104.0, 106.0])
    for number in (1, 2, 3, 4):
        report.show(_step(number), 1.25)
    assert stream.getvalue().splitlines() == [
        f"epoch 1/2 step {number}/4  lr 0.005000  total_loss 1.25000  2000 ms/step  3.0 images/s"
        f"  left {left}"
        for number, left in ((2, "0:00:12"), (4, "0:00:08"))
    ]


def test_the_first_step_is_no_measure():
    stream = io.StringIO()
    report = _report(stream, [0.0, 50.0, 50.5, 51.0])
    report.show(_step(4), 1.25)
    assert stream.getvalue() == "epoch 1/2 step 4/4  lr 0.005000  total_loss 1.25000\n"


def test_pauses_are_no_part_of_a_step():
    stream = io.StringIO()
    report = _report(stream, [0.0, 1.0, 100.0, 101.0])
    report.show(_step(1), 1.25)
    report.show(_step(2), 1.25)
    report.pause()
    report.show(_step(3), 1.25)
    report.show(_step(4), 1.25)
    assert "1000 ms/step" in stream.getvalue().splitlines()[-1]
