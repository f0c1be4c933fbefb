# SPDX-License-Identifier: Apache-2.0
"""One run under MindSpore's profiler, and on a CPU tables of where its time went."""

import csv
from collections import defaultdict
from pathlib import Path

import mindspore as ms

# Names of the Cells in an operator's path, e.g. Default/network-FasterRcnn/backbone-ResNetFea/...
_PARTS = (
    "backbone",
    "fpn_neck",
    "rpn_with_loss",
    "rpn_targets",
    "rpn_loss",
    "proposals",
    "rcnn_targets",
    "roi_align",
    "rcnn",
    "rcnn_loss",
    "detections",
    "optimizer",
)


def profile(work, folder, device_target):
    """Call `work` once under the profiler, which writes its files below `folder`.

    Returns:
        {"folder", "operators", "parts"}: the last two on a CPU only, lists of [name, number of
        operators, milliseconds], the longest first. On a CPU with several threads the kernels' own
        times add up to about the step's.
    """
    kinds = ms.profiler.ProfilerActivity
    devices = {"CPU": [], "GPU": [kinds.GPU], "Ascend": [kinds.NPU]}
    activities = [kinds.CPU, *devices[device_target]]
    before = set(Path(folder).glob("*_ascend_ms"))
    handler = ms.profiler.tensorboard_trace_handler(str(folder))
    profiler = ms.profiler.profile(
        activities=activities, start_profile=False, on_trace_ready=handler
    )
    profiler.start()
    work()
    profiler.stop()
    written = sorted(set(Path(folder).glob("*_ascend_ms")) - before)
    result = {"folder": str(written[-1] if written else folder), "operators": [], "parts": []}
    details = list(Path(result["folder"]).rglob("cpu_op_detail_info_*.csv"))
    if details:
        result["operators"], result["parts"] = tables(details[0])
    return result


def tables(path):
    """Sum a cpu_op_detail_info file up by kind of operator and by part of the network."""
    kinds, parts = defaultdict(lambda: [0, 0.0]), defaultdict(lambda: [0, 0.0])
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            count, spent = int(row["op_occurrences"]), float(row["op_total_time(ms)"])
            for table, key in ((kinds, row["op_type"]), (parts, part_of(row["full_op_name"]))):
                table[key][0] += count
                table[key][1] += spent
    return _sorted(kinds), _sorted(parts)


def part_of(path):
    """The part of the network that an operator belongs to, by its path."""
    names = [step.partition("-")[0] for step in path.split("/")]
    if names[0] == "Expand" and len(names) > 1:  # MindSpore has put it in, without its Cell
        return names[1].lstrip("_")
    found = [name for name in names if name in _PARTS]
    backward = " backward" if names[0].startswith("Gradients") else ""
    return (found[0] if found else "other") + backward


def _sorted(table):
    rows = [[name, count, spent] for name, (count, spent) in table.items()]
    return sorted(rows, key=lambda row: -row[2])
