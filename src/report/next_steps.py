# SPDX-License-Identifier: Apache-2.0
"""The commands to go on with after a run."""

import shlex

from ..base.program import command
from ..model_utils.config import Config
from ..pages.elements import CommandLine
from ..run_record.schema import EVENTS_FOLDER
from .run_files import RunFiles


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
        steps.append(
            _line(
                f"Go on with the training, after epoch {run.position[0]} of {config.epoch_size}",
                *("train", *settings, "--resume", "auto", "--output_dir", folder),
            )
        )
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
        line = shlex.join(["tensorboard", "--logdir", f"{folder}/{EVENTS_FOLDER}"])
        steps.append(CommandLine("Look at the curves in TensorBoard", line))
    steps.append(_line("Make this page again", "report", folder))
    return steps


def _line(purpose: str, name: str, *arguments: str) -> CommandLine:
    return CommandLine(purpose, f"{command(name)} {shlex.join(arguments)}")
