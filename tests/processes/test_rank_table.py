# SPDX-License-Identifier: Apache-2.0
"""Rank tables in both forms, and what is wrong with them."""

import json

import pytest

from src.base.errors import UserError
from src.processes.rank_table import Device, devices_of_server, own_addresses, read_rank_table

SERVERS = ("10.0.0.1", "10.0.0.2")


def modern_table(servers=SERVERS, per_server=8, first_device=0):
    """Version 1.0, as HCCL's tool writes it: every number is a text."""
    rank, listed = 0, []
    for name in servers:
        devices = []
        for i in range(per_server):
            address = f"192.0.2.{rank + 1}"
            devices.append(
                {"device_id": str(first_device + i), "device_ip": address, "rank_id": str(rank)}
            )
            rank += 1
        listed.append({"server_id": name, "device": devices, "host_nic_ip": "reserve"})
    count = str(len(servers))
    return {"version": "1.0", "server_count": count, "server_list": listed, "status": "completed"}


def old_table(servers=SERVERS, per_server=8):
    """The form before 1.0, as ModelArts writes it: ranks by position."""
    instances = [
        {
            "pod_name": f"job-{n}",
            "server_id": name,
            "devices": [
                {"device_id": str(i), "device_ip": f"192.0.2.{i}"} for i in range(per_server)
            ],
        }
        for n, name in enumerate(servers)
    ]
    group = {"group_name": "g", "instance_count": str(len(servers)), "instance_list": instances}
    return {"status": "completed", "group_count": "1", "group_list": [group]}


def write(path, table):
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return str(path)


@pytest.mark.parametrize("table", [modern_table(), old_table()], ids=["1.0", "older"])
def test_both_forms(tmp_path, table):
    path = write(tmp_path / "rank table.json", table)
    devices = read_rank_table(path)
    assert [d.rank for d in devices] == list(range(16))
    assert devices[11] == Device(11, "10.0.0.2", 3)
    own = devices_of_server(path, devices, "10.0.0.2")
    assert [(d.rank, d.device_id) for d in own] == [(8 + i, i) for i in range(8)]
    assert devices_of_server(path, devices, addresses={"10.0.0.1", "x"})[0].rank == 0


def test_one_device_an_instance_with_its_own_rank(tmp_path):
    """The form that MindSpore's first tool wrote."""
    instances = [
        {"devices": [{"device_id": str(i)}], "rank_id": str(3 - i), "server_id": "host"}
        for i in range(4)
    ]
    path = write(
        tmp_path / "t.json",
        {"group_list": [{"instance_count": "4", "instance_list": instances}], "group_count": "1"},
    )
    devices = read_rank_table(path)
    assert [(d.rank, d.device_id) for d in devices] == [(0, 3), (1, 2), (2, 1), (3, 0)]
    assert devices_of_server(path, devices) == devices  # the only server needs no name


def changed(**path_and_value):
    table = modern_table()
    for place, value in path_and_value.items():
        *steps, last = place.split("__")
        target = table
        for step in steps:
            target = target[int(step) if step.isdigit() else step]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return table


@pytest.mark.parametrize(
    "table, complaint",
    [
        ("{", "is not JSON"),
        ("[]", "neither server_list nor group_list"),
        ("{}", "neither server_list nor group_list"),
        ("[" * 100000, "is not JSON"),
        (changed(status="initializing"), "status: 'initializing' is not 'completed'"),
        (changed(server_count="3"), "server_count: '3', but 2 are listed"),
        (changed(server_list=[]), "server_list: is not a list of objects"),
        (changed(server_list=["a"]), "server_list: is not a list of objects"),
        (changed(server_list__1__server_id=""), "server_list[1].server_id: '' is not a name"),
        (changed(server_list__0__device=None), "server_list[0].device: is not a list"),
        (changed(server_list__0__device__2__rank_id="0"), "ranks are 0, 0, 1, 3"),
        (changed(server_list__0__device__2__rank_id="-1"), "rank_id: '-1' is not a whole number"),
        (changed(server_list__0__device__2__device_id=None), "device_id: None is not a whole"),
        (changed(server_list__0__device__2__device_id="1"), "1 of server 10.0.0.1 is listed twice"),
        (changed(server_list__0__device__2__device_id=True), "True is not a whole number"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, table, complaint):
    path = write(tmp_path / "t.json", table)
    with pytest.raises(UserError) as raised:
        read_rank_table(path)
    assert str(raised.value).startswith(f"{path}: ") and complaint in str(raised.value)


def test_a_server_that_is_not_in_the_table(tmp_path):
    path = write(tmp_path / "t.json", modern_table())
    devices = read_rank_table(path)
    with pytest.raises(UserError, match="SERVER_ID: '10.0.0.9' is not .* 10.0.0.1, 10.0.0.2"):
        devices_of_server(path, devices, "10.0.0.9")
    with pytest.raises(UserError, match="0 of its servers .* set SERVER_ID"):
        devices_of_server(path, devices, addresses={"10.0.0.9"})
    with pytest.raises(UserError, match="cannot be read"):
        read_rank_table(str(tmp_path))
    assert all(isinstance(address, str) for address in own_addresses())
