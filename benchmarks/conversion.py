# SPDX-License-Identifier: Apache-2.0
"""How many images a second does the conversion to MindRecord take?

    python -m benchmarks.conversion --images 400 --workers 1 2 [--coco_root DIR]

Every conversion starts from nothing, in a temporary folder below TMPDIR. See benchmarks/README.md.
"""

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.data import with_data
from benchmarks.workload import open_workload
from src.base.errors import run_entry
from src.model_utils.device_adapter import prepare_environment


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure the conversion to MindRecord.", warmup=1, repeats=5)
    add = parser.add_argument
    add("--images", type=common.positive, default=400, help="drawn, without --coco_root")
    add("--workers", type=common.positive, nargs="+", default=[1, 2])
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads), "rows": []}
    with open_workload(options, rest) as work:
        config, what = with_data(work.config, work.folder, train=options.images)
        prepare_environment(options.device_target)
        for workers in options.workers:
            changed = config.replace(num_parallel_workers=workers)
            report["rows"].append({"workers": workers, **measure(changed, options)})
        report["images"] = what
    print(f"conversion of {report['rows'][0]['images']} images, {what}")
    print(
        common.table(
            ("workers", "images/s", "least", "most", "source MB/s", "seconds"),
            [
                (
                    row["workers"],
                    row["images_per_second"]["median"],
                    *row["images_per_second"]["range"],
                    row["megabytes_per_second"],
                    row["seconds"]["median"],
                )
                for row in report["rows"]
            ],
        )
    )
    common.write_report(options.json, "conversion", options, report)
    return 0


def measure(config: Any, options: Any) -> dict[str, Any]:
    """Convert again and again; seconds and images a second."""
    from src.data.mindrecord import ensure_mindrecord

    made = []

    def convert():
        made.append(ensure_mindrecord(config, "train"))

    def clear():
        shutil.rmtree(config.mindrecord_dir, ignore_errors=True)

    with contextlib.redirect_stdout(io.StringIO()):  # what it says of every conversion
        seconds = common.timed(convert, options.warmup, options.repeats, before=clear)
    records = made[-1]
    size = sum(Path(path).stat().st_size for path in records.image_paths)
    speeds = common.summary([records.num_images / value for value in seconds])
    return {
        "seconds": common.summary(seconds),
        "images": records.num_images,
        "images_per_second": speeds,
        "megabytes_per_second": size / 1e6 * speeds["median"] / records.num_images,
    }


if __name__ == "__main__":
    run_entry(main)
