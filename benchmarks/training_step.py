# SPDX-License-Identifier: Apache-2.0
"""How long is a training step, where does its time go, and how long is torchvision's?

    python -m benchmarks.training_step --threads 2 --parts --peer torchvision --peer_python FILE

Times of MindSpore and torchvision are of the same network on the same weights and inputs, each
program in a process of its own, in turns. See benchmarks/README.md.
"""

from collections.abc import Sequence

from benchmarks import common
from benchmarks.comparison import measure
from benchmarks.workload import add_workload_options, open_workload
from src.base.errors import run_entry


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
