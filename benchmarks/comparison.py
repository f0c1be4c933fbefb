# SPDX-License-Identifier: Apache-2.0
"""The run that training_step.py and inference.py share: programs in turns, parts, a profile."""

import contextlib
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import MatrixProduct, machine, ratio, spread, summary, table
from benchmarks.turns import Program, take_turns
from benchmarks.workload import Workload
from src.base.errors import UserError

# Seconds of the model zoo's own network in MindSpore 2.10 at 768x1280, batch 2, ResNet-50, and the
# speed of an fp32 matrix product of the machine where they were measured.
MODEL_ZOO = {"training": 22.5, "inference": 9.9}
MODEL_ZOO_GFLOPS = (170.0, 185.0)
_MODEL_ZOO_CASE = (768, 1280, 2, "CPU")
_PART_WARMUP, _OPERATORS = 8, 15


def measure(task: str, work: Workload, more: tuple[Program, ...] = ()) -> dict[str, Any]:
    """Measure `task` ("training" or "inference") of all programs, print it, and return it.

    Args:
        more: other programs that do the same work; the caller closes them.
    """
    options = work.options
    report: dict[str, Any] = {"machine": machine(options.threads), "programs": {}}
    product = MatrixProduct()
    with contextlib.ExitStack() as stack:
        peers = work.peers(task)
        if peers:
            work.checkpoint()  # the weights that all programs get
        own = stack.enter_context(work.mindspore(task))
        programs = [own, *more]
        programs += [stack.enter_context(start()) for start in peers.values()]
        seconds = take_turns(
            programs, warmup=options.warmup, repeats=options.repeats, between=product.measure
        )
        for program in programs:
            report["programs"][program.name] = {
                "seconds": summary(seconds[program.name]),
                "images_per_second": options.batch / statistics.median(seconds[program.name]),
                **program.ask("describe"),
                "memory": program.ask("memory"),
            }
        report["matrix_product_gflops"] = summary(product.speeds)
        report["ratios"] = _ratios(seconds, tuple(peers))
        print_programs(task, work, report)
        report["model_zoo"] = model_zoo_factor(task, work, report)
        if options.parts:
            report["parts"] = _parts(own, options, report)
        if options.profile:
            report["profile"] = _profile(own, options.profile)
    return report


def _ratios(seconds: dict[str, list[float]], peers: tuple[str, ...]) -> dict[str, Any]:
    """Throughput of our programs relative to each peer's, or to MindSpore's without a peer."""
    bases = peers or ("MindSpore",)
    return {
        f"{name} / {base}": ratio(values, seconds[base])
        for base in bases
        for name, values in seconds.items()
        if name not in bases
    }


def print_programs(task: str, work: Workload, report: dict[str, Any]) -> None:
    """Print the table of programs and the ratios of their throughputs."""
    own, product = work.options, report["matrix_product_gflops"]
    print(
        f"{task}: {own.height}x{own.width}, batch {own.batch}, {own.backbone}, {own.threads} "
        f"threads, {own.device_target}, setting {own.setting}; matrix product "
        f"{spread(product, 'GFLOP/s')}"
    )
    rows = []
    for name, program in report["programs"].items():
        seconds, versions = program["seconds"], program["versions"]
        rows.append(
            (
                name,
                ", ".join(f"{k} {v}" for k, v in versions.items()),
                seconds["median"],
                *seconds["quartiles"],
                *seconds["range"],
                program["images_per_second"],
            )
        )
    head = ("program", "versions", "median s", "1st quartile", "3rd", "least", "most", "images/s")
    print(table(head, rows))
    for name, values in report["ratios"].items():
        low, high = values["range"]
        print(
            f"throughput {name}: {values['of_medians']:.3f} (medians); turn by turn median "
            f"{values['median']:.3f}, {low:.3f} to {high:.3f}"
        )
    for name, program in report["programs"].items():
        for key in ("proposals", "candidates", "detections"):
            if key in program:
                print(f"{key} of {name}: {program[key]}")
        if "losses" in program:
            text = ", ".join(f"{key} {value:.5g}" for key, value in program["losses"].items())
            print(f"losses of {name} after its last step: {text}")


def model_zoo_factor(task: str, work: Workload, report: dict[str, Any]) -> dict[str, Any] | None:
    """Compare with the model zoo's network, its time scaled by this run's matrix product."""
    own = work.options
    case = (own.height, own.width, own.batch, own.device_target)
    if case != _MODEL_ZOO_CASE or own.backbone != "resnet_v1.5_50":
        return None
    ours = report["programs"]["MindSpore"]["seconds"]["median"]
    speed = report["matrix_product_gflops"]["median"]
    scaled = [MODEL_ZOO[task] * gflops / speed for gflops in MODEL_ZOO_GFLOPS]
    factor = [value / ours for value in scaled]
    print(
        f"model zoo's network: {MODEL_ZOO[task]} s where a matrix product ran at "
        f"{MODEL_ZOO_GFLOPS[0]:g} to {MODEL_ZOO_GFLOPS[1]:g} GFLOP/s; scaled to this run's "
        f"{speed:.0f}: {scaled[0]:.2f} to {scaled[1]:.2f} s, {factor[0]:.1f} to {factor[1]:.1f} "
        f"times as long as ours"
        f"{'' if own.setting == 'model_zoo' else ' (like for like with --setting model_zoo)'}"
    )
    return {"seconds": MODEL_ZOO[task], "scaled_seconds": scaled, "factor": factor}


def _parts(own: Program, options: Any, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Time the parts alone and print them."""
    rows = own.ask("parts", warmup=min(options.warmup, _PART_WARMUP), repeats=options.repeats)
    whole = report["programs"]["MindSpore"]["seconds"]["median"]
    measured, shown, total = [], [], 0.0
    for row in rows:
        forward = summary(row["forward"])
        both = summary(row["with_gradient"]) if row["with_gradient"] else None
        cost = (both or forward)["median"]
        total += cost
        measured.append({"name": row["name"], "forward": forward, "with_gradient": both})
        shown.append(
            (
                row["name"],
                forward["median"],
                both["median"] if both else "",
                f"{cost / whole:.1%}",
                *(both or forward)["range"],
            )
        )
    shown.append(("sum", "", total, f"{total / whole:.1%}", "", ""))
    shown.append(("whole, as one graph", "", whole, "100.0%", "", ""))
    print("\nparts, each a graph of its own and timed alone (they overlap in the whole graph):")
    print(table(("part", "forward s", "with gradient s", "of the whole", "least", "most"), shown))
    return measured


def _profile(own: Program, folder: str) -> dict[str, Any]:
    """Run once under the profiler and print its tables."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--profile {folder}: cannot be made: {error.strerror}") from None
    result = own.ask("profile", folder=str(Path(folder).resolve()))
    for title, key in (("kind of operator", "operators"), ("part of the network", "parts")):
        rows = result[key][:_OPERATORS]
        total = sum(spent for _, _, spent in result[key])
        if rows:
            print(
                "\n"
                + table(
                    (title, "operators", "ms", "share"),
                    [(name, count, spent, f"{spent / total:.1%}") for name, count, spent in rows],
                )
            )
    print(f"profile: {result['folder']}")
    return result
