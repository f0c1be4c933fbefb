# SPDX-License-Identifier: Apache-2.0
"""How long from images to boxes: the forward pass, from image files, exported, in torchvision?

    python -m benchmarks.inference --threads 2 --parts --onnx --files --images DIR
        --peer torchvision --peer_python FILE

All programs have the same weights and inputs and run in turns. See benchmarks/README.md.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.comparison import measure
from benchmarks.data import picture_files
from benchmarks.workload import Workload, add_workload_options, open_workload
from src.base.errors import run_entry


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure inference.")
    add_workload_options(parser)
    add = parser.add_argument
    add("--parts", action="store_true", help="also time the network's parts alone")
    add("--profile", metavar="DIR", help="also run once under MindSpore's profiler, into here")
    add("--onnx", action="store_true", help="also export to ONNX and run that in onnxruntime")
    add("--files", action="store_true", help="also measure from image files to boxes")
    add(
        "--images",
        nargs="+",
        default=[],
        metavar="PATH",
        help="image files or folders for --files; default: COCO's sample of the tests "
        "(FASTERRCNN_TEST_DATA), or drawn ones",
    )
    add("--max_images", type=common.positive, default=128, help="most image files that are read")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    with open_workload(options, rest) as work:
        if options.onnx:
            with work.onnxruntime() as onnx:
                report = measure("inference", work, (onnx,))
        else:
            report = measure("inference", work)
        if options.files or options.images:
            report["files"] = measure_files(work)
    common.write_report(options.json, "inference", options, report)
    return 0


def measure_files(work: Workload) -> dict[str, Any]:
    """From image files to boxes against the forward pass alone, on the same images."""
    own = work.options
    files, what = picture_files(own.images, work.folder, own.max_images, own.seed)
    checkpoint = work.checkpoint()
    with work.mindspore("files", name="files", checkpoint=checkpoint, files=files) as program:
        program.ask("run_both", count=own.warmup)
        rows = program.ask("run_both", count=own.repeats)
    parts = {name: common.summary([row[name] for row in rows]) for name in rows[0]}
    beyond = common.summary([row["whole"] / row["forward"] - 1 for row in rows])
    print(f"\nfrom image files to boxes: {len(files)} files, {what}")
    whole = parts["whole"]["median"]
    print(
        common.table(
            ("", "median s a batch", "share", "images/s"),
            [
                (name, part["median"], f"{part['median'] / whole:.1%}", own.batch / part["median"])
                for name, part in parts.items()
            ],
        )
    )
    print(f"beyond the forward pass alone: {common.spread(beyond, '%', 100)}")
    return {"images": what, "count": len(files), "parts": parts, "beyond_forward": beyond}


if __name__ == "__main__":
    run_entry(main)
