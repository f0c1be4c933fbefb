# SPDX-License-Identifier: Apache-2.0
"""How the processes of a launch end together, with stand-ins for train.py."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from src.processes.process_group import ProcessGroup, read_state
from tests.processes.test_launch import ASCEND, Launch
from tests.processes.test_rank_table import modern_table, write


@pytest.fixture
def bench(tmp_path, repo_root):
    return Launch(tmp_path, repo_root)


CPU = "run_distribute_train_cpu.sh"
WAIT = "time.sleep(60)"
SAVES = """
def stop(number, frame):
    time.sleep(float(rank))
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
open(folder + "/ready" + rank, "w").close()
time.sleep(60)
"""


def table_of(bench, count):
    return write(bench.root / "t.json", modern_table(["h"], count))


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not begin"
        time.sleep(0.05)


def test_a_second_launch_leaves_the_running_one_alone(bench):
    folder = bench.work / "run"
    arguments = (ASCEND, table_of(bench, 2), *bench.given, "--output_dir", folder)
    do = "while not os.path.exists(folder + '/leave'): time.sleep(0.05)"
    first = bench.popen(*arguments, STAND_IN_DO=do)
    states = [folder / f"train_parallel{r}/process.json" for r in (0, 1)]
    wait_for(lambda: len(bench.records("run")) == 2 and all(s.exists() for s in states))
    before = [state.read_text() for state in states]
    second = bench.run(*arguments)
    assert second.code == 2
    assert f"error: {folder}: another run is at work in it (pid " in second.stdout
    assert [state.read_text() for state in states] == before and first.poll() is None
    (folder / "leave").touch()
    assert first.communicate(timeout=30)[0] and first.returncode == 0
    assert bench.run(*arguments).code == 0  # the lock is gone with its holder


def test_one_that_fails_takes_the_others_down(bench):
    do = f"if rank == '1': print('the reason', flush=True); sys.exit(7)\n{WAIT}"
    started = time.monotonic()
    call = bench.run(ASCEND, table_of(bench, 3), *bench.given, STAND_IN_DO=do)
    assert time.monotonic() - started < 30
    assert call.code == 7
    log = bench.work / "train/train_parallel1/log.txt"
    assert f"error: rank 1 ended with exit code 7; the end of {log}:" in call.stdout
    assert "  the reason\n" in call.stdout
    assert all(not alive(record["env"]) for record in bench.records().values())


def alive(environment):
    """Whether a process with this environment's RANK_ID and run folder still runs."""
    wanted = {
        f"RANK_ID={environment['RANK_ID']}",
        f"STAND_IN_RECORD={environment['STAND_IN_RECORD']}",
    }
    for entry in Path("/proc").iterdir():
        try:
            if wanted <= set((entry / "environ").read_text(errors="replace").split("\0")):
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize("victim", ["pid", "minder"])
def test_kill_9(bench, victim):
    process = bench.popen(ASCEND, table_of(bench, 3), *bench.given, STAND_IN_DO=WAIT)
    state = bench.work / "train/train_parallel2/process.json"
    wait_for(lambda: len(bench.records()) == 3 and "pid" in state.read_text())
    os.kill(json.loads(state.read_text())[victim], signal.SIGKILL)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 137 and "rank 2 ended with exit code 137" in stdout
    assert not any(alive(record["env"]) for record in bench.records().values())


def children_of(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def launcher_of(process):
    """The launcher, which bash has started beside the log's writer."""
    for pid in children_of(process.pid):
        if "launch.py" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise AssertionError("no launcher")


@pytest.mark.parametrize("how", ["table", "msrun"])
@pytest.mark.parametrize("stubborn", [False, True], ids=["saves", "hangs"])
def test_kill_9_of_the_launcher(bench, how, stubborn):
    """The processes save and leave; until then the folder is theirs."""
    save = SAVES.replace("time.sleep(float(rank))", "time.sleep(4)")
    do = (
        SAVES.replace("def stop(number, frame):", "def stop(number, frame):\n    return") * stubborn
    )
    script, first = (ASCEND, table_of(bench, 2)) if how == "table" else (CPU, "2")
    arguments = (script, first, *bench.given, "--output_dir", bench.work / "run")
    settings = {"STAND_IN_DO": do or save, "ORPHAN_SECONDS": "4" if stubborn else "8"}
    process = bench.popen(*arguments, **settings)
    wait_for(lambda: all((bench.work / f"run/ready{r}").exists() for r in range(2)))
    os.kill(launcher_of(process), signal.SIGKILL)
    refused = bench.run(*arguments)
    assert refused.code == 2 and "another run is at work in it (rank " in refused.stdout
    process.communicate(timeout=30)
    assert process.returncode == 137
    wait_for(lambda: not any(alive(record["env"]) for record in bench.records("run").values()))
    if not stubborn:
        for rank in range(2):
            log = bench.work / f"run/train_parallel{rank}/log.txt"
            assert log.read_text().count("saved\n") == 1
    assert bench.run(ASCEND, table_of(bench, 1), *arguments[2:], STAND_IN_DO="").code == 0


def test_hang_up_is_passed_on_unless_it_was_ignored(bench):
    for ignored, code in ((False, 143), (True, 0)):
        folder = bench.work / f"run{ignored}"
        do = SAVES.replace("time.sleep(60)", "time.sleep(3)")
        arguments = (ASCEND, table_of(bench, 1), *bench.given, "--output_dir", folder)
        process = subprocess.Popen(
            ["nohup"] * ignored + bench.command(*arguments),
            cwd=bench.work,
            env={**bench.environment, "STAND_IN_DO": do},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for((folder / "ready0").exists)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == code


def test_a_scheduler_that_fails_is_said(bench):
    arguments = (CPU, "2", *bench.given)
    call = bench.run(*arguments, STAND_IN_SCHEDULER_EXIT="3", STAND_IN_DO=WAIT)
    assert call.code == 3
    assert "error: the scheduler of the processes ended with exit code 3 (its" in call.stdout
    assert not any(alive(record["env"]) for record in bench.records().values())


def test_numbers_that_can_be_no_process_are_passed_over(tmp_path):
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"pid": -1, "minder": True, "exit_code": 1e9, "host": "a"}))
    assert read_state(file) == {"host": "a"}
    for text in ("[1]", "{", "[" * 5000, "\x00"):
        file.write_text(text)
        assert read_state(file) == {}


def test_the_reason_is_the_one_that_failed_first(bench):
    do = (
        "if rank == '0': time.sleep(1.5)\n"
        "sys.exit({'0': 1, '2': 5}[rank]) if rank != '1' else time.sleep(60)"
    )
    call = bench.run(ASCEND, table_of(bench, 3), *bench.given, STAND_IN_DO=do)
    assert call.code == 5 and "error: rank 2 ended with exit code 5" in call.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_all_save_and_leave(bench, number):
    process = bench.popen(ASCEND, table_of(bench, 3), *bench.given, STAND_IN_DO=SAVES)
    wait_for(lambda: all((bench.work / f"train/ready{r}").exists() for r in range(3)))
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 143, stderr
    for rank in range(3):
        assert "saved\n" in (bench.work / f"train/train_parallel{rank}/log.txt").read_text()
    assert "saved" in stdout


@pytest.mark.parametrize("way", ["twice", "too slow"])
def test_those_that_do_not_leave_are_ended(bench, way):
    do = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SAVES.split("\n", 6)[-1]
    seconds = {"STOP_SECONDS": "1"} if way == "too slow" else {}
    process = bench.popen(ASCEND, table_of(bench, 2), *bench.given, STAND_IN_DO=do, **seconds)
    wait_for(lambda: all((bench.work / f"train/ready{r}").exists() for r in range(2)))
    os.kill(process.pid, signal.SIGINT)
    if way == "twice":
        time.sleep(1.2)  # earlier it counts as the same wish
        os.kill(process.pid, signal.SIGINT)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "ended before they had saved" in stdout
    assert not any(alive(record["env"]) for record in bench.records().values())


def test_one_that_does_not_end_when_another_has_done_well(bench):
    do = f"if rank == '1': print('hanging', flush=True); {WAIT}"
    call = bench.run(ASCEND, table_of(bench, 2), *bench.given, STAND_IN_DO=do, END_SECONDS="1")
    assert call.code == 1
    assert "error: rank 1 has not ended 1 s after another one (END_SECONDS); " in call.stdout
    assert "  hanging\n" in call.stdout
    assert not any(alive(record["env"]) for record in bench.records().values())


def test_a_failure_under_msrun_ends_its_scheduler_too(bench):
    do = f"if rank == '1': sys.exit(9)\n{WAIT}"
    started = time.monotonic()
    call = bench.run("run_distribute_train_cpu.sh", 2, *bench.given, STAND_IN_DO=do)
    assert call.code == 9 and "rank 1 ended with exit code 9" in call.stdout
    assert time.monotonic() - started < 30
    records = bench.records()
    assert not any(alive(record["env"]) for record in records.values())
    assert records[0]["env"]["OMP_NUM_THREADS"] == str(max(1, os.cpu_count() // 2))


class Program:
    """A program that ends, and its process with it, between two looks."""

    def __init__(self):
        self.has_ended = False

    def poll(self):
        return 0 if self.has_ended else None


def test_a_program_that_ends_between_two_looks_has_done_well(tmp_path, monkeypatch):
    program = Program()
    group = ProcessGroup(tmp_path, [], [0])
    group.started = [program]

    def exit_codes():
        codes = {0: 0} if program.has_ended else {}
        program.has_ended = True
        return codes

    monkeypatch.setattr(group, "_exit_codes", exit_codes)
    assert group._watch() == 0
