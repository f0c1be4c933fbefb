# SPDX-License-Identifier: Apache-2.0
"""Training: the loop, visible from end to end."""

import functools
from typing import Any

from ..base.console import warn
from ..dataset import create_train_dataset
from ..FasterRcnn.names import total_loss
from ..model_utils.moxing_adapter import Outputs
from ..processes.run_lock import released_at_the_end
from .divergence import TrainingDiverged
from .run import Run
from .stop_signals import StopSignals

EXIT_DIVERGED = 3  # losses or gradients are not finite: neither the user's input nor a defect


@released_at_the_end()
def run_training(config: Any, outputs: Outputs | None = None) -> int:
    """Train as train.py does.

    Args:
        outputs: told after every epoch, and when the run is over and before any rank leaves.

    Returns:
        The exit code: 0; 143, 130 or 129 after a SIGTERM, Ctrl-C or SIGHUP; `EXIT_DIVERGED` when
        the losses blew up.

    Raises:
        UserError: for anything in the configuration, the data or the checkpoints that cannot work.
    """
    outputs = outputs or Outputs(config)
    run = Run(config)
    last_words = functools.partial(outputs.try_upload, everything=True)
    with run.ranks.watch(config.rank_timeout, last_words):
        try:
            with StopSignals(run.status.say) as stop:
                code = train(run, stop, outputs)
        except TrainingDiverged as error:
            warn(f"error: {error}")
            code = EXIT_DIVERGED
        outputs.try_upload()
        run.ranks.wait()  # the end of one process may be the end of them all
    return code


def train(run: Run, stop: StopSignals, outputs: Outputs | None = None) -> int:
    """Run the epochs that are left; return the exit code."""
    at = run.position
    if at.step == run.steps and not run.evaluate(stop):  # stopped before this epoch was evaluated
        return run.leave(stop)
    while run.next_epoch():
        batches = create_train_dataset(
            run.config,
            run.data,
            epoch=at.epoch,
            rank=run.rank,
            world_size=run.world_size,
            skip_steps=at.step,
        )
        for batch in run.until_stopped(batches, stop):
            losses, grad_norm = run.train_step(batch)
            at.step, at.global_step = at.step + 1, at.global_step + 1
            losses = losses.asnumpy()
            run.check(losses, float(grad_norm.asnumpy()), image_index=batch[-1])
            run.log.update(at.epoch, at.step, losses)
            run.progress.update(
                at.epoch, at.step, run.rates[at.global_step - 1], float(total_loss(losses))
            )
            if run.agree(stop.wanted()):
                return run.leave(stop)
            run.save_if_due()
        if run.agree(stop.wanted()):
            return run.leave(stop)
        if at.step != run.steps:
            raise RuntimeError(f"epoch {at.epoch} ended after {at.step} of {run.steps} steps")
        if run.epoch_is_saved():
            run.save()
        if not run.evaluate(stop):
            return run.leave(stop)
        if outputs:
            outputs.after_epoch(at.epoch)
    return run.finish()
