# SPDX-License-Identifier: Apache-2.0
"""How long until the first step: imports, --help, graph compile, with and without compile cache?

    python -m benchmarks.startup --threads 2

Every start is a new process. A matrix product on all --threads, timed before each first run, tells
machines and busy hours apart. See benchmarks/README.md.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.compile_phases import PHASES, compile_phases
from benchmarks.workload import ROOT, Workload, add_workload_options, open_workload
from src.base.errors import UserError, run_entry

_TASKS = ("training", "inference")
_STARTS = ("no cache", "cache, first start", "cache, second start")
_IMPORTS = """\
import json, time
from src.model_utils.device_adapter import prepare_environment
prepare_environment({target!r})
started = time.perf_counter()
import mindspore
middle = time.perf_counter()
import src.detector, src.network_define
print(json.dumps([middle - started, time.perf_counter() - middle]))
"""


def main(argv: Sequence[str]) -> int:
    """Measure as the arguments say; return the exit code."""
    parser = common.make_parser("Measure starting.", warmup=8, repeats=5)
    add_workload_options(parser, peer=False)
    add = parser.add_argument
    add("--tasks", nargs="*", choices=_TASKS, default=list(_TASKS))
    add("--starts", type=common.positive, default=5, help="of imports and of --help")
    add("--phases", action="store_true", help="where compiling takes its time, in a start more")
    options, rest = common.parse(parser, argv)
    common.limit_threads(options.threads)
    report: dict[str, Any] = {
        "machine": common.machine(options.threads),
        "imports": measure_imports(options),
        "help": measure_help(options.starts),
        "first_runs": [],
        "phases": [],
    }
    product = common.MatrixProduct()
    with open_workload(options, rest) as work:
        for task in options.tasks:
            normal = None  # the graph is the same in every start: measured in the first alone
            for start in _STARTS:
                product.measure()
                row = first_run(work, task, start, normal)
                normal = row["normal"]
                print(f"{task}, {start}: first run {row['first']:.4g} s", flush=True)
                report["first_runs"].append(row)
            if options.phases:
                report["phases"] += phases_of(work, task)
        product.measure()
    report["matrix_product_gflops"] = common.summary(product.speeds)
    print(f"matrix product {common.spread(report['matrix_product_gflops'], 'GFLOP/s')}")
    _print_tables(report)
    common.write_report(options.json, "startup", options, report)
    return 0


def _print_tables(report: dict[str, Any]) -> None:
    if report["first_runs"]:
        print("\nthe first run of a process, which compiles the graph:")
        print(
            common.table(
                (
                    "task",
                    "start",
                    "ready after s",
                    "first run s",
                    "normal s",
                    "beyond a normal one s",
                ),
                [
                    (
                        row["task"],
                        row["start"],
                        row["ready"],
                        row["first"],
                        row["normal"]["median"],
                        row["beyond"],
                    )
                    for row in report["first_runs"]
                ],
            )
        )
    if report["phases"]:
        print("\nseconds of compiling, graph by graph:")
        print(
            common.table(
                ("task", "graph", *PHASES),
                [(row["task"], row["graph"], *map(row.get, PHASES)) for row in report["phases"]],
            )
        )


def measure_imports(options: Any) -> dict[str, Any]:
    """Seconds of `import mindspore`, and of the network beyond it; the first start is warm-up."""
    code = _IMPORTS.format(target=options.device_target)
    pairs = []
    for _ in range(options.starts + 1):
        done = _finished([sys.executable, "-c", code])
        pairs.append(json.loads(done.stdout.splitlines()[-1]))
    measured = {
        name: common.summary([pair[i] for pair in pairs[1:]])
        for i, name in enumerate(("mindspore", "network beyond mindspore"))
    }
    for name, values in measured.items():
        print(f"import of {name}: {common.spread(values)}")
    return measured


def measure_help(starts: int) -> dict[str, Any]:
    """Seconds of `train.py --help`, and whether it imports MindSpore."""
    command = [str(ROOT / "train.py"), "--help"]
    seconds = []
    for _ in range(starts + 1):
        started = time.perf_counter()
        _finished([sys.executable, *command])
        seconds.append(time.perf_counter() - started)
    imported = _finished([sys.executable, "-X", "importtime", *command]).stderr
    loads = re.search(r"\|\s+mindspore\b", imported) is not None
    measured = {"seconds": common.summary(seconds[1:]), "imports_mindspore": loads}
    print(
        f"train.py --help: {common.spread(measured['seconds'])}; "
        f"MindSpore is {'imported' if loads else 'not imported'}"
    )
    return measured


def first_run(work: Workload, task: str, start: str, normal: Any = None) -> dict[str, Any]:
    """Start a process and run once; without a `normal` run's seconds, run until they are known."""
    own = work.options
    folder = "off" if start == _STARTS[0] else str(work.folder / f"cache_{task}")
    work.use(work.config.replace(compile_cache=folder))
    with work.mindspore(task) as program:
        first = program.ask("run", count=1)[0]
        if normal is None:
            program.ask("run", count=own.warmup)
            normal = common.summary(program.ask("run", count=own.repeats))
        ready, starting = program.opened, program.ask("describe")["starting"]
    return {
        "task": task,
        "start": start,
        "ready": ready,
        "starting": starting,
        "first": first,
        "normal": normal,
        "beyond": first - normal["median"],
    }


def phases_of(work: Workload, task: str) -> list[dict[str, Any]]:
    """Start a process without a cache; return the seconds of `PHASES` of each of its graphs."""
    work.use(work.config.replace(compile_cache="off"))
    with work.mindspore(task, phases=True) as program:
        program.ask("run", count=1)
        graphs = compile_phases(program.said())
    return [{"task": task, "graph": number, **graph} for number, graph in enumerate(graphs, 1)]


def _finished(command: list[str]) -> subprocess.CompletedProcess:
    """Run a command of Python in the project's folder to its end."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"{' '.join(command[:2])}: exit code {done.returncode}: {last[0]}")
    return done


if __name__ == "__main__":
    run_entry(main)
