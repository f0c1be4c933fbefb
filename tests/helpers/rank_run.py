# SPDX-License-Identifier: Apache-2.0
"""train.py that notes the losses and the images of every step in steps_<rank>.json.

With TINY=1 the tiny detector is in the place of the real one. DIE_AT="RANK EPOCH STEP" kills that
rank there, STOP_AT sends it a SIGTERM.
"""

import json
import os
import signal
from pathlib import Path

from src.base.errors import run_entry
from src.model_utils.config import load_config
from src.model_utils.device_adapter import prepare_environment


def main(argv):
    config = load_config(argv)
    prepare_environment(config.device_target)
    if os.environ.get("TINY"):
        from tests.helpers.tiny_run import use_tiny_detector

        use_tiny_detector()
    from src.training.loop import run_training
    from src.training.run import Run

    original, steps = Run.check, []

    def check(self, losses, grad_norm, image_index):
        at = (self.rank, self.position.epoch, self.position.step)
        for name, number in (("DIE_AT", signal.SIGKILL), ("STOP_AT", signal.SIGTERM)):
            if os.environ.get(name) == "{} {} {}".format(*at):
                os.kill(os.getpid(), number)
        images = [self.data.image_ids[i] for i in image_index.asnumpy()]
        steps.append([*at[1:], [float(loss) for loss in losses], grad_norm, images])
        path = Path(config.output_dir, f"steps_{self.rank}.json")
        path.write_text(json.dumps(steps))
        return original(self, losses, grad_norm, image_index)

    Run.check = check
    return run_training(config)


if __name__ == "__main__":
    run_entry(main)
