# SPDX-License-Identifier: Apache-2.0
"""Published files in the cache, from a mirror on loopback."""

import hashlib
import io
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from src.base.errors import UserError
from src.base.progress import Display
from src.storage import transfer
from src.storage.http_download import Digest
from src.weights import cache
from src.weights.cache import cached_path, published_file, url_of
from src.weights.table import TABLE
from tests.helpers.file_server import Served, file_server, wait_until

CONTENT = b"weights" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROW = TABLE["torchvision/resnet50"]._replace(digest=Digest("sha256", SHA256[:8]))
PATH = f"/torchvision/{ROW.file_name}"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A mirror; the cache is in tmp_path."""
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE", 0.01)
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", str(tmp_path / "cache"))
    with file_server() as running:
        monkeypatch.setenv("FASTERRCNN_WEIGHTS_MIRROR", f"{running.url}/")
        yield running


def get(row=ROW):
    return published_file(row, Display(io.StringIO()))


def test_once(site, tmp_path):
    site.files[PATH] = Served(CONTENT)
    path = get()
    assert path == tmp_path / "cache" / "torchvision" / ROW.file_name
    assert path.read_bytes() == CONTENT
    assert get() == path and len(site.requests) == 1


def test_what_the_user_has_put_there_counts(site):
    path = cached_path(ROW)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert get() == path and not site.requests


def test_something_else_there_is_neither_used_nor_removed(site):
    site.files[PATH] = Served(CONTENT)
    path = cached_path(ROW)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="does not have the sha256.*remove it, and it is downl"):
        get()
    assert path.stat().st_size == len(CONTENT) - 1 and not site.requests
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        get()


def test_a_password_in_an_address_is_not_shown(site, monkeypatch):
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_MIRROR", "https://me:secret@example.org/files")
    stream = io.StringIO()
    with pytest.raises(UserError, match="address on example.org with a user in it") as raised:
        published_file(ROW, Display(stream))
    assert "secret" not in str(raised.value) + stream.getvalue()


def test_the_home_of_nobody_is_a_folder_of_that_name(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", "~nobody-of-this-name/a")
    site.files[PATH] = Served(CONTENT)
    assert get().is_relative_to(tmp_path / "~nobody-of-this-name" / "a")


@pytest.mark.parametrize("when", [1e99, float("inf"), float("nan"), "now", 0])
def test_a_failure_of_another_time_does_not_count(site, when):
    site.files[PATH] = Served(CONTENT)
    path = cached_path(ROW)
    path.parent.mkdir(parents=True)
    note = {"time": when, "message": "it failed"}
    (path.parent / f".{path.name}.failed").write_text(json.dumps(note))
    assert get() == path


def test_a_wrong_digest_leaves_nothing(site):
    site.files[PATH] = Served(CONTENT[1:])
    with pytest.raises(UserError, match="does not have the sha256 that its publisher states"):
        get()
    names = os.listdir(cached_path(ROW).parent)
    assert all(name.endswith((".lock", ".failed")) for name in names)


def test_the_size_that_is_stated_is_a_limit(site):
    site.files[PATH] = Served(CONTENT)
    with pytest.raises(UserError, match="at most 1151 are expected"):
        get(ROW._replace(mebibytes=0.0000973))
    assert get(ROW._replace(mebibytes=len(CONTENT) / 2**20)).exists()


def test_without_a_digest_it_is_said(site):
    site.files[PATH] = Served(CONTENT)
    stream = io.StringIO()
    published_file(ROW._replace(digest=None), Display(stream))
    assert "its publisher states no digest, so nothing was compared" in stream.getvalue()


def _get_in_a_process(results):
    results.put(str(get()))


def test_processes_that_want_one_file_download_it_once(site):
    site.files[PATH] = Served(CONTENT, head_seconds=0.5)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_get_in_a_process, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert found == [str(cached_path(ROW))] * 2 and len(site.requests) == 1


def test_the_wait_for_another_process_ends(site, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_SECONDS", 0.3)
    site.files[PATH] = Served(CONTENT, head_seconds=60)
    context = multiprocessing.get_context("fork")
    first = context.Process(target=_get_in_a_process, args=(context.Queue(),))
    first.start()
    try:
        wait_until(lambda: site.requests)
        with pytest.raises(UserError, match="waited 0.3 s.*try again later if it is still at work"):
            get()
    finally:
        first.kill()
        first.join()


def test_places(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTERRCNN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = f"faster_rcnn_mindspore/weights/torchvision/{ROW.file_name}"
    assert cached_path(ROW) == tmp_path / file
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", "weights")
    assert cached_path(ROW) == Path.cwd() / "weights" / "torchvision" / ROW.file_name
    monkeypatch.delenv("FASTERRCNN_WEIGHTS_DIR")
    monkeypatch.setattr(cache, "user_cache", lambda: None)
    with pytest.raises(UserError, match="no home folder.*set FASTERRCNN_WEIGHTS_DIR"):
        cached_path(ROW)


def test_a_folder_that_cannot_be_written(site, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="FASTERRCNN_WEIGHTS_DIR"):
        get()


def test_addresses(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.delenv("FASTERRCNN_WEIGHTS_MIRROR", raising=False)
    assert url_of(ROW) == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_MIRROR", "http://example.org/w")
    with pytest.raises(UserError, match="no https address"):
        get(ROW._replace(name="torchvision/other", url="https://example.org/other.pth"))
