# SPDX-License-Identifier: Apache-2.0
"""Do several processes on the same processors train as fast as one?

    python -m benchmarks.ranks --threads 2 --ranks 1 2

The batch and the processors are shared out: with 2 ranks each has half of --batch and half of
--threads. What runs are train.py and its launcher on drawn pictures (or --coco_root), start, data
pipeline and gradient exchange included; a step's seconds come from the run's metrics.jsonl. See
benchmarks/README.md.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.data import with_data
from benchmarks.workload import ROOT, Workload, add_workload_options, open_workload
from src.base.errors import UserError, run_entry


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser(
        "Measure training in several processes.", height=256, width=320, batch=4, repeats=8
    )
    add_workload_options(parser, peer=False)
    add = parser.add_argument
    add("--ranks", type=common.positive, nargs="+", default=[1, 2], help="numbers of processes")
    add("--rounds", type=common.positive, default=2, help="turns of all of them")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {"machine": common.machine(options.threads), "rows": []}
    with open_workload(options, rest) as work:
        for number in range(options.rounds):
            for ranks in options.ranks if number % 2 == 0 else reversed(options.ranks):
                row = {"round": number, "ranks": ranks, **measure_ranks(work, ranks)}
                report["rows"].append(row)
                print(f"ranks {ranks}: {common.spread(row['all'])}", flush=True)
    best = {
        ranks: min(row["seconds"] for row in report["rows"] if row["ranks"] == ranks)
        for ranks in options.ranks
    }
    first = best[options.ranks[0]]
    print(
        common.table(
            ("ranks", "median s a step, best round", f"speed, of {options.ranks[0]}"),
            [(ranks, seconds, first / seconds) for ranks, seconds in best.items()],
        )
    )
    common.write_report(options.json, "ranks", options, report)
    return 0


def measure_ranks(work: Workload, ranks: int) -> dict[str, Any]:
    """Train some steps in `ranks` processes.

    Returns:
        seconds: median of a step, of rank 0.
        bytes: resident memory of all ranks, as many times rank 0's.
        all: summary of the steps' seconds.

    Raises:
        UserError: the batch or the threads cannot be shared out, or the training fails.
    """
    own = work.options
    for name in ("batch", "threads"):
        if getattr(own, name) % ranks:
            raise UserError(f"--{name} {getattr(own, name)}: cannot be shared by {ranks} processes")
    steps = own.warmup + own.repeats
    config, _ = with_data(work.config, work.folder / "ranks", train=steps * own.batch)
    folder = work.folder / f"train_{ranks}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings = work.folder / f"train_{ranks}.yaml"
    config.replace(
        batch_size=own.batch // ranks,
        lr_base_batch=own.batch,
        base_lr=1e-6,  # drawn weights need not learn, and would diverge
        epoch_size=1,
        steps_per_epoch_limit=steps,
        log_interval=1,
        run_report=False,
        tensorboard=False,
    ).save(str(settings))
    train = ["train", "--config_path", str(settings), "--output_dir", str(folder)]
    command = [sys.executable, str(ROOT / "train.py"), *train[1:]]
    if ranks > 1:
        launch = [str(ROOT / "scripts" / "launch.py"), "msrun", str(folder)]
        command = [sys.executable, *launch, "--processes", str(ranks), "--", *train]
    _train(command, own.threads // ranks, own.timeout)
    rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"][own.warmup :]
    seconds = common.summary([row["seconds"] for row in rows])
    memory = rows[-1]["memory_mb"] * 1e6 * ranks
    return {"seconds": seconds["median"], "bytes": memory, "all": seconds}


def _train(command: Sequence[str], threads: int, timeout: float) -> None:
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", "")]  # msrun is beside Python
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PATH": os.pathsep.join(places)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"training took longer than --timeout {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise UserError(f"training ended with exit code {done.returncode}: {said}")


if __name__ == "__main__":
    run_entry(main)
