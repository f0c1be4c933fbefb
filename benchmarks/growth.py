# SPDX-License-Identifier: Apache-2.0
"""How do time and memory grow with the batch, the canvas, classes, boxes, proposals, processes?

    python -m benchmarks.growth --threads 2 [--of batch canvas ...] [--tasks training inference]

One quantity grows, the others keep the values of the options. Every value has a process of its own.
The exponent of a quantity is the slope of log(time) against log(quantity): 1 is linear, 0 is no
growth. Memory counts what the runs add to the process that has built the network, at its highest.
See benchmarks/README.md.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.ranks import measure_ranks
from benchmarks.workload import Workload, add_workload_options, open_workload
from src.base.errors import run_entry

_TASKS = ("training", "inference")


class Quantity(NamedTuple):
    """Something that grows.

    Attributes:
        values: what is measured.
        tasks: where it counts.
        most: the largest exponent between the last two values that the algorithm explains.
    """

    values: tuple[int, ...]
    tasks: tuple[str, ...]
    most: float


# Sides of a square canvas; its exponent is that against the pixels. NMS compares every proposal
# with every other one, the matching every box with every anchor.
QUANTITIES = {
    "batch": Quantity((1, 2, 4, 8), _TASKS, 1.0),
    "canvas": Quantity((320, 640, 960, 1344), _TASKS, 1.0),
    "classes": Quantity((1, 80, 1000), _TASKS, 1.0),
    "boxes": Quantity((1, 128, 512), ("training",), 1.0),
    "proposals": Quantity((300, 1000, 4000), _TASKS, 2.0),
    "ranks": Quantity((1, 2), ("training",), 1.0),
}


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure growth.", height=384, width=640, warmup=2, repeats=3)
    add_workload_options(parser, peer=False)
    add = parser.add_argument
    add("--of", nargs="+", choices=list(QUANTITIES), default=list(QUANTITIES))
    add("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS))
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads), "rows": []}
    with open_workload(options, rest) as work:
        base = work.config
        for name in options.of:
            for task in options.tasks:
                if task not in QUANTITIES[name].tasks:
                    continue
                rows = [
                    {"of": name, "task": task, "value": value, **_measured(work, task, name, value)}
                    for value in QUANTITIES[name].values
                ]
                work.use(base)
                report["rows"] += with_exponents(rows)
                print(f"{name}, {task}: done", flush=True)
    print(_table(report["rows"]))
    common.write_report(options.json, "growth", options, report)
    return 0


def changes(name: str, value: int) -> dict[str, Any]:
    """Return the keys of the configuration that give a quantity this value.

    Args:
        name: one of `QUANTITIES`, without "ranks".
    """
    if name == "batch":
        return {"batch_size": value, "test_batch_size": value}
    if name == "canvas":
        return {"img_height": value, "img_width": value}
    if name == "classes":
        return {"coco_classes": [f"class {number}" for number in range(1, value + 1)]}
    if name == "boxes":
        return {"num_gts": value}
    stages = ("rpn_proposal", "rpn")  # training, inference
    keys = ("nms_pre", "nms_post", "max_num")
    return {f"{stage}_{key}": value for stage in stages for key in keys}


def with_exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to every row but the first the exponents of time and memory since the row before."""
    for before, row in zip(rows, rows[1:], strict=False):
        more = size(row) / size(before)
        for key in ("seconds", "bytes"):
            row[f"{key}_exponent"] = exponent(before[key], row[key], more)
    return rows


def size(row: dict[str, Any]) -> int:
    """The number that a row's time is measured against; of a canvas, its pixels."""
    return row["value"] ** 2 if row["of"] == "canvas" else row["value"]


def exponent(before: float, after: float, more: float) -> float:
    """The power of `more`, how many times a quantity grew, that explains a growth; nan for none."""
    if before <= 0 or after <= 0:
        return math.nan
    return math.log(after / before) / math.log(more)


def _measured(work: Workload, task: str, name: str, value: int) -> dict[str, Any]:
    """Seconds (median) and bytes of one value."""
    if name == "ranks":
        return measure_ranks(work, value)
    own = work.options
    work.use(work.config.replace(**changes(name, value)))
    boxes = value if name == "boxes" else own.boxes
    with work.mindspore(task, boxes=boxes) as program:
        built = program.ask("memory")["now"]
        program.ask("run", count=own.warmup)
        seconds = common.summary(program.ask("run", count=own.repeats))
        highest = program.ask("memory")["highest"]
    return {"seconds": seconds["median"], "bytes": highest - built, "all": seconds}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    return common.table(
        ("of", "task", "value", "median s", "exponent", "explained", "GB", "exponent"),
        [
            (
                row["of"],
                row["task"],
                row["value"],
                row["seconds"],
                row.get("seconds_exponent", ""),
                QUANTITIES[row["of"]].most,
                row["bytes"] / 1e9,
                row.get("bytes_exponent", ""),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    run_entry(main)
