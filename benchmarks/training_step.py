# SPDX-License-Identifier: Apache-2.0
"""How long is a training step, where does its time go, and how long is torchvision's?

    python benchmarks/training_step.py --threads 2 --parts --peer torchvision --peer_python FILE

Times of MindSpore and torchvision are of the same network on the same weights and inputs, each
program in a process of its own, in turns. See benchmarks/README.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from benchmarks.comparison import measure  # noqa: E402
from benchmarks.workload import add_workload_options, open_workload  # noqa: E402
from src.base.errors import run_entry  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure a training step.")
    add_workload_options(parser)
    add = parser.add_argument
    add("--parts", action="store_true", help="also time the step's parts alone")
    add("--profile", metavar="DIR", help="also run once under MindSpore's profiler, into here")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    with open_workload(options, rest) as work:
        report = measure("training", work)
    common.write_report(options.json, "training_step", options, report)
    return 0


if __name__ == "__main__":
    run_entry(main)
