# SPDX-License-Identifier: Apache-2.0
"""A training run, put together from its configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from .. import detector
from ..base.messages import counted
from ..base.progress import Display
from ..checkpoints.file import describe_model
from ..checkpoints.pretrained import load_pretrained
from ..data.epoch_sampling import REPEAT_FACTOR, build_sampler
from ..data.file_classes import with_file_classes
from ..data.mindrecord import ensure_mindrecord
from ..data.record_set import MindRecordSet
from ..data.source import data_source
from ..data.validation_part import ON_TRAINING, is_training_data, warn_of_training_data
from ..dataset import images_per_step, steps_per_epoch
from ..evaluation.run import GroundTruth, read_ground_truth
from ..graph_cache.compile_cache import CompileCache
from ..model_utils.config import Config
from ..model_utils.configuration.class_weights import class_weights
from ..model_utils.configuration.memory import require_memory
from ..model_utils.cpu_operators import cpu_library
from ..model_utils.device_adapter import init_device
from ..model_utils.local_adapter import get_rank
from ..model_utils.rank_exchange import mean_over_ranks
from ..network_define import LossScaler, TrainingStep, TrainOneStep, build_optimizer
from ..optimization.native_update import native_update
from ..processes.ranks import Ranks
from ..weights.cache import published_file
from ..weights.names import named
from ..weights.opening import open_weights
from .divergence import DivergenceGuard
from .frozen_parts import settle_frozen_parts
from .loss_log import LossLog
from .rates import rate_advice, run_rates
from .recording import begin_record, prepare_record, run_best, run_recorder
from .resume import load_start, state_of
from .run import Run
from .run_folder import RunFolder
from .saving import CheckpointSaver
from .step_report import StepReport
from .steps import AccumulatedStep, StepInTwoGraphs
from .weights import Weights


def assemble_run(
    config: Config,
    *,
    build_network: Callable[[Config], nn.Cell] | None = None,
    build_loss: Callable[[nn.Cell, Config, int], nn.Cell] | None = None,
) -> Run:
    """Make a run ready for its first step: data, network, weights, and all that watches over it.

    Args:
        config: of the user.
        build_network: makes the detector of a configuration; default `build_detector`.
        build_loss: of a detector, a configuration and the number of ranks; default `build_loss`.

    Raises:
        UserError: for anything in the configuration, the data or the checkpoints that cannot work.
    """
    config, ranks, display, folder = _take_place(config)
    say = display.say
    config = settle_classes(config, ranks, say)
    hooks = prepare_record(config, ranks, say)
    data = ensure_mindrecord(config, "train", ranks.rank, ranks.world_size)
    steps = epoch_steps(config, data, ranks.world_size, say)
    contract = contract_of(config, data)
    validation = validation_of(config, data, ranks, say)
    network = (build_network or detector.build_detector)(config)
    config, rates = run_rates(config, steps, ranks.world_size, say)
    if ranks.rank == 0 and not folder.start:
        _load_pretrained(network, config, say)
    loss = (build_loss or detector.build_loss)(network, config, ranks.world_size)
    with ranks.watch(config.rank_timeout):
        train_one_step = training_step(config, network, loss, rates, ranks)
        optimizer, weights = train_one_step.optimizer, Weights(network, config, ranks)
        start = folder.take_start()
        meta = load_start(start, weights, optimizer, config, contract, steps, ranks, say)
    run = Run(
        config=config,
        ranks=ranks,
        display=display,
        folder=folder,
        data=data,
        validation=validation,
        network=network,
        weights=weights,
        train_one_step=train_one_step,
        graphs=CompileCache(config, say, display.compiling),
        steps_per_epoch=steps,
        rates=rates,
        contract=contract,
        guard=run_guard(config, meta, say),
        log=run_log(config, ranks, steps, meta),
        recorder=run_recorder(config, folder, ranks, meta, hooks),
        saver=run_saver(config, folder, weights, optimizer),
        step_report=run_report(config, display, steps, ranks.world_size),
        best=run_best(config, meta, remark=_remark(data, validation)),
        **state_of(meta, config, ranks.world_size),
    )
    folder.begin(config, resumed=bool(meta))
    begin_record(run, resumed=bool(meta))
    say(_opening(run))
    return run


def _remark(training: MindRecordSet, validation: tuple[MindRecordSet, GroundTruth] | None) -> str:
    """What stands beside the numbers of evaluations; empty where they look at other images."""
    if validation and is_training_data(training.anno_path, validation[0].anno_path):
        return ON_TRAINING
    return ""


def _load_pretrained(network: nn.Cell, config: Config, say: Callable[[str], None]) -> None:
    """Let a network begin with what `pre_trained` names, if anything."""
    if config.pre_trained:
        checkpoint = open_weights(config.pre_trained, "pre_trained")
        report = load_pretrained(network, checkpoint, describe_model(config))
        for line in (*report.lines(), *rate_advice(config, report.known_classes)):
            say(line)


def _take_place(config: Config) -> tuple[Config, Ranks, Display, RunFolder]:
    """Join the other processes on the device, and take the run's folder, before all long work.

    Returns:
        The configuration that the run really has, its processes, where it is shown, its folder.
    """
    require_memory(config, "batch_size")
    _bring_weights(config)
    device = init_device(config)
    ranks = Ranks(device.rank, device.world_size)
    display = Display(quiet=ranks.rank > 0)
    folder = RunFolder(config, ranks, display.say)
    with ranks.watch(config.rank_timeout):
        stored = folder.start.meta if folder.start else None
        config = settle_frozen_parts(config, stored, ranks, display.say)
    return config, ranks, display, folder


def _bring_weights(config: Config) -> None:
    """Have weights with a name here before the processes meet, where a download takes long."""
    if config.pre_trained and not config.resume:
        published = named(config.pre_trained, "pre_trained")
        if published and get_rank() == 0:
            published_file(published)


def settle_classes(config: Config, ranks: Ranks, say: Callable[[str], None]) -> Config:
    """Return the configuration with the classes of the training file, where that decides.

    Args:
        config: of the user.
        ranks: the processes of the run; all call this, and have what rank 0 reads.
        say: prints a line.

    Raises:
        UserError: the file cannot be read, its names cannot be classes, rcnn_class_weights are of
            others, or there is nothing to evaluate on though that is asked for.
    """
    names: list[str] = []
    if ranks.rank == 0:
        if config.eval_interval or config.report:
            data_source(config, "val")  # what is missing is said before the conversion, not after
        of_file, lines = with_file_classes(config)
        for line in lines:
            say(line)
        names = list(of_file.class_names) if lines else []
    with ranks.watch(config.rank_timeout):
        names = ranks.broadcast(names)
    settled = config.adopt({"coco_classes": names}, "the training file") if names else config
    class_weights(settled)  # before the data is converted
    return settled


def _opening(run: Run) -> str:
    """The line that a run begins with."""
    return (
        f"training on {counted(run.data.num_images, 'image')}: "
        f"{counted(run.config.epoch_size, 'epoch')} of {counted(run.steps_per_epoch, 'step')}, "
        f"{_batches_of_step(run.config)} on {counted(run.ranks.world_size, 'device')}; "
        f"output in {run.folder.path.resolve()}"
    )


def epoch_steps(
    config: Config, data: MindRecordSet, world_size: int, say: Callable[[str], None]
) -> int:
    """Return the steps of every epoch; say how an epoch differs from all pictures once.

    Args:
        config: uses the keys of `steps_per_epoch`.
        data: the training images.
        world_size: number of ranks.
        say: prints a line.

    Raises:
        UserError: fewer images than a step takes.
    """
    steps = steps_per_epoch(config, data, world_size)
    for line in build_sampler(config, data.records).lines():
        say(line)
    return steps


def _batches_of_step(config: Config) -> str:
    count = config.accumulate_steps
    return f"{count} batches of {config.batch_size}" if count > 1 else f"batch {config.batch_size}"


def contract_of(config: Config, data: MindRecordSet) -> dict[str, Any]:
    """Return what has to be the same when a run goes on, for its steps to mean the same.

    Args:
        config: uses seed, train_sampler and repeat_threshold.
        data: the training images.
    """
    contract: dict[str, Any] = {
        "num_images": data.num_images,
        "seed": config.seed,
        "annotations_sha256": data.content,
        "train_sampler": config.train_sampler,
    }
    if config.train_sampler == REPEAT_FACTOR:
        contract["repeat_threshold"] = config.repeat_threshold
    return contract


def training_step(
    config: Config, network: nn.Cell, loss: nn.Cell, rates: np.ndarray, ranks: Ranks
) -> TrainingStep:
    """Return what makes one step of training, with its optimizer.

    Args:
        config: uses the keys of the optimizer, accumulate_steps, grad_clip and clip_norm.
        network: whose parameters are trained.
        loss: the Cell around it that gives the losses.
        rates: (steps of the run,) float32, the learning rate of each.
        ranks: the processes of the run; all call this.
    """
    optimizer = build_optimizer(config, network.trainable_params(), rates)
    clip_norm, batches = config.clip_norm if config.grad_clip else 0.0, config.accumulate_steps
    mean, library = mean_over_ranks(config, ranks), cpu_library(config)
    own_update = None
    if library:
        own = {"clip_norm": clip_norm, "batches": batches}
        own_update = partial(native_update, config, optimizer, rates, library, **own)
    if own_update and batches == 1 and (mean or ranks.world_size == 1):
        return StepInTwoGraphs(loss, optimizer, own_update(), mean)
    settings: dict[str, Any] = {"clip_norm": clip_norm, "world_size": ranks.world_size}
    settings["mean_over_ranks"] = mean
    if batches == 1:
        return TrainOneStep(loss, optimizer, **settings)
    make_update = own_update if ranks.world_size == 1 else None
    return AccumulatedStep(loss, optimizer, batches=batches, make_update=make_update, **settings)


def validation_of(
    config: Config, training: MindRecordSet, ranks: Ranks, say: Callable[[str], None]
) -> tuple[MindRecordSet, GroundTruth] | None:
    """Return the validation images and their ground truth, None when nothing is evaluated.

    Args:
        config: uses eval_interval, report, eval_losses, num_gts and the keys of the data.
        training: the images that the run trains on.
        ranks: the processes of the run.
        say: prints a line.

    Raises:
        UserError: the data cannot be used.
    """
    if not config.eval_interval and not config.report:
        return None
    data = ensure_mindrecord(config, "val", ranks.rank, ranks.world_size)
    if is_training_data(training.anno_path, data.anno_path):
        say(warn_of_training_data(config.coco_root))
    truth = read_ground_truth(config, data)
    if not truth.data["annotations"]:
        say(
            f"warning: eval_interval: {truth.source} has no annotations to judge by: there "
            "will be no numbers and no best checkpoint"
        )
    counts = [len(record.labels) for record in data.records] if config.eval_losses else []
    over = sum(count > config.num_gts for count in counts)
    if over:
        say(
            f"note: eval_losses: {counted(over, 'validation image has', 'validation images have')} "
            f"more than num_gts {config.num_gts} boxes, up to {max(counts)}; the losses are of the "
            "largest ones"
        )
    return data, truth


def run_log(config: Config, ranks: Ranks, steps: int, meta: Mapping[str, Any]) -> LossLog:
    """Return this rank's loss log, continued where the checkpoint with `meta` stood.

    Args:
        config: uses output_dir and log_interval.
        ranks: the processes of the run.
        steps: an epoch's.
        meta: empty at the beginning of a run.
    """
    log = LossLog(
        Path(config.output_dir) / f"loss_{ranks.rank}.log",
        interval=config.log_interval,
        steps_per_epoch=steps,
        resume_at=(meta["epoch"], meta["step_in_epoch"]) if meta else None,
    )
    if meta and meta["world_size"] == ranks.world_size:
        states = meta.get("loss_logs") or [meta["loss_log"]]
        log.restore(states[ranks.rank])
    return log


def run_guard(
    config: Config, meta: Mapping[str, Any], say: Callable[[str], None]
) -> DivergenceGuard:
    """Return what looks at every step, with the loss scale of the checkpoint with `meta`.

    Args:
        config: uses loss_scale and dynamic_loss_scale.
        meta: empty at the beginning of a run.
        say: prints a line.
    """
    scaler = LossScaler(config.loss_scale, dynamic=config.dynamic_loss_scale)
    if meta:
        scaler.restore(meta["loss_scaler"])
    return DivergenceGuard(scaler, say, skipped=meta.get("skipped", 0))


def run_saver(
    config: Config, folder: RunFolder, weights: Weights, optimizer: nn.Optimizer
) -> CheckpointSaver:
    """Return what writes the checkpoints of a run.

    Args:
        config: uses save_checkpoint_steps and save_checkpoint_minutes.
        folder: of the run.
        weights: that are saved.
        optimizer: whose state is saved with them.
    """

    def write(path: Path, with_optimizer: bool, meta: Mapping[str, Any]) -> None:
        weights.save(path, optimizer if with_optimizer else None, meta)

    return CheckpointSaver(
        folder.keeper,
        write,
        steps=config.save_checkpoint_steps,
        minutes=config.save_checkpoint_minutes,
    )


def run_report(config: Config, display: Display, steps: int, world_size: int) -> StepReport:
    """Return what shows the steps of a run.

    Args:
        config: uses epoch_size, batch_size, accumulate_steps and log_interval.
        display: where they are shown.
        steps: an epoch's.
        world_size: number of ranks.
    """
    return StepReport(
        display,
        epochs=config.epoch_size,
        steps_per_epoch=steps,
        images_per_step=images_per_step(config, world_size),
        interval=config.log_interval,
    )
