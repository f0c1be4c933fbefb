# SPDX-License-Identifier: Apache-2.0
"""Where a training run stands, and how another one goes on from there."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from ..base.errors import DamagedFileError, UserError
from ..base.messages import counted, short
from ..checkpoints.file import Checkpoint, describe_model
from ..checkpoints.loading import load_training_state, require_training_state
from ..checkpoints.meta import images_of_step
from ..checkpoints.names import find_checkpoints
from ..checkpoints.run_config import read_unasked
from ..checkpoints.settings import open_checkpoint
from ..model_utils.config import Config, is_saved, load_config
from ..model_utils.configuration.schema import CODE_KEYS, RULES, SETTABLE
from ..model_utils.parameters import set_parameter
from ..processes.ranks import Ranks
from .checkpoint_keeper import CheckpointKeeper
from .weights import Weights


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch: the current one, from 1.
        step_in_epoch: steps of it that are done.
        global_step: steps of the run that are done.
        epoch_parts: global batch and last step of the parts of the epoch that other numbers of
            processes have made; see `plan_epoch`.
    """

    epoch: int = 1
    step_in_epoch: int = 0
    global_step: int = 0
    epoch_parts: list[list[int]] = field(default_factory=list)

    def advance(self) -> None:
        """Move on by one step."""
        self.step_in_epoch += 1
        self.global_step += 1

    def next_epoch(self) -> None:
        """Move on to the beginning of the next epoch."""
        self.epoch += 1
        self.step_in_epoch, self.epoch_parts = 0, []


def open_start(wanted: str, folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Read the checkpoint to go on from; None to start from the beginning.

    Of a folder it is the newest one that is whole. Those before it are passed over with a line that
    says so: a full disk or a power cut must not end a run that has older ones.

    Args:
        wanted: the key `resume`: a file, a folder, "auto" or "".
        folder: of the run's own checkpoints.
        say: prints a line.

    Raises:
        UserError: the named file cannot be used, or a folder holds checkpoints and none of them
            can, or a folder was named that holds none.
    """
    if not wanted:
        return None
    searched = folder if wanted == "auto" else Path(wanted)
    if wanted != "auto" and not os.path.isdir(searched):  # False for a name that is too long
        return _read_start(searched)
    damage = None
    for path in _newest_first(searched):
        try:
            return _read_start(path)
        except DamagedFileError as error:
            damage = error
            say(f"WARNING: {error}. It is passed over: trying the checkpoint before it")
    if damage:
        raise UserError(
            f"{searched}: none of its checkpoints can be used; of the oldest one, {damage}, "
            "or another output_dir to start anew"
        )
    if wanted != "auto":
        raise UserError(
            f"{searched}: holds no faster_rcnn-*.ckpt to resume from; set resume to a training "
            "checkpoint or a folder with some, or to auto"
        )
    return None


def _read_start(path: Path) -> Checkpoint:
    checkpoint = open_checkpoint(path, "resume")
    require_training_state(checkpoint, "resume")
    return checkpoint


def newest_checkpoint(folder: Path) -> str:
    """Return the name of the newest checkpoint in a run's folder; "" when there is none.

    Args:
        folder: `ckpt_0`; need not exist.
    """
    return next((path.name for path in _newest_first(folder)), "")


def _newest_first(folder: Path) -> list[Path]:
    """The run's checkpoints in a folder: those in its list, else those that lie there."""
    listed = CheckpointKeeper.read_index(folder)
    if not listed:  # lost, of another program, or not written before the first one was there
        return find_checkpoints(folder)[::-1]
    return [folder / name for name in reversed(listed)]


def position_of(
    path: Path,
    meta: Mapping[str, Any],
    *,
    batch_size: int,
    world_size: int,
    accumulate_steps: int = 1,
    steps: int,
    epochs: int,
) -> Position:
    """Translate where a checkpoint's run stood into the steps of this one.

    The same number of images a step (`batch_size` x `world_size` x `accumulate_steps`): the same
    position. The same `batch_size` with another number of ranks or of batches a step: the same
    epoch, after the first step at which as many of its images have been seen; so no image is seen
    twice in an epoch, and less than the images of one step are left out.

    Args:
        path: of the checkpoint, for errors.
        meta: what it says of its run.
        batch_size, world_size, accumulate_steps, steps, epochs: of this run; steps an epoch.

    Raises:
        UserError: the steps of the two runs do not mean the same, or this one would end earlier.
    """
    if meta["epoch"] > epochs:
        raise UserError(
            f"{path}: stands at step {meta['step_in_epoch']} of epoch {meta['epoch']}, but "
            f"epoch_size is {epochs}; raise epoch_size, or resume an earlier checkpoint"
        )
    images_before, images = images_of_step(meta), batch_size * world_size * accumulate_steps
    parts = meta.get("epoch_parts", [])
    if images == images_before:
        _require(path, meta, "steps_per_epoch", steps)
        return Position(meta["epoch"], meta["step_in_epoch"], meta["global_step"], parts)
    _require(path, meta, "batch_size", batch_size)
    done = meta["step_in_epoch"] * images_before
    complete = meta["step_in_epoch"] >= meta["steps_per_epoch"]
    step = steps if complete else min(-(-done // images), steps)
    # Of an epoch that has not begun, or is complete, nothing has to be left out.
    parts = [*parts, [images_before, meta["step_in_epoch"]]] if 0 < step < steps else []
    return Position(meta["epoch"], step, (meta["epoch"] - 1) * steps + step, parts)


def load_start(
    start: Checkpoint | None,
    weights: Weights,
    optimizer: nn.Optimizer,
    config: Config,
    contract: Mapping[str, Any],
    steps: int,
    ranks: Ranks,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Start all ranks alike: with what rank 0 has, from the beginning or from a checkpoint.

    Args:
        start: what rank 0 goes on from.
        weights: get their values, and so does their average.
        optimizer: gets its state.
        config: of this run.
        contract: what has to be as it was, by the meta's keys.
        steps: an epoch's, in this run.
        ranks: the processes of the run; all call this.
        say: prints a line.

    Returns:
        The checkpoint's meta, and under "position" where this run stands; empty at the beginning.

    Raises:
        UserError: the run cannot go on from there.
    """
    meta: dict[str, Any] = {}
    if start is not None:
        model, averages = describe_model(config), weights.averages()
        load_training_state(weights.network, optimizer, start, model, contract, averages=averages)
        at = position_of(
            start.path,
            start.meta,
            batch_size=config.batch_size,
            world_size=ranks.world_size,
            accumulate_steps=config.accumulate_steps,
            steps=steps,
            epochs=config.epoch_size,
        )
        set_parameter(optimizer.global_step, np.array([at.global_step], np.int32))
        for line in resumed_lines(start.path, start.meta, at, config, ranks.world_size):
            say(line)
        meta = {**start.meta, "position": vars(at)}
    elif config.resume:
        say(f"nothing to resume in {Path(config.output_dir).resolve()}: a new run begins")
    meta = ranks.broadcast(meta)
    weights.begin(resumed=bool(meta))
    if meta:
        ranks.broadcast_parameters(optimizer.get_parameters())
    return meta


def state_of(meta: Mapping[str, Any], config: Config, world_size: int) -> dict[str, Any]:
    """Return the fields `position` and `saved` of the run that goes on.

    Args:
        meta: what `load_start` returned.
        config: of this run.
        world_size: number of ranks of this run.
    """
    if not meta:
        return {"position": Position()}
    at = Position(**meta["position"])
    is_saved = not _changes_of_step(meta, config, world_size)
    saved = (at.epoch, at.step_in_epoch) if is_saved else None
    return {"position": at, "saved": saved}


def resumed_lines(
    path: Path, meta: Mapping[str, Any], at: Position, config: Config, world_size: int
) -> list[str]:
    """Say where a run goes on.

    Args:
        path: of the checkpoint.
        meta: what it says of its run.
        at: where this run stands.
        config: of this run.
        world_size: number of ranks of this run.
    """
    lines = [f"resumed {path} after epoch {meta['epoch']} step {meta['step_in_epoch']}"]
    changes = _changes_of_step(meta, config, world_size)
    if changes:
        here = f"that is epoch {at.epoch} step {at.step_in_epoch} here"
        lines.append(f"its run had {' and '.join(changes)}: {here}")
    return lines


def _changes_of_step(meta: Mapping[str, Any], config: Config, world_size: int) -> list[str]:
    """Say what of a step is not as it was in the checkpoint's run."""
    changes = []
    if world_size != meta["world_size"]:
        processes = counted(meta["world_size"], "process", "processes")
        changes.append(f"{processes}, this one has {world_size}")
    batches = meta.get("accumulate_steps", 1)
    if config.accumulate_steps != batches:
        changes.append(f"accumulate_steps {batches}, this one has {config.accumulate_steps}")
    return changes


def changed_lines(saved: Path, config: Config) -> list[str]:
    """Say what a run goes on with that it did not begin with.

    Args:
        saved: the configuration file that the run has left so far; may be missing.
        config: the one it goes on with.
    """
    if not is_saved(saved):
        return []
    try:
        values = read_unasked(saved)
        # Compared only: nothing of it is used.
        before = load_config([]).replace(**{key: values[key] for key in SETTABLE if key in values})
    except UserError:
        return []
    compared = [key for key in config if RULES[key].kind != "path" and key not in CODE_KEYS]
    return [
        f"changed since the run's last start: {key} {short(getattr(before, key))} -> {short(value)}"
        for key in compared
        if (value := getattr(config, key)) != getattr(before, key)
    ]


def _require(path: Path, meta: Mapping[str, Any], key: str, value: int) -> None:
    if meta[key] != value:
        raise UserError(
            f"{path}: its run had {key} {meta[key]}, this one has {value}; resume with the same "
            "data and settings (only the number of processes may change, and accumulate_steps), "
            "or start anew with pre_trained"
        )
