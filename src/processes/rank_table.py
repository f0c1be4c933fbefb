# SPDX-License-Identifier: Apache-2.0
"""Ascend's rank tables: which devices on which servers make up a run, and their ranks.

Two forms exist. Version 1.0 lists the devices of each server:

    {"version": "1.0", "server_count": "1", "status": "completed",
     "server_list": [{"server_id": "10.0.0.1",
                      "device": [{"device_id": "0", "device_ip": "192.0.2.1", "rank_id": "0"}]}]}

The older form lists instances; a device's position is its rank, unless it or its instance says it:

    {"group_count": "1", "status": "completed",
     "group_list": [{"instance_list": [{"server_id": "10.0.0.1",
                     "devices": [{"device_id": "0", "device_ip": "192.0.2.1"}]}]}]}
"""

import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from ..base.foreign_files import read_json

_LARGEST = 1 << 24  # bytes


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """One line of a rank table."""

    rank: int
    server: str
    device_id: int


def read_rank_table(path: str) -> list[Device]:
    """Return the devices of a run in the order of their ranks.

    Args:
        path: of the JSON file.

    Raises:
        UserError: the file cannot be read, is in neither form, or contradicts itself.
    """
    try:
        table = read_json(path, _LARGEST)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be read ({reason}); give HCCL's rank table file") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); give HCCL's rank table file") from None
    if not isinstance(table, dict) or not table.keys() & {"server_list", "group_list"}:
        raise UserError(
            f"{path}: holds neither server_list nor group_list; give HCCL's rank table file"
        )
    status = table.get("status", "completed")
    if status != "completed":
        raise UserError(f"{path}: status: {status!r} is not 'completed'; wait until it is")
    modern = "server_list" in table
    devices = _from_servers(path, table) if modern else _from_groups(path, table)
    _check(path, devices)
    return sorted(devices)


def devices_of_server(
    path: str, devices: Collection[Device], wanted: str = "", addresses: Collection[str] = ()
) -> list[Device]:
    """Return the devices that this server has to start processes for.

    Args:
        path: of the rank table, for errors.
        devices: of `read_rank_table`.
        wanted: the server's id in the table; "": the only one, or the one that has an address of
            this machine.
        addresses: of this machine, names and numbers.

    Raises:
        UserError: none of the servers, or more than one, is this one.
    """
    servers = sorted({device.server for device in devices})
    if wanted:
        own = [server for server in servers if server == wanted]
    elif len(servers) == 1:
        own = servers
    else:
        own = [server for server in servers if server in addresses]
    if len(own) != 1:
        what = f"SERVER_ID: {wanted!r}" if wanted else f"{len(own)} of its servers"
        raise UserError(
            f"{path}: {what} is not the one this machine is, of {', '.join(servers)}; set SERVER_ID"
            " in the environment to this server's server_id"
        )
    return [device for device in devices if device.server == own[0]]


def own_addresses() -> set[str]:
    """Return the names and the IPv4 numbers of this machine, as far as they are known to it."""
    names = {socket.gethostname(), socket.getfqdn()}
    numbers = set()
    for name in names:
        try:
            numbers.update(socket.gethostbyname_ex(name)[2])
        except OSError:
            continue
    try:  # the address of the way out; nothing is sent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            numbers.add(probe.getsockname()[0])
    except OSError:
        pass
    return names | numbers


def _from_servers(path: str, table: dict[str, Any]) -> list[Device]:
    devices: list[Device] = []
    servers = _list(path, "server_list", table["server_list"])
    _check_count(path, table, "server_count", len(servers))
    for number, server in enumerate(servers):
        place = f"server_list[{number}]"
        name = _text(path, f"{place}.server_id", server.get("server_id"))
        for i, device in enumerate(_list(path, f"{place}.device", server.get("device"))):
            at = f"{place}.device[{i}]"
            rank = _number(path, f"{at}.rank_id", device.get("rank_id"))
            device_id = _number(path, f"{at}.device_id", device.get("device_id"))
            devices.append(Device(rank, name, device_id))
    return devices


def _from_groups(path: str, table: dict[str, Any]) -> list[Device]:
    devices: list[Device] = []
    groups = _list(path, "group_list", table["group_list"])
    _check_count(path, table, "group_count", len(groups))
    for number, group in enumerate(groups):
        field = f"group_list[{number}].instance_list"
        instances = _list(path, field, group.get("instance_list"))
        _check_count(path, group, "instance_count", len(instances))
        for i, instance in enumerate(instances):
            at = f"{field}[{i}]"
            name = _text(path, f"{at}.server_id", instance.get("server_id"))
            for k, device in enumerate(_list(path, f"{at}.devices", instance.get("devices"))):
                own = instance if len(instance["devices"]) == 1 else {}
                rank = device.get("rank_id", own.get("rank_id", len(devices)))
                rank = _number(path, f"{at}.devices[{k}].rank_id", rank)
                device_id = device.get("device_id")
                device_id = _number(path, f"{at}.devices[{k}].device_id", device_id)
                devices.append(Device(rank, name, device_id))
    return devices


def _check(path: str, devices: list[Device]) -> None:
    ranks = sorted(device.rank for device in devices)
    if ranks != list(range(len(ranks))):
        raise UserError(
            f"{path}: rank_id: the ranks are {_short(ranks)}, not 0 to {len(ranks) - 1}, each once;"
            " correct the table"
        )
    places = [(device.server, device.device_id) for device in devices]
    for place in places:
        if places.count(place) > 1:
            raise UserError(
                f"{path}: device_id: {place[1]} of server {place[0]} is listed twice; correct the "
                "table"
            )


def _check_count(path: str, table: dict[str, Any], key: str, found: int) -> None:
    if key in table and _number(path, key, table[key]) != found:
        raise UserError(f"{path}: {key}: {table[key]!r}, but {found} are listed; correct the table")


def _list(path: str, field: str, value: Any) -> list[dict[str, Any]]:
    """The value when it is a list, not empty, of JSON objects."""
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        raise UserError(f"{path}: {field}: is not a list of objects; correct the table")
    return value


def _text(path: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{path}: {field}: {value!r} is not a name; correct the table")
    return value.strip()


def _number(path: str, field: str, value: Any) -> int:
    """A whole number from 0 on; the tables write numbers as texts."""
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 6:
        raise UserError(
            f"{path}: {field}: {value!r} is not a whole number from 0 on; correct the table"
        )
    return int(text)


def _short(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:8]))
    return f"{text}, ..." if len(numbers) > 8 else text
