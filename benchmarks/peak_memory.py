# SPDX-License-Identifier: Apache-2.0
"""How much memory do training and inference take, and does it grow?

    python -m benchmarks.peak_memory --threads 2 --steps 200 --peer torchvision --peer_python FILE

Each program has a process of its own, one after the other; what counts is the high-water mark of
its resident memory, Python and libraries included. See benchmarks/README.md.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import common
from benchmarks.turns import Program
from benchmarks.workload import add_workload_options, open_workload
from src.base.errors import run_entry

_TASKS = ("training", "inference")


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure memory.")
    add_workload_options(parser)
    add = parser.add_argument
    add("--steps", type=common.positive, default=200, help="over which growth is measured")
    add("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS))
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads), "programs": []}
    with open_workload(options, rest) as work:
        peers = {task: work.peers(task) for task in options.tasks}
        if any(peers.values()):
            work.checkpoint()  # the weights that all programs get
        for task in options.tasks:
            starts = {"MindSpore": partial(work.mindspore, task), **peers[task]}
            for name, start in starts.items():
                with start() as program:
                    row = {"task": task, "program": name, **watch(program, options)}
                report["programs"].append(row)
                print(f"{task}, {name}: done", flush=True)
    print(
        common.table(
            (
                "task",
                "program",
                "peak GB",
                "before the first run",
                "after warm-up",
                "growth MB",
                "over runs",
                "MB a run, second half",
            ),
            [
                (
                    row["task"],
                    row["program"],
                    row["peak"] / 1e9,
                    row["built"] / 1e9,
                    row["resident"][0] / 1e9,
                    row["growth"] / 1e6,
                    options.steps,
                    row["growth_a_run"] / 1e6,
                )
                for row in report["programs"]
            ],
        )
    )
    common.write_report(options.json, "peak_memory", options, report)
    return 0


def watch(program: Program, options: Any) -> dict[str, Any]:
    """Run `steps` times after the warm-up; return bytes."""
    built = program.ask("memory")
    program.ask("run", count=options.warmup)
    resident = [program.ask("memory")["now"]]
    for _ in range(options.steps):
        program.ask("run", count=1)
        resident.append(program.ask("memory")["now"])
    at_end = program.ask("memory")
    return {
        "peak": at_end["highest"],
        "device_peak": at_end.get("device_highest"),
        "built": built["now"],
        "resident": resident,
        "growth": resident[-1] - resident[0],
        "growth_a_run": slope(resident[len(resident) // 2 :]),
    }


def slope(values: Sequence[float]) -> float:
    """Least-squares growth from one value to the next; 0 for fewer than two."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    square = sum((i - middle) ** 2 for i in range(count))
    product = sum((i - middle) * (value - mean) for i, value in enumerate(values))
    return product / square if square else 0.0


if __name__ == "__main__":
    run_entry(main)
