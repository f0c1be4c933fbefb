# SPDX-License-Identifier: Apache-2.0
"""Copying from and to object storage, against an S3 server of its own on loopback."""

import itertools
import os
import re
import socket
import sys
import types
from pathlib import Path

import pytest

from src.base.errors import UserError
from src.storage import object_store, transfer
from src.storage.transfer import Uploader, download


def test_down_and_up_again(s3, tmp_path):
    s3.put("down/a.txt", b"one")
    s3.put("down/deep folder/b.bin", bytes(range(256)) * 40)
    s3.put("down2/other.txt", b"not this")
    folder = tmp_path / "data"
    folder.mkdir()
    assert download("obs://bucket/down/", folder, "data_url") == 2
    assert (folder / "deep folder/b.bin").read_bytes() == bytes(range(256)) * 40
    assert download("s3://bucket/down", folder, "data_url") == 0
    s3.put("down/a.txt", b"two")  # of the same size
    assert download("s3://bucket/down", folder, "data_url") == 1
    assert (folder / "a.txt").read_text() == "two"
    (folder / "a.txt").write_text("mine")
    assert download("s3://bucket/down", folder, "data_url", keep=True) == 0

    uploader = Uploader(folder, "s3://bucket/up", "train_url")
    assert uploader.upload() == 2
    assert s3.keys("up/") == {"a.txt": 4, "deep folder/b.bin": 256 * 40}
    assert uploader.upload() == 0
    (folder / "a.txt").write_text("longer")
    assert uploader.upload(["a.txt", "missing.log"]) == 1


def test_a_single_object(s3, tmp_path):
    s3.put("models/best.ckpt", b"weights")
    assert download("s3://bucket/models/best.ckpt", tmp_path, "checkpoint_url") == 1
    assert (tmp_path / "best.ckpt").read_bytes() == b"weights"


def test_more_than_one_page_and_one_part(s3, tmp_path, monkeypatch):
    (tmp_path / "up").mkdir()
    for i in range(23):
        (tmp_path / "up" / f"{i}.txt").write_text(str(i))
    big = os.urandom(9 * 2**20)
    (tmp_path / "up" / "big.ckpt").write_bytes(big)
    assert Uploader(tmp_path / "up", "s3://bucket/many", "train_url").upload() == 24
    store, pages = object_store.open_store("s3://bucket/many", "data_url"), []
    real = store.client.list_objects_v2

    def ten_at_a_time(**names):
        pages.append(names)
        return real(MaxKeys=10, **names)

    monkeypatch.setattr(store.client, "list_objects_v2", ten_at_a_time)
    monkeypatch.setattr(transfer, "open_store", lambda url, key: store)
    (tmp_path / "down").mkdir()
    assert download("s3://bucket/many", tmp_path / "down", "data_url") == 24
    assert len(pages) == 3 and (tmp_path / "down" / "big.ckpt").read_bytes() == big
    assert (tmp_path / "down" / "22.txt").read_text() == "22"


def test_what_a_killed_download_left_goes(tmp_path, dead_process):
    """And what a living one is writing stays; 8 at a time, with names that are cut."""
    names = [f"{letter}{'n' * 200}" for letter in "abcdefgh"]
    for folder in (tmp_path / "from/deep", tmp_path / "to/deep"):
        folder.mkdir(parents=True)
    for name in names:
        (tmp_path / "from/deep" / name).write_text(name)
    half, alive = (
        tmp_path / f"to/deep/.saving-{pid}@{socket.gethostname()}@1.jpg"
        for pid in (dead_process, os.getppid())
    )
    for path in (half, alive):
        path.write_text("half")
    assert download(str(tmp_path / "from"), tmp_path / "to", "data_url") == 8
    found = {p.name: p.read_text() for p in (tmp_path / "to/deep").iterdir()}
    assert found == {alive.name: "half", **{name: name for name in names}}


def test_every_third_request_fails(s3, tmp_path):
    for i in range(20):
        s3.put(f"faulty/{i}", bytes([i]) * 5000)
    (tmp_path / "d").mkdir()
    s3.fail_every(3)
    assert download("s3://bucket/faulty", tmp_path / "d", "data_url") == 20
    assert Uploader(tmp_path / "d", "s3://bucket/faulty up", "train_url").upload() == 20
    requests, failures = s3.fail_every(0)
    assert failures >= 15 and requests > 55
    assert all((tmp_path / "d" / str(i)).read_bytes() == bytes([i]) * 5000 for i in range(20))
    assert s3.keys("faulty up/") == {str(i): 5000 for i in range(20)}
    assert not [p for p in (tmp_path / "d").iterdir() if p.name.startswith(".saving")]


def test_what_never_works_is_an_error(s3, tmp_path, monkeypatch):
    s3.put("never/a", b"x" * 100)
    with pytest.raises(UserError, match="s3://nobody/x: cannot be listed .*NoSuchBucket.* correct"):
        download("s3://nobody/x", tmp_path, "data_url")
    s3.fail_every(-1)
    with pytest.raises(UserError, match="cannot be listed .* after 6 attempts; look at"):
        download("s3://bucket/never", tmp_path, "data_url")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("x")
    with pytest.raises(UserError, match="cannot be uploaded to s3://bucket/never .* 6 attempts"):
        Uploader(tmp_path / "out", "s3://bucket/never", "train_url").upload()
    assert not (tmp_path / "a").exists()


def test_a_failing_download_begins_nothing_more_and_keeps_what_came(tmp_path, monkeypatch):
    asked = []

    def get(name, path):
        asked.append(name)
        if int(name) >= 20:
            raise OSError(28, "No space left on device")
        path.write_text("1")

    names = [f"{number:03d}" for number in range(300)]
    store = types.SimpleNamespace(list=lambda: dict.fromkeys(names, object_store.Item(1, "")))
    store.get = get
    monkeypatch.setattr(transfer, "open_store", lambda url, key: store)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    with pytest.raises(UserError, match="No space left on device"):
        download("s3://bucket/x", tmp_path, "data_url")
    assert len(set(asked)) < 60  # 20 that came, and those that were on their way
    asked.clear()
    with pytest.raises(UserError):
        download("s3://bucket/x", tmp_path, "data_url")
    assert min(asked) == "020"


def test_content_that_changed_on_its_way(s3, tmp_path, monkeypatch):
    s3.put("sum/a", b"x" * 100)
    store = object_store.open_store("s3://bucket/sum", "data_url")
    real = store.client.get_object

    def flipped(**names):
        answer = real(**names)
        content = bytearray(answer["Body"].read())
        content[50] ^= 1
        answer["Body"] = types.SimpleNamespace(iter_chunks=lambda size: [bytes(content)])
        return answer

    monkeypatch.setattr(store.client, "get_object", flipped)
    with pytest.raises(OSError, match="checksum"):
        store.get("a", tmp_path / "a")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "ev\0il"])
def test_object_names_cannot_lead_outside(tmp_path, monkeypatch, name):
    store = types.SimpleNamespace(list=lambda: {name: object_store.Item(1, "")}, get=None)
    monkeypatch.setattr(transfer, "open_store", lambda url, key: store)
    with pytest.raises(UserError, match="would be outside the folder"):
        download("s3://bucket/x", tmp_path, "data_url")


@pytest.mark.parametrize(
    "names, problem",
    [
        (["a", "a/b"], "a/b cannot be downloaded .* may not have the name of another one's folder"),
        (["x" * 256], "cannot be downloaded .*too long"),
    ],
)
def test_object_names_that_no_folder_can_have(tmp_path, monkeypatch, names, problem):
    store = types.SimpleNamespace(
        list=lambda: {name: object_store.Item(1, "") for name in names},
        get=lambda name, path: path.write_text("1"),
    )
    monkeypatch.setattr(transfer, "open_store", lambda url, key: store)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=problem):
        download("s3://bucket/x", tmp_path, "data_url")


@pytest.mark.parametrize(
    "environment, complaint",
    [
        ({"AWS_ACCESS_KEY_ID": "half", "AWS_SECRET_ACCESS_KEY": ""}, "credentials cannot be used"),
        ({"AWS_PROFILE": "nobody"}, "credentials cannot be used .*nobody"),
        ({"AWS_ENDPOINT_URL": "no url"}, "endpoint or credentials cannot be used"),
    ],
)
def test_an_environment_that_cannot_work(tmp_path, monkeypatch, environment, complaint):
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"environment: .*{complaint}"):
        download("s3://bucket/x", tmp_path, "data_url")


def test_moxing_goes_first(tmp_path, monkeypatch):
    """A stand-in with moxing's functions over a folder."""
    bucket = tmp_path / "bucket"

    def local(path):
        return str(path).replace("obs://bucket", str(bucket))

    def copy(source, target):
        calls.append((source, target))
        if len(calls) == 1:
            raise OSError("line broke")
        Path(local(target)).parent.mkdir(parents=True, exist_ok=True)
        Path(local(target)).write_bytes(Path(local(source)).read_bytes())

    calls = []
    file = types.SimpleNamespace(
        exists=lambda p: os.path.exists(local(p)),
        is_directory=lambda p: os.path.isdir(local(p)),
        get_size=lambda p: os.path.getsize(local(p)),
        list_directory=lambda p, recursive: [
            str(q.relative_to(local(p))) for q in Path(local(p)).rglob("*")
        ],
        copy=copy,
    )
    monkeypatch.setitem(sys.modules, "moxing", types.SimpleNamespace(file=file))
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    (bucket / "x/deep").mkdir(parents=True)
    (bucket / "x/deep/a.txt").write_text("hello")
    (tmp_path / "d").mkdir()
    assert download("obs://bucket/x/", tmp_path / "d", "data_url") == 1
    assert (tmp_path / "d/deep/a.txt").read_text() == "hello" and len(calls) == 2
    assert Uploader(tmp_path / "d", "obs://bucket/y", "train_url").upload() == 1
    assert (bucket / "y/deep/a.txt").read_text() == "hello"
    assert download("obs://bucket/nothing", tmp_path / "d", "data_url") == 0


@pytest.mark.parametrize("url", ["ftp://b/x", "s3:///x", "http://b", "s3://[b/x"])
def test_other_addresses(url, tmp_path):
    with pytest.raises(UserError, match=f"data_url: '{re.escape(url)}' is no obs://"):
        download(url, tmp_path, "data_url")


def test_without_a_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moxing", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UserError, match="neither moxing nor boto3 is installed; pip install boto3"):
        download("s3://bucket/x", tmp_path, "data_url")


def _a_store(monkeypatch, sizes):
    store = types.SimpleNamespace(
        list=lambda: {name: object_store.Item(size, "") for name, size in sizes.items()},
        get=lambda name, path: path.write_text("1"),
    )
    monkeypatch.setattr(transfer, "open_store", lambda url, key: store)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"a//b": 1, "a/b": 1}, "the objects 'a//b' and 'a/b' would be one file"),
        ({"a/./b": 1, "a/b": 1}, "would be one file"),
        ({"a": 10**18}, "has 1000000000.0 GB to copy, and .* has room for .* free some space"),
        ({"\ud800": 1}, "surrogates not allowed"),
    ],
)
def test_what_a_folder_cannot_take_is_known_before(tmp_path, monkeypatch, sizes, problem):
    _a_store(monkeypatch, sizes)
    with pytest.raises(UserError, match=problem):
        download("s3://bucket/x", tmp_path, "data_url")
    assert not [path for path in tmp_path.iterdir() if path.name[0] != "."]


@pytest.mark.parametrize("content", ["[]", "1", "{", "[" * 10**5, "\xff"])
def test_notes_that_are_damaged_are_none(tmp_path, monkeypatch, content):
    _a_store(monkeypatch, {"a": 1, ".copied.json": 1, ".unpacked.json": 1})
    (tmp_path / ".copied.json").write_text(content, encoding="latin-1")
    assert download("s3://bucket/x", tmp_path, "data_url") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".copied.json", "a"]
    assert transfer.read_marker(tmp_path / ".copied.json") == {"a": [1, ""]}


def _lists(monkeypatch, pages):
    """An S3 store whose server answers with these pages."""
    store = object_store.S3Store.__new__(object_store.S3Store)
    store.bucket, store.prefix = "bucket", ""
    store.client = types.SimpleNamespace(list_objects_v2=lambda **names: next(pages))
    return store


def _page(number, token):
    entry = {"Key": f"{number}", "Size": 1, "ETag": ""}
    return {"Contents": [entry], "IsTruncated": True, "NextContinuationToken": token}


def test_a_list_without_an_end(monkeypatch):
    pytest.importorskip("botocore")
    same = (_page(number, "same") for number in itertools.count())
    with pytest.raises(object_store.NonRetryableError, match="same page for ever"):
        _lists(monkeypatch, same).list()
    monkeypatch.setattr(object_store, "MOST_OBJECTS", 1000)
    new = (_page(number, str(number)) for number in itertools.count())
    with pytest.raises(object_store.NonRetryableError, match="more than 1000 objects"):
        _lists(monkeypatch, new).list()


def test_content_without_an_end(tmp_path):
    pytest.importorskip("botocore")
    store = object_store.S3Store.__new__(object_store.S3Store)
    store.bucket, store.prefix = "bucket", ""
    body = types.SimpleNamespace(iter_chunks=lambda size: itertools.repeat(b"x" * 100))
    answer = {"ContentLength": 150, "ETag": "", "Body": body}
    store.client = types.SimpleNamespace(get_object=lambda **names: answer)
    with pytest.raises(OSError, match="200 of 150 bytes came"):
        store.get("a", tmp_path / "a")
