# SPDX-License-Identifier: Apache-2.0
"""Where the processes of a run meet: msrun's scheduler, at MASTER_ADDR and MASTER_PORT.

MindSpore would wait CLUSTER_TIME_OUT for an address that nobody has or a port that is somebody
else's; here it is said at once.
"""

import errno
import ipaddress
import random
import re
import socket
import threading
import time
from collections.abc import Mapping

from ..base.errors import UserError

DEFAULT_PORT = 8118
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?", re.ASCII)
_NAME_SECONDS = 10.0  # for the name service's answer
_CONNECT_SECONDS, _PATIENCE_SECONDS = 3.0, 5.0
# Below the ports that systems hand out by themselves, which any program may get the next moment.
_OWN_PORTS = range(20000, 32000)
_WHOSE = "the address of the server with NODE_RANK 0"


def whole_number(
    name: str, environment: Mapping[str, str], default: int, lowest: int, highest: int = 10**6
) -> int:
    """Return a variable of the environment.

    Args:
        name: of the variable.
        environment: of the process.
        default: its value when it is not set.
        lowest, highest: the range, both included.

    Raises:
        UserError: it is not a whole number in the range.
    """
    text = environment.get(name, "").strip() or str(default)
    digits = text if text.isascii() and text.isdecimal() and len(text) <= 18 else "-1"
    if not lowest <= int(digits) <= highest:
        limits = f"from {lowest} on" if int(digits) < lowest else f"from {lowest} to {highest}"
        raise UserError(
            f"environment: {name}: {text[:80]!r} is not a whole number {limits}; correct it"
        )
    return int(digits)


def scheduler_address(environment: Mapping[str, str], *, several: bool, node: int) -> str:
    """Return MASTER_ADDR, by default this machine for a run on a single server.

    Args:
        environment: of the process.
        several: whether the run has several servers.
        node: number of this server, from 0; the scheduler runs on 0.

    Raises:
        UserError: it is missing, is not an address, is not known, or is not this server's though
            the scheduler is to run here.
    """
    address = environment.get("MASTER_ADDR", "").strip()
    if not address:
        if several:
            raise UserError(f"environment: MASTER_ADDR is not set; give {_WHOSE}")
        return "127.0.0.1"
    if not _is_number(address) and not _HOST_NAME.fullmatch(address):
        raise UserError(
            f"environment: MASTER_ADDR: {address[:80]!r} is neither a host name nor an IP address; "
            f"give {_WHOSE}"
        )
    numbers = _numbers(address)  # of every server: a name that is not known is said before the wait
    if node == 0 and not any(_bind_problem(number, 0) == 0 for number in numbers):
        raise UserError(
            f"environment: MASTER_ADDR: {address!r} is not an address of this machine, where the "
            "processes are to meet; leave it out on a single server, on several give one of the "
            "server with NODE_RANK 0"
        )
    return address


def scheduler_port(
    environment: Mapping[str, str], address: str, *, several: bool, node: int
) -> int:
    """Return MASTER_PORT; on a single server a free one of our own choice by default.

    Args:
        environment: of the process.
        address: of the scheduler.
        several, node: as for `scheduler_address`.

    Raises:
        UserError: it is not a port, or it is in use though the scheduler is to run here.
    """
    if not environment.get("MASTER_PORT", "").strip() and not several:
        return own_port(address)
    port = whole_number("MASTER_PORT", environment, DEFAULT_PORT, 1024, 65535)
    if node == 0 and not is_free(address, port):
        raise UserError(
            f"environment: MASTER_PORT: port {port} of {address} is in use; end what uses it, or "
            + ("give every server another one" if several else "leave MASTER_PORT out")
        )
    return port


def own_port(address: str) -> int:
    """Return a free port of this machine that hardly anybody else will want.

    Args:
        address: of this machine.

    Raises:
        UserError: none was found.
    """
    for port in random.SystemRandom().sample(_OWN_PORTS, 200):
        if is_free(address, port):
            return port
    raise UserError(
        f"no free port was found on {address} from {_OWN_PORTS.start} to {_OWN_PORTS.stop - 1}; "
        "set MASTER_PORT to one"
    )


def is_free(address: str, port: int) -> bool:
    """Whether nobody on this machine listens there.

    Args:
        address: a host name or an IP address.
        port: 1 to 65535.
    """
    return all(_bind_problem(number, port) != errno.EADDRINUSE for number in _numbers(address))


def wait_for_scheduler(address: str, port: int, limit: float) -> None:
    """Wait until the scheduler of another server can be reached, which may be started later.

    Args:
        address, port: of the scheduler.
        limit: seconds, of CLUSTER_TIME_OUT.

    Raises:
        UserError: it could not.
    """
    started, told = time.monotonic(), False
    while True:
        try:
            socket.create_connection((address.strip("[]"), port), timeout=_CONNECT_SECONDS).close()
            return
        except OSError as error:
            problem = error.strerror or str(error) or type(error).__name__
        waited = time.monotonic() - started
        if waited >= limit:
            raise UserError(
                f"environment: MASTER_ADDR, MASTER_PORT: nobody answered at {address}:{port} for "
                f"{waited:.0f} s (CLUSTER_TIME_OUT; {problem}); start the run on the server with "
                "NODE_RANK 0 too, and let its firewall pass this port"
            )
        if waited >= _PATIENCE_SECONDS and not told:
            print(
                f"waiting for the server with NODE_RANK 0 at {address}:{port} ({problem}), up to "
                f"{limit:g} s",
                flush=True,
            )
            told = True
        time.sleep(0.5)


def _is_number(address: str) -> bool:
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    return True


def _numbers(address: str) -> list[tuple]:
    """(family, socket address) of a host; the name service gets a while to answer."""
    answer: list[list] = []
    problem = [f"no answer of the name service within {_NAME_SECONDS:g} s"]

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(address.strip("[]"), 0, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            problem[0] = getattr(error, "strerror", None) or str(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_NAME_SECONDS)
    if not answer:
        raise UserError(
            f"environment: MASTER_ADDR: {address!r} is not known ({problem[0]}); give the name or "
            "the IP address of the server with NODE_RANK 0"
        )
    return [(family, place) for family, _kind, _protocol, _name, place in answer[0]]


def _bind_problem(number: tuple, port: int) -> int:
    """0, or the error's number when this machine cannot listen at an address."""
    family, place = number
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place[0], port, *place[2:]))
            probe.listen()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
