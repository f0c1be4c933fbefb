# SPDX-License-Identifier: Apache-2.0
"""Small files of others, read with a bound."""

import math
import os
import tracemalloc

import pytest

from src.base.errors import UserError
from src.base.foreign_files import is_regular_file, read_bounded, read_json, require_regular


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_within_the_bound(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert read_bounded(path, 100) == b"x" * size


def test_a_file_beyond_the_bound_is_not_read(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(OSError, match="1099511.6 MB, of at most 0.0 MB"):
        read_bounded(path, 100)


def test_the_bound_itself_takes_no_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert len(read_bounded(path, 2**33)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_files_of_the_system_state_no_size():
    content = read_bounded("/proc/self/status", 2**20)
    assert content.startswith(b"Name:") and content.endswith(b"\n")
    with pytest.raises(OSError, match="of at most"):
        read_bounded("/proc/self/status", 100)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 10**5, "{", "\xff"])
def test_what_is_no_json(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError):
        read_json(path, 2**20)


def test_numbers_that_are_none_where_they_are_allowed(tmp_path):
    (tmp_path / "file.json").write_text('[NaN, "NaN"]')
    number, text = read_json(tmp_path / "file.json", 2**20, allow_nan=True)
    assert math.isnan(number) and text == "NaN"


def test_what_a_setting_names_is_looked_at_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_text("abc")
    assert require_regular(tmp_path / "file", "key", "table") == 3
    for name, message in {
        "none": "none: no such file; set key to a table",
        "": "a folder; set key to a table in it",
        "pipe": "a device or a pipe; set key to a table",
        "empty": "an empty file; set key to another table",
        "file/more": "Not a directory; set key to a table",
    }.items():
        with pytest.raises(UserError) as raised:
            require_regular(tmp_path / name, "key", "table")
        assert str(raised.value).endswith(message)


def test_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    found = {name: is_regular_file(tmp_path / name) for name in ("pipe", "file", "link", "", "x")}
    assert found == {"pipe": False, "file": True, "link": True, "": False, "x": False}
