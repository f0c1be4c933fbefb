# SPDX-License-Identifier: Apache-2.0
"""What all measuring scripts share: options, the machine, statistics, tables, the JSON file.

Nothing here imports MindSpore, so that --help and wrong options are answered at once.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.base.arguments import ArgumentParser
from src.base.errors import UserError
from src.base.files import write_text_atomic

_BUSY = 0.3  # load average, a processor, above which other programs disturb
_PRODUCT_SIZE = 2048


# --------------------------------------------------------------------------- options


def make_parser(what: str, *, height=768, width=1280, batch=2, warmup=8, repeats=12):
    """Return a parser with the options that every script has; the arguments are the defaults."""
    parser = ArgumentParser(
        description=f"{what} Any key of default_config.yaml can be given too (--key value).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--height", type=positive, default=height, help="of the canvas, a multiple of 32")
    add("--width", type=positive, default=width, help="of the canvas, a multiple of 32")
    add("--batch", type=positive, default=batch, help="images in a batch")
    add("--backbone", default="resnet_v1.5_50", help="of the network")
    add(
        "--threads",
        type=positive,
        default=len(os.sched_getaffinity(0)),
        help="processors that the measured programs may use",
    )
    add(
        "--warmup",
        type=positive,
        default=warmup,
        help="runs that are not counted: MindSpore tries thread counts in the first",
    )
    add("--repeats", type=positive, default=repeats, help="runs that are counted")
    add("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"])
    add("--seed", type=int, default=1, help="of weights and inputs")
    add("--json", metavar="FILE", help="write everything that was measured here")
    return parser


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def parse(parser: ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the script's own options and the arguments that are configuration keys."""
    options, rest = parser.parse_known_args(argv)
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise UserError(f"--json {options.json}: its folder does not exist; make it first")
    return options, rest


def limit_threads(count: int) -> None:
    """Keep this process and those it starts to `count` processors; before NumPy is imported.

    MindSpore's own setting (`threads_num`) does not hold for its matrix products and convolutions:
    OpenMP's does. The processors this process may use bound everything else.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    allowed = sorted(os.sched_getaffinity(0))
    if count < len(allowed):
        os.sched_setaffinity(0, allowed[:count])


# --------------------------------------------------------------------------- the machine


def machine(threads: int) -> dict[str, Any]:
    """Describe where this runs; says so when other programs keep it busy."""
    load = os.getloadavg()[0]
    if load > _BUSY * (os.cpu_count() or 1):
        print(
            f"warning: the load average is {load:.2f}: other programs disturb what is measured",
            file=sys.stderr,
        )
    with open("/proc/meminfo", encoding="ascii") as stream:
        memory = int(stream.readline().split()[1]) * 1024
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "memory_bytes": memory,
        "load_average": load,
        "system": platform.platform(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


class MatrixProduct:
    """An fp32 matrix product of NumPy's, the yardstick between machines; GFLOP/s."""

    def __init__(self) -> None:
        import numpy as np

        side = (_PRODUCT_SIZE, _PRODUCT_SIZE)
        self._matrix = np.random.default_rng(0).standard_normal(side).astype(np.float32)
        self.speeds: list[float] = []
        self._once()

    def _once(self) -> float:
        started = time.perf_counter()
        self._matrix @ self._matrix
        return 2 * _PRODUCT_SIZE**3 / (time.perf_counter() - started) / 1e9

    def measure(self) -> None:
        """Take note of its speed now: the best of three, for other threads only slow it down."""
        self.speeds.append(max(self._once() for _ in range(3)))


# --------------------------------------------------------------------------- statistics


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median and spread of measurements; keeps the values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    low, high = ordered[0], ordered[-1]
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return {
        "median": statistics.median(ordered),
        "quartiles": [low, high],
        "range": [ordered[0], ordered[-1]],
        "count": len(ordered),
        "values": list(values),
    }


def ratio(ours: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """How many times the other's throughput ours is, from seconds: of the medians, and by turn."""
    turns = [b / a for a, b in zip(ours, other, strict=True)]
    return {**summary(turns), "of_medians": statistics.median(other) / statistics.median(ours)}


def timed(
    work: Callable[[], Any], warmup: int, repeats: int, *, before: Callable[[], Any] = lambda: None
) -> list[float]:
    """Seconds of `repeats` calls after `warmup` uncounted ones; `before` goes before each."""
    seconds = []
    for _ in range(warmup + repeats):
        before()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds[warmup:]


# --------------------------------------------------------------------------- reports


def spread(measured: dict[str, Any], unit: str = "s", scale: float = 1.0) -> str:
    """A `summary` as text: median, quartiles, range."""
    low, high = (value * scale for value in measured["quartiles"])
    least, most = (value * scale for value in measured["range"])
    return (
        f"{measured['median'] * scale:.4g} {unit} (quartiles {low:.4g} to {high:.4g}, "
        f"all {least:.4g} to {most:.4g}, n={measured['count']})"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns; the first column to the left, the others to the right."""
    cells = [[_cell(value) for value in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_report(path: str | None, name: str, options: argparse.Namespace, report: dict) -> None:
    """Write the JSON file, whole or not at all; without a path nothing.

    Args:
        name: of the benchmark.
        report: what was measured; gets the name, the command line and the options.
    """
    if not path:
        return
    content = {
        "benchmark": name,
        "command": sys.argv,
        "options": {k: v for k, v in vars(options).items() if k != "json"},
        **report,
    }
    try:
        write_text_atomic(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written: {error.strerror}") from error
    print(f"written: {path}")
