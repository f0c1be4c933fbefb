# SPDX-License-Identifier: Apache-2.0
"""train.py that notes the losses and the images of every step in steps_<rank>.json.

With TINY=1 the tiny detector is in the place of the real one. DIE_AT="RANK EPOCH STEP" kills that
rank there, STOP_AT sends it a SIGTERM.
"""

import functools
import json
import os
import signal
from pathlib import Path

from src.base.errors import run_entry
from src.model_utils.config import load_config
from src.model_utils.device_adapter import choose_device


def main(argv):
    config = choose_device(load_config(argv))
    from src.training.assembly import assemble_run
    from tests.helpers.tiny_training import assemble_tiny

    return train(config, assemble_tiny if os.environ.get("TINY") else assemble_run)


def train(config, assemble_run):
    """Train what `assemble_run` puts together, in this process."""
    from src.training.loop import run_training
    from tests.helpers.tiny_training import WatchedGuard

    def assemble(config):
        run = assemble_run(config)
        run.guard = WatchedGuard(run.guard, functools.partial(note, run.ranks.rank))
        return run

    steps = []

    def note(rank, step):
        at = (rank, step.epoch, step.step_in_epoch)
        for name, number in (("DIE_AT", signal.SIGKILL), ("STOP_AT", signal.SIGTERM)):
            if os.environ.get(name) == "{} {} {}".format(*at):
                os.kill(os.getpid(), number)
        losses = [float(loss) for loss in step.losses]
        steps.append([*at[1:], losses, step.grad_norm, step.image_ids])
        path = Path(config.output_dir, f"steps_{rank}.json")
        path.write_text(json.dumps(steps))

    return run_training(config, assemble=assemble)


if __name__ == "__main__":
    run_entry(main)
