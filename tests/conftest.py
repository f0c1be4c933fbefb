# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the environment MindSpore needs, the import path, the real data sets."""

import copy
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from tests.helpers.paths import REPO

# An example may take as long as it needs: other processes run tests on the same processors.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# Set before MindSpore computes anything. Without the first, oneDNN takes a reference
# convolution on AVX-512 CPUs that is two hundred times slower; the second hides INFO/WARNING noise.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")
# Tests compile for themselves, and leave nothing in the user's folder of compiled graphs.
os.environ.setdefault("MS_COMPILER_CACHE_ENABLE", "0")


def _data_set_root(name: str) -> Path:
    """Folder of a real data set below ``FASTERRCNN_TEST_DATA``; skips when it is absent."""
    base = os.environ.get("FASTERRCNN_TEST_DATA")
    root = (Path(base) if base else REPO.parent / "shared" / "data") / name
    if not root.is_dir():
        pytest.skip(
            f"real data set '{name}' not found at {root}; "
            "set FASTERRCNN_TEST_DATA to the folder that holds it"
        )
    return root.resolve()


MOST_WORKERS, WORKER_BYTES = 4, 6 * 2**30  # the agreement with torchvision takes most


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes of `-n auto`: one for each processor that may be used and has memory for it."""
    from psutil import virtual_memory

    memory = int(virtual_memory().available // WORKER_BYTES)
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)), memory))


def pytest_addoption(parser) -> None:
    """Tests of the same kind as faster ones run when they are asked for."""
    parser.addoption("--thorough", action="store_true", help="also run tests marked thorough")


def pytest_sessionstart(session) -> None:
    """Choose the device; first undo what `nohup` and a script's `&` do.

    Their programs leave SIGHUP and SIGINT alone, and so would what the tests start.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _choose_device(session)


def _choose_device(session) -> None:
    """Choose the device before any test runs an operator: afterwards MindSpore refuses to."""
    if session.config.getoption("numprocesses", None):
        return  # this process hands the tests to others and runs none
    import mindspore

    mindspore.set_device("CPU", 0)


def pytest_collection_modifyitems(config, items) -> None:
    """Files with slow tests first: at the end no worker waits for another's long file."""
    if not config.getoption("thorough"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="runs with --thorough"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Let garbage collection leave out what stays: MindSpore starts one before each graph."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def compiled_graphs_are_given_back():
    """Free what a file's networks have left: some of them take gigabytes."""
    yield
    if "mindspore" in sys.modules:
        from src.model_utils.device_adapter import give_back_memory

        gc.collect()
        give_back_memory()


@pytest.fixture(scope="session", autouse=True)
def defaults_are_parsed_once():
    """Hand out copies of the parsed file of defaults: its YAML takes longer than most tests."""
    from src.model_utils.config import DEFAULT_CONFIG
    from src.model_utils.configuration import yaml_files

    read = yaml_files.read_documents
    documents = read(DEFAULT_CONFIG)

    def read_or_copy(path):
        return copy.deepcopy(documents) if path == DEFAULT_CONFIG else read(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_files, "read_documents", read_or_copy)
        yield


@pytest.fixture(scope="session")
def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's own folder."""
    return REPO


@pytest.fixture(scope="session")
def bccd_root() -> Path:
    """COCO-layout folder of the blood-cell set (3 classes), or a skip with the reason."""
    return _data_set_root("bccd")


@pytest.fixture(scope="session")
def coco128_root() -> Path:
    """COCO-layout folder of the 128-image COCO sample (80 classes), or a skip with the reason."""
    return _data_set_root("coco128")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A loopback S3 server's process, or a skip with the reason."""
    from tests.helpers.s3_helpers import Server

    started = Server(tmp_path_factory.mktemp("s3"))
    yield started
    started.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The S3 server, without faults, with its address in the environment and short pauses."""
    from src.storage import transfer

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    yield s3_server
    s3_server.fail_every(0)
