# SPDX-License-Identifier: Apache-2.0
"""MASTER_ADDR and MASTER_PORT are looked at before anything is started."""

import errno
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.processes import launch, meeting_point
from src.processes.meeting_point import (
    is_free,
    own_port,
    scheduler_address,
    scheduler_port,
    wait_for_scheduler,
    whole_number,
)


@pytest.fixture
def taken():
    """A port of this machine on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@given(st.text(max_size=30))
def test_any_text_for_a_number(text):
    try:
        assert 5 <= whole_number("X", {"X": text}, 7, 5, 99) <= 99
    except UserError as error:
        assert "environment: X: " in str(error)


def test_a_port_in_use(taken):
    assert not is_free("127.0.0.1", taken)
    environment = {"MASTER_PORT": str(taken)}
    for several, remedy in ((False, "leave MASTER_PORT out"), (True, "give every server another")):
        with pytest.raises(UserError, match=f"port {taken} of localhost is in use;.*{remedy}"):
            scheduler_port(environment, "localhost", several=several, node=0)
    assert scheduler_port(environment, "localhost", several=True, node=1) == taken


def test_a_port_of_our_own(taken):
    port = scheduler_port({"MASTER_PORT": " "}, "127.0.0.1", several=False, node=0)
    assert 20000 <= port < 32000 and is_free("127.0.0.1", port)
    assert scheduler_port({}, "127.0.0.1", several=True, node=1) == 8118


def test_no_free_port(monkeypatch):
    monkeypatch.setattr(meeting_point, "_bind_problem", lambda *_: errno.EADDRINUSE)
    with pytest.raises(UserError, match="no free port was found on 127.0.0.1"):
        own_port("127.0.0.1")


@pytest.mark.parametrize(
    "text", [";touch x", "-x", "a b", "a\nb", "$(id)", "a" * 300, "é", "..", "[", "1.2.3.4:5"]
)
def test_what_is_no_address(text):
    with pytest.raises(UserError, match="MASTER_ADDR.*(neither a host name|is not known)"):
        scheduler_address({"MASTER_ADDR": text}, several=False, node=0)


@pytest.mark.parametrize("text", ["127.0.0.1", "localhost", "", " 127.0.0.1 "])
def test_an_address_of_this_machine(text):
    address = scheduler_address({"MASTER_ADDR": text}, several=False, node=0)
    assert address == (text.strip() or "127.0.0.1")


def test_an_address_of_another_machine():
    environment = {"MASTER_ADDR": "192.0.2.1"}
    with pytest.raises(UserError, match="'192.0.2.1' is not an address of this machine"):
        scheduler_address(environment, several=True, node=0)
    assert scheduler_address(environment, several=True, node=1) == "192.0.2.1"
    with pytest.raises(UserError, match="MASTER_ADDR is not set; give the address"):
        scheduler_address({}, several=True, node=1)


def test_a_name_service_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(meeting_point, "_NAME_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    with pytest.raises(UserError, match="'a.b' is not known .no answer of the name service"):
        scheduler_address({"MASTER_ADDR": "a.b"}, several=True, node=1)


def test_a_server_that_never_comes(monkeypatch, capsys, taken):
    wait_for_scheduler("127.0.0.1", taken, 0)
    monkeypatch.setattr(meeting_point, "_PATIENCE_SECONDS", 0)
    with pytest.raises(UserError, match="nobody answered at 127.0.0.1:1 for .*CLUSTER_TIME_OUT"):
        wait_for_scheduler("127.0.0.1", 1, 0.6)
    assert capsys.readouterr().out.startswith("waiting for the server with NODE_RANK 0 at 127.0")


def test_a_port_that_was_lost_is_chosen_anew(monkeypatch, capsys, tmp_path):
    ports = []

    class Group:
        def __init__(self, _folder, starts, _ranks):
            ports.extend(a for a in starts[0].command if a.startswith("--master_port="))
            self.scheduler_failed = len(ports) < 3

        def run(self):
            return 2 if self.scheduler_failed else 0

    monkeypatch.setattr(launch, "ProcessGroup", Group)
    monkeypatch.setattr(launch, "is_free", lambda *_: False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/bin/msrun")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    arguments = ["msrun", str(tmp_path), "--processes", "2", "--", sys.executable, "train.py"]
    for name in ("RANK_SIZE", "RANK_ID"):  # which the launcher sets for itself
        monkeypatch.setenv(name, "0")
    assert launch.main([*arguments, "--device_target", "CPU"]) == 0
    assert len(set(ports)) == len(ports) == 3
    assert capsys.readouterr().out.count("went to another program; starting again") == 2


def test_the_launcher_starts_without_mindspore(repo_root):
    program = "import sys, src.processes.launch; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=repo_root).returncode == 0
