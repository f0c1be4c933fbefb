# SPDX-License-Identifier: Apache-2.0
"""How long does an evaluation take beyond the network's forward pass?

    python -m benchmarks.evaluation --threads 2 --images 32 [--coco_root DIR --checkpoint_path FILE]

Evaluates with src/evaluation/run.py; without a checkpoint with random weights. See
benchmarks/README.md.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.data import with_data
from benchmarks.workload import add_workload_options, open_workload
from src.base.errors import run_entry

_PARTS = ("whole", "forward", "images and results", "COCO")


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure evaluation.", repeats=3)
    add_workload_options(parser, peer=False)
    add = parser.add_argument
    add("--images", type=common.positive, default=32, help="drawn, without --coco_root")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads)}
    with open_workload(options, rest) as work:
        config, what = with_data(work.config, work.folder, val=options.images)
        work.use(config)
        with work.mindspore("evaluation") as program:
            program.ask("run", count=options.warmup)
            rows = [program.ask("evaluate") for _ in range(options.repeats)]
    parts = {name: common.summary([row[name] for row in rows]) for name in _PARTS}
    beyond = common.summary([row["whole"] / row["forward"] - 1 for row in rows])
    images, detections = rows[-1]["images"], rows[-1]["detections"]
    report |= {
        "source": what,
        "images": images,
        "detections": detections,
        "parts": parts,
        "beyond_forward": beyond,
    }
    print(f"evaluation of {images} images ({what}), {detections} detections")
    print(
        common.table(
            ("part", "seconds", "share", "ms an image"),
            [
                (
                    name,
                    part["median"],
                    f"{part['median'] / parts['whole']['median']:.1%}",
                    part["median"] / images * 1e3,
                )
                for name, part in parts.items()
            ],
        )
    )
    print(f"beyond the forward pass: {common.spread(beyond, '%', 100)}")
    common.write_report(options.json, "evaluation", options, report)
    return 0


if __name__ == "__main__":
    run_entry(main)
