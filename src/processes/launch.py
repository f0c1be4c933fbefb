# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of a run on this server and ends them together.

    launch HOW RUN_FOLDER [--processes N] [--table FILE] -- train --output_dir RUN_FOLDER ...
    launch HOW RUN_FOLDER [--processes N] [--table FILE] -- PYTHON SCRIPT ARGUMENT ...

HOW is `table` (one process for each device of this server in a rank table), `msrun` or `mpirun`.
Several servers: started on each. The scripts run_distribute_train_*.sh call this; what the
environment says is in docs/distributed.md.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.arguments import ArgumentParser
from ..base.errors import UserError, run_entry
from ..base.program import IS_INSTALLED, PACKAGE, command, program
from ..model_utils.config import DEFAULT_ORIGIN, Config, load_config
from ..model_utils.configuration.schema import RULES
from ..model_utils.configuration.shipped import find_config
from ..model_utils.local_adapter import DEVICE_VARIABLES, RANK_VARIABLES, SIZE_VARIABLES
from .meeting_point import (
    is_free,
    scheduler_address,
    scheduler_port,
    wait_for_scheduler,
    whole_number,
)
from .process_group import ProcessGroup, Start
from .rank_table import devices_of_server, own_addresses, read_rank_table

MINDER = Path(__file__).resolve().with_name("rank_process.py")
COMMANDS = ("train", "eval")  # that several processes can do
HOWS = ("table", "msrun", "mpirun")
_PORT_TRIES = 3
_LEFT_OVER = (
    *RANK_VARIABLES,
    *SIZE_VARIABLES,
    *DEVICE_VARIABLES,
    "RANK_TABLE_FILE",
    "MS_ROLE",
    "LOCAL_RANK",
    "BIND_CPUS",
    "LOCAL_SIZE",
    "LAUNCHER_PROCESS",
    "SCHEDULER_FILE",
)


@dataclass
class Plan:
    """What this server has to start.

    Attributes:
        size: processes of all servers.
        starts, ranks: of this server.
        meeting: (MASTER_ADDR, MASTER_PORT) of msrun.
        is_ours: whether this launcher chose the port, and may choose another.
        wait: seconds that another server's scheduler is waited for; 0: it is to run here.
    """

    size: int
    starts: list[Start]
    ranks: list[int]
    meeting: tuple[str, int] = ("", 0)
    is_ours: bool = False
    wait: float = 0.0


def main(argv: Sequence[str]) -> int:
    """Run the processes to their end; return the exit code of the one that failed first, or 0.

    Args:
        argv: the launcher's own arguments, "--", and the command to run.
    """
    parser = ArgumentParser(
        prog=command("launch"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("how", choices=HOWS)
    parser.add_argument("folder")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--table", default="")
    split = list(argv).index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:split])
    start_words, arguments = _split_command(argv[split + 1 :])
    # Nothing that an earlier launch left in the shell.
    environment = {k: v for k, v in os.environ.items() if k not in _LEFT_OVER}
    environment.setdefault("GLOG_v", "3")  # msrun's warnings, as in `device_adapter`
    plan = _make_plan(options, environment)
    config = _read_config(arguments, plan.size)
    full_command = [*start_words, *with_absolute_paths(arguments, config)]
    print(f"ranks {plan.ranks[0]} to {plan.ranks[-1]} of {plan.size} by {options.how}", flush=True)
    for tries_left in reversed(range(_PORT_TRIES)):
        for start in plan.starts:
            start.environment["LOCAL_SIZE"] = str(len(plan.ranks))
            start.environment["BIND_CPUS"] = str(int(config.bind_cpus))
            start.command += [str(MINDER), options.folder, *full_command]
        group = ProcessGroup(Path(options.folder), plan.starts, plan.ranks)
        if plan.wait:
            wait_for_scheduler(*plan.meeting, plan.wait)
        code = group.run()
        lost_port = group.scheduler_failed and plan.is_ours and not is_free(*plan.meeting)
        if not (lost_port and tries_left):
            return code
        print(f"port {plan.meeting[1]} went to another program; starting again", flush=True)
        plan = _make_plan(options, environment)
    return code


def _split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the words of a command into the program's and its arguments, which are a configuration.

    A command of this project stands for itself, run by this interpreter.
    """
    if not words:
        raise UserError("command line: nothing to start; give -- train ARGS, see --help")
    if words[0] not in COMMANDS:
        return list(words[:2]), list(words[2:])
    if IS_INSTALLED:
        return [sys.executable, "-m", PACKAGE, words[0]], list(words[1:])
    script = Path(__file__).resolve().parents[2] / program(words[0])
    return [sys.executable, str(script)], list(words[1:])


def _make_plan(options: argparse.Namespace, environment: Mapping[str, str]) -> Plan:
    if options.how == "table":
        return _by_table(options.table, environment)
    return _by_program(options, environment)


def _by_table(table: str, environment: Mapping[str, str]) -> Plan:
    """One process for each device of this server."""
    devices = read_rank_table(table)
    wanted = environment.get("SERVER_ID", "")
    own = devices_of_server(table, devices, wanted, own_addresses())
    starts = []
    for local, device in enumerate(own):
        variables = {
            "RANK_TABLE_FILE": os.path.abspath(table),
            "RANK_SIZE": str(len(devices)),
            "RANK_ID": str(device.rank),
            "DEVICE_ID": str(device.device_id),
            "DEVICE_NUM": str(len(own)),
            "LOCAL_RANK": str(local),
        }
        starts.append(Start([sys.executable], {**environment, **variables}, is_minder=True))
    return Plan(len(devices), starts, [device.rank for device in own])


def _by_program(options: argparse.Namespace, environment: Mapping[str, str]) -> Plan:
    """msrun or mpirun, which start the processes."""
    local = options.processes
    if local < 1:
        raise UserError(f"the number of processes is {local}; give 1 or more")
    size = whole_number("WORKER_NUM", environment, local, 1)
    node = whole_number("NODE_RANK", environment, 0, 0)
    if size < local or (node + 1) * local > size:
        raise UserError(
            f"environment: WORKER_NUM: {size} processes in all cannot have {local} on the server "
            f"with NODE_RANK {node}; set WORKER_NUM to those of all servers together"
        )
    if size > local and "NODE_RANK" not in environment:
        raise UserError(
            f"environment: NODE_RANK is not set, but WORKER_NUM {size} is more than the {local} "
            "of this server; number the servers from 0 by NODE_RANK"
        )
    ranks = list(range(node * local, (node + 1) * local))
    bin_folder = os.path.dirname(sys.executable)  # msrun starts the `python` of PATH
    path = f"{bin_folder}{os.pathsep}{environment.get('PATH', os.defpath)}"
    program = shutil.which(options.how, path=path)
    if program is None:
        raise UserError(
            f"{options.how}: no such program in PATH; it comes with "
            f"{'MindSpore' if options.how == 'msrun' else 'Open MPI'}"
        )
    own_environment = {**environment, "PATH": path}
    if options.how == "mpirun":
        return Plan(size, [Start(_mpirun_command(program, size, local), own_environment)], ranks)
    several = size > local
    address = scheduler_address(environment, several=several, node=node)
    port = scheduler_port(environment, address, several=several, node=node)
    wait = whole_number("CLUSTER_TIME_OUT", environment, 600, 1)
    command = [
        program,
        f"--worker_num={size}",
        f"--local_worker_num={local}",
        f"--master_addr={address}",
        f"--master_port={port}",
        f"--node_rank={node}",
        f"--log_dir={os.path.join(options.folder, f'msrun_{node}' if several else 'msrun')}",
        f"--cluster_time_out={wait}",
        "--join=True",
        f"--tail_worker_log={size}",  # of none of them: the logs are elsewhere
    ]
    is_ours = not several and not environment.get("MASTER_PORT", "").strip()
    start = Start(command, own_environment)
    return Plan(size, [start], ranks, (address, port), is_ours, wait if node else 0.0)


def _mpirun_command(program: str, size: int, local: int) -> list[str]:
    """`size`, `local`: processes in all, and of this server."""
    if size > local:
        raise UserError(
            "environment: WORKER_NUM: mpirun starts the processes of one server here; for several "
            "use msrun (leave USE_MPIRUN out)"
        )
    # By itself Open MPI gives a process one core, and its threads no other.
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [program, *as_root, "--bind-to", "none", "-n", str(local), sys.executable]


def _read_config(argv: Sequence[str], size: int) -> Config:
    """The configuration: a mistake in it is said once and not by every process."""
    os.environ.update({"RANK_SIZE": str(size), "RANK_ID": "0"})
    return load_config(argv)


def with_absolute_paths(argv: Sequence[str], config: Config) -> list[str]:
    """Return the arguments with every relative path made absolute, in files and on the command
    line: the processes have folders of their own.

    Args:
        argv: a program's arguments, without its name.
        config: what they and the files that they name say.
    """
    result, last = [], ""
    for text in argv:
        key, equals, value = text.partition("=")
        if key in ("--config_path", "--coco_classes") and equals:
            result.append(f"{key}={_absolute(key, value)}")
        else:
            result.append(_absolute(last, text))
        last = text
    for key, rule in RULES.items():
        path = getattr(config, key, None) if rule.kind == "path" else None
        if not path or os.path.isabs(path) or _is_no_path(key, path, config):
            continue
        result += [f"--{key}", os.path.abspath(path)]
    return result


def _absolute(key: str, value: str) -> str:
    is_path = key == "--config_path" or (key == "--coco_classes" and value.endswith(".txt"))
    if key == "--config_path":
        value = find_config(value)
    return os.path.abspath(os.path.expanduser(value)) if is_path else value


def _is_no_path(key: str, value: str, config: Config) -> bool:
    """Whether a relative value is nobody's, no path, or one of a folder that is yet to come."""
    words = {"resume": ("auto",), "compile_cache": ("auto", "off")}
    if config.origin(key) == DEFAULT_ORIGIN or value in words.get(key, ()):
        return True
    return config.enable_modelarts


if __name__ == "__main__":
    run_entry(main)
