# SPDX-License-Identifier: Apache-2.0
"""Training: the loop, visible from end to end."""

import functools
from collections.abc import Callable

from ..base.console import warn
from ..model_utils.config import Config
from ..model_utils.moxing_adapter import Outputs
from ..processes.run_lock import released_at_the_end
from ..run_record.log_file import listening
from .assembly import assemble_run
from .divergence import TrainingDiverged
from .run import Run
from .stop_signals import StopSignals

EXIT_FAILED = 1  # an error that has its own message
EXIT_DIVERGED = 3  # losses or gradients are not finite: neither the user's input nor a defect


@released_at_the_end()
def run_training(
    config: Config,
    outputs: Outputs | None = None,
    *,
    assemble: Callable[[Config], Run] = assemble_run,
) -> int:
    """Train as train.py does.

    Args:
        config: of the user.
        outputs: told after every epoch, and when the run is over and before any rank leaves.
        assemble: makes the run.

    Returns:
        The exit code: 0; 143, 130 or 129 after a SIGTERM, Ctrl-C or SIGHUP; `EXIT_DIVERGED` when
        the losses blew up.

    Raises:
        UserError: for anything in the configuration, the data or the checkpoints that cannot work.
    """
    outputs = outputs or Outputs(config)
    with listening() as log:
        run = assemble(config)
        if run.ranks.rank == 0:
            log.begin(run.folder.path)
        return _run_to_its_end(run, config, outputs)


def _run_to_its_end(run: Run, config: Config, outputs: Outputs) -> int:
    code = EXIT_FAILED
    last_words = functools.partial(outputs.try_upload, everything=True)
    with run.ranks.watch(config.rank_timeout, last_words):
        try:
            with StopSignals(run.display.say) as stop:
                code = train(run, stop, outputs)
        except TrainingDiverged as error:
            warn(f"error: {error}")
            code = EXIT_DIVERGED
        finally:
            run.recorder.end(code)
        outputs.try_upload()
        run.ranks.barrier()  # the end of one process may be the end of them all
    return code


def train(run: Run, stop: StopSignals, outputs: Outputs | None = None) -> int:
    """Run the epochs that are left.

    Args:
        run: where it stands it goes on.
        stop: asked after every step.
        outputs: told after every epoch.

    Returns:
        The exit code.

    Raises:
        TrainingDiverged: losses or gradients are not finite.
        UserError: the last checkpoint cannot be written.
    """
    if run.epoch_is_done() and not run.evaluate(stop):  # stopped before it was evaluated
        return run.leave(stop)
    while run.next_epoch():
        for batch in run.batches(stop):
            step = run.train_on(batch)
            run.check(step)
            ends = run.agree_to_stop(stop)  # before a row is made, in which all ranks take part
            run.report(step)
            if ends:
                return run.leave(stop)
            run.save_if_due()
        if run.agree_to_stop(stop):
            return run.leave(stop)
        run.end_epoch()
        if not run.evaluate(stop):
            return run.leave(stop)
        if outputs:
            outputs.after_epoch(run.position.epoch)
    return run.finish()
