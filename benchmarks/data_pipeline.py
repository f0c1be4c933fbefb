# SPDX-License-Identifier: Apache-2.0
"""How many images a second does the data pipeline give, and where does its time go?

    python -m benchmarks.data_pipeline --images 200 --workers 1 2 --with_training [--coco_root DIR]

From MindRecord to training batches: read, decode, resize, augment, normalise and pad, batch. See
benchmarks/README.md.
"""

import contextlib
import io
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.data import with_data
from benchmarks.workload import Workload, add_workload_options, open_workload
from src.base.errors import UserError, run_entry
from src.model_utils.device_adapter import prepare_environment

_STAGES = ("read", "decode", "resize", "augment", "normalise and pad", "batch")


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure the data pipeline.", warmup=1, repeats=5)
    add_workload_options(parser, peer=False)
    add = parser.add_argument
    add("--images", type=common.positive, default=200, help="drawn, without --coco_root")
    add("--workers", type=common.positive, nargs="+", default=[1, 2])
    add("--with_training", action="store_true", help="also train on its batches (--steps steps)")
    add("--steps", type=common.positive, default=20, help="of --with_training, after the warm-up")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads), "rows": []}
    with open_workload(options, rest) as work:
        config, report["images"] = with_data(work.config, work.folder, train=options.images)
        prepare_environment(options.device_target)
        from src.data.mindrecord import ensure_mindrecord

        with contextlib.redirect_stdout(io.StringIO()):  # conversion.py measures that
            data = ensure_mindrecord(config, "train")
        if data.num_images < 2 * config.batch_size:
            raise UserError(
                f"{data.anno_path} has {data.num_images} images, fewer than two batches; lower "
                "--batch or take more images"
            )
        for workers in options.workers:
            changed = config.replace(num_parallel_workers=workers)
            report["rows"].append({"workers": workers, **measure(changed, data, options)})
        report["stages"] = measure_stages(config, data)
        print_pipeline(report, data.num_images)
        if options.with_training:
            work.use(config.replace(num_parallel_workers=max(options.workers)))
            work_of_image = sum(stage["mean"] for stage in report["stages"].values())
            report["training"] = measure_training(work, work_of_image)
    common.write_report(options.json, "data_pipeline", options, report)
    return 0


def measure(config: Any, data: Any, options: Any) -> dict[str, Any]:
    """Go through epochs; images a second once it runs, and seconds until the first batch."""
    from src.dataset import create_train_dataset, iterate

    speeds, starts = [], []
    for epoch in range(options.warmup + options.repeats):
        started = time.perf_counter()
        arrived = []
        for _ in iterate(create_train_dataset(config, data, epoch=epoch), output_numpy=True):
            arrived.append(time.perf_counter())
        starts.append(arrived[0] - started)
        running = max(arrived[-1] - arrived[0], 1e-9)
        speeds.append(max(len(arrived) - 1, 1) * config.batch_size / running)
    return {
        "images_per_second": common.summary(speeds[options.warmup :]),
        "first_batch_seconds": common.summary(starts[options.warmup :]),
    }


def measure_stages(config: Any, data: Any) -> dict[str, Any]:
    """Milliseconds an image of every stage alone, on one thread."""
    import cv2
    import numpy as np
    from mindspore import dataset

    from src.data.train_sample import Augmentation, make_train_sample
    from src.images.ops import InputFormat, normalize_and_pad, resize_image
    from src.images.reading import decode_image

    cv2.setNumThreads(0)  # as in the pipeline
    target = InputFormat.from_config(config)
    augmentation = Augmentation.from_config(config, epoch=1)
    columns = ["image", "boxes", "labels", "crowd"]
    rows = dataset.MindDataset(
        list(data.files), columns_list=columns, shuffle=False, num_parallel_workers=1
    )
    seconds: dict[str, list[float]] = {name: [] for name in _STAGES}
    waiting: list[np.ndarray] = []
    before = time.perf_counter()
    for index, row in enumerate(rows.create_tuple_iterator(num_epochs=1, output_numpy=True)):
        encoded, boxes, labels, crowd = row
        ticks = [before, time.perf_counter()]
        rgb = decode_image(encoded.tobytes(), data.image_paths[index])
        ticks.append(time.perf_counter())
        canvas = target.rule.canvas_of(*rgb.shape[:2])
        resized, _ = resize_image(rgb, target.rule.size_on(canvas, *rgb.shape[:2]))
        ticks.append(time.perf_counter())
        image = normalize_and_pad(resized, target, target.rule.canvases[canvas])
        ticks.append(time.perf_counter())
        make_train_sample(rgb, boxes, labels, crowd, index, target, augmentation)
        ticks.append(time.perf_counter())
        waiting.append(image)
        if len(waiting) == config.batch_size:
            np.stack(waiting)
            waiting = []
        ticks.append(time.perf_counter())
        read, decode, resize, normalise, sample, batch = np.diff(ticks).tolist()
        augment = max(sample - resize - normalise, 0.0)  # the sample holds all three
        for name, value in zip(
            _STAGES, (read, decode, resize, augment, normalise, batch), strict=True
        ):
            seconds[name].append(value)
        before = time.perf_counter()
    # The first row waits for the reader's start. A batch is stacked at its last image: the mean,
    # not the median, is what an image costs.
    return {
        name: {**common.summary(values), "mean": statistics.fmean(values)}
        for name, values in ((name, values[1:] or values) for name, values in seconds.items())
    }


def print_pipeline(report: dict[str, Any], count: int) -> None:
    """Print images a second by workers, and the stages' shares."""
    print(f"data pipeline: {count} images an epoch, {report['images']}")
    print(
        common.table(
            ("workers", "images/s", "1st quartile", "3rd", "least", "most", "first batch s"),
            [
                (
                    row["workers"],
                    row["images_per_second"]["median"],
                    *row["images_per_second"]["quartiles"],
                    *row["images_per_second"]["range"],
                    row["first_batch_seconds"]["median"],
                )
                for row in report["rows"]
            ],
        )
    )
    total = sum(stage["mean"] for stage in report["stages"].values())
    rows = [
        (name, stage["mean"] * 1e3, f"{stage['mean'] / total:.1%}")
        for name, stage in report["stages"].items()
    ]
    print("\nstages, each alone on one thread:")
    print(common.table(("stage", "ms an image", "share"), [*rows, ("sum", total * 1e3, "100.0%")]))


def measure_training(work: Workload, image_seconds: float) -> dict[str, Any]:
    """Steps on batches of the pipeline; before and after them, steps on one batch again and again.

    Args:
        image_seconds: of an image in all stages, one after the other.
    """
    own = work.options
    with work.mindspore("training_loop") as program:
        program.ask("run", count=max(own.warmup, 8))
        alone = program.ask("run", count=own.steps)
        pairs, epoch = [], 0
        while len(pairs) < own.steps:
            rest = own.steps - len(pairs)
            pairs += program.ask("loop", epoch=epoch, count=rest + 1)[1:]  # without the start's
            epoch += 1
        alone += program.ask("run", count=own.steps)
    whole = [wait + step for wait, step in pairs]
    usual = statistics.median(alone)
    result = {
        "step_alone": common.summary(alone),
        "step_and_wait": common.summary(whole),
        "waiting_share": sum(wait for wait, _ in pairs) / sum(whole),
        "share_of_wall": 1 - usual / statistics.median(whole),
        "share_of_processors": image_seconds * own.batch / (own.threads * usual),
    }
    print(
        f"\ntraining on its batches: {common.spread(result['step_and_wait'])} a step\n"
        f"on one batch again and again: {common.spread(result['step_alone'])}\n"
        f"difference of the medians: {result['share_of_wall']:.1%} of the wall time; waiting for "
        f"the next batch: {result['waiting_share']:.2%}; the stages' work: "
        f"{result['share_of_processors']:.2%} of {own.threads} processors' time"
    )
    return result


if __name__ == "__main__":
    run_entry(main)
