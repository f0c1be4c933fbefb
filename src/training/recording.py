# SPDX-License-Identifier: Apache-2.0
"""The record of a run, put together from its configuration."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..base.messages import short_list
from ..checkpoints.meta import images_of_step
from ..dataset import images_per_step
from ..model_utils.config import Config
from ..model_utils.device_adapter import most_memory
from ..processes.ranks import Ranks
from ..run_record.builtin import builtin_hooks
from ..run_record.callback import RunInfo
from ..run_record.environment import write_environment
from ..run_record.hooks import Hooks, load_callback
from ..run_record.metrics_log import MetricsLog
from ..run_record.recorder import Recorder
from ..run_record.schema import CALLBACKS, COCO_METRICS, NUMBERS_OF_TRAINING
from .best import BestMetric, require_metric
from .run_folder import RunFolder

if TYPE_CHECKING:
    from .run import Run


def prepare_record(config: Config, ranks: Ranks, say: Callable[[str], None]) -> Hooks:
    """Check what the record needs, before all long work; return the hooks (rank 0).

    Args:
        config: uses callbacks, the keys of `builtin_hooks` and those of `run_best`.
        ranks: the processes of the run.
        say: prints a line.

    Raises:
        UserError: a hook cannot be made, or there is no such number as `best_metric`.
    """
    run_best(config, {})
    if ranks.rank:
        return Hooks()
    return Hooks([*builtin_hooks(config, say), *map(load_callback, config.callbacks)])


def run_recorder(
    config: Config, folder: RunFolder, ranks: Ranks, meta: Mapping[str, Any], hooks: Hooks
) -> Recorder:
    """Return the record of a run, continued where the checkpoint with `meta` stood.

    Args:
        config: uses batch_size, accumulate_steps, device_target and class_names.
        folder: of the run.
        ranks: its processes.
        meta: empty at the beginning of a run.
        hooks: of `prepare_record`.

    Raises:
        UserError: a file of it cannot be begun.
    """
    batch = images_per_step(config, ranks.world_size)
    memory = functools.partial(most_memory, config.device_target)
    if ranks.rank:
        return Recorder(images_per_step=batch, memory=memory)
    resume_at = None
    if meta:
        resume_at = meta["epoch"], meta["step_in_epoch"] * images_of_step(meta)
    recorder = Recorder(
        MetricsLog(folder.path, config.class_names, resume_at),
        hooks,
        images_per_step=batch,
        memory=memory,
    )
    if meta.get("gradient_norm") and meta["world_size"] == ranks.world_size:
        recorder.restore(meta["gradient_norm"])
    return recorder


def run_best(config: Config, meta: Mapping[str, Any], *, remark: str = "") -> BestMetric | None:
    """Return what says which weights are the best; None where there is no number for it.

    Args:
        config: uses best_metric, early_stopping, early_stopping_delta, eval_interval, report and
            eval_losses.
        meta: of the checkpoint that the run goes on from; empty at its beginning.
        remark: on the numbers of evaluations.

    Raises:
        UserError: the run has no such number.
    """
    evaluates = config.eval_interval > 0 or (config.report and not config.early_stopping)
    # A run's own config.yaml names every key, the default metric too.
    is_usual = config.best_metric == COCO_METRICS[0] and not config.early_stopping
    if is_usual and not evaluates:
        return None
    require_metric(
        config.best_metric,
        config.origin("best_metric"),
        config.class_names,
        evaluates=evaluates,
        with_losses=config.eval_losses,
    )
    return BestMetric(
        config.best_metric,
        patience=config.early_stopping,
        delta=config.early_stopping_delta,
        state=meta.get("best"),
        remark="" if config.best_metric in NUMBERS_OF_TRAINING else remark,
    )


def begin_record(run: "Run", *, resumed: bool) -> None:
    """Write what the run begins with, and tell its hooks (rank 0).

    Args:
        run: is ready for its first step.
        resumed: whether it goes on.

    Raises:
        UserError: a hook cannot do with it.
    """
    if run.ranks.rank:
        return
    config, at = run.config, run.position
    environment = write_environment(
        run.folder.path,
        config,
        world_size=run.ranks.world_size,
        step=at.global_step,
        epoch=at.epoch,
        resumed=resumed,
    )
    before = environment["earlier"][-1].get(CALLBACKS) if environment["earlier"] else None
    missing = [name for name in before or [] if name not in config.callbacks]
    if missing:
        run.display.say(
            f"note: before, the run had callbacks {short_list(missing)}; give --callbacks to have "
            "them again"
        )
    run.recorder.start(
        RunInfo(
            config=config,
            folder=run.folder.path,
            class_names=tuple(config.class_names),
            environment=environment,
            step=at.global_step,
            epoch=at.epoch,
            steps_per_epoch=run.steps_per_epoch,
            epochs=config.epoch_size,
            resumed=resumed,
            network=run.network,
            train_step=run.train_one_step.backward,
        )
    )
