# SPDX-License-Identifier: Apache-2.0
"""Training runs of the tiny detector, put together from parts that a test hands in."""

import dataclasses

from src.training.assembly import assemble_run
from src.training.divergence import DivergenceGuard
from src.training.loop import run_training
from tests.helpers.tiny_detector import TinyDetector, TinyWithLoss


def assemble_tiny(config, before_check=None, **parts):
    """Return the `Run` of the tiny detector.

    Args:
        before_check: gets every step's `FinishedStep`; may raise, and may return another one.
        parts: fields of the `Run` to replace; a function is called with the run and returns it.
    """
    run = assemble_run(config, build_network=build_tiny, build_loss=build_tiny_loss)
    if before_check:
        run.guard = WatchedGuard(run.guard, before_check)
    made = {name: part(run) if callable(part) else part for name, part in parts.items()}
    return dataclasses.replace(run, **made)


def train_tiny(config, outputs=None, **parts):
    """`run_training` with the tiny detector and the parts of `assemble_tiny`."""
    return run_training(config, outputs, assemble=lambda config: assemble_tiny(config, **parts))


def build_tiny(config):
    return TinyDetector(num_classes=config.num_classes)


def build_tiny_loss(network, config, world_size):
    return TinyWithLoss(network)


class WatchedGuard(DivergenceGuard):
    """Lets a test see every step first."""

    def __init__(self, guard, before_check):
        super().__init__(guard.scaler, guard._say, skipped=guard.skipped)
        self._before_check = before_check

    def check(self, step):
        super().check(self._before_check(step) or step)
