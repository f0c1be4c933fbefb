# SPDX-License-Identifier: Apache-2.0
"""The commands to go on with after a run."""

import shlex

from ..base.messages import one_line
from ..base.program import command
from ..model_utils.config import Config
from ..pages.elements import CommandLine
from ..run_record.going_on import going_on
from ..run_record.hooks import is_hook_name
from ..run_record.schema import CALLBACKS, EVENTS_FOLDER
from . import checked
from .run_files import RunFiles

_LONGEST = 20_000  # letters; a path has 4,096 bytes at most


def next_steps(run: RunFiles, config: Config) -> list[CommandLine]:
    """Return commands with the paths of this run.

    Args:
        run: what is in its folder.
        config: of the run; uses epoch_size and device_target.
    """
    folder = str(run.folder.resolve())
    settings = ("--config_path", str(run.settings_file.resolve())) if run.settings_file else ()
    steps = []
    if run.position and run.position[0] < config.epoch_size:
        steps.append(_going_on(run, f"after epoch {run.position[0]} of {config.epoch_size}"))
    if run.checkpoint:
        best = str(run.checkpoint.resolve())
        steps += [
            _line(
                "Look at what it finds on pictures of your own",
                *("predict", "--checkpoint_path", best, "--input", "PICTURE_OR_FOLDER"),
            ),
            _line(
                "Evaluate it",
                *("eval", *settings, "--checkpoint_path", best, "--output_dir", f"{folder}/eval"),
            ),
            _line(
                "Write it for deployment",
                *("export", *settings, "--ckpt_file", best, "--file_format", "ONNX"),
                *("--file_name", f"{folder}/detector"),
            ),
            _line(
                "Train from its weights, on other data or for longer",
                *("train", *settings, "--pre_trained", best, "--output_dir", "NEW_FOLDER"),
            ),
        ]
    if (run.folder / EVENTS_FOLDER).is_dir():
        steps.append(
            CommandLine(
                "Look at the curves in TensorBoard",
                _shown("tensorboard", "--logdir", f"{folder}/{EVENTS_FOLDER}"),
            )
        )
    steps.append(_line("Make this page again", "report", folder))
    return steps


def _going_on(run: RunFiles, place: str) -> CommandLine:
    """How the training goes on; one that has ended early does so only without early stopping."""
    names = checked.items(run.environment.get(CALLBACKS))
    arguments = going_on(run.folder, run.settings_file, [n for n in names if is_hook_name(n)])
    purpose = f"Go on with the training, {place}"
    if run.stopped_early:
        purpose += f", though it ended early ({run.stopped_early})"
        arguments += " --early_stopping 0"
    return CommandLine(purpose, one_line(f"{command('train')} {arguments}", _LONGEST))


def _line(purpose: str, name: str, *arguments: str) -> CommandLine:
    return CommandLine(purpose, f"{command(name)} {_shown(*arguments)}")


def _shown(*arguments: str) -> str:
    """A command line as a text: names of files may be none."""
    return one_line(shlex.join(arguments), _LONGEST)
