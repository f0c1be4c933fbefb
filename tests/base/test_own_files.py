# SPDX-License-Identifier: Apache-2.0
"""What is kept for later starts: only where nobody else can have written it; and whose home."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from src.base import own_files, user_cache
from src.base.own_files import NotOwnError, own_folder, read_own
from src.graph_cache.graph_entries import GraphEntry, names_other_files, secret_key
from tests.helpers.paths import REPO


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# ------------------------------------------------------------------ folders


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_folders_are_made_for_this_user_alone(umask, tmp_path):
    before = os.umask(umask)
    try:
        made = own_folder(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert made == tmp_path / "a" / "b" / "c"
    assert {mode(p) for p in (made, made.parent, tmp_path / "a")} == {0o700}
    assert own_folder(made, tmp_path / "a") == made


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o1777, 0o2775, 0o702])
@pytest.mark.parametrize("which", ["", "root"])
def test_the_folder_and_its_root_are_closed(bits, which, tmp_path):
    folder = own_folder(tmp_path / "root" / "in" / "folder")
    opened = tmp_path / "root" if which else folder
    opened.chmod(bits)
    with pytest.raises(NotOwnError, match=f"other users can write to {opened}; `chmod go-w` it"):
        own_folder(folder, tmp_path / "root")


def test_a_shared_folder_above_it_keeps_others_from_renaming(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert own_folder(tmp_path / "tmp" / "mine")
    (tmp_path / "tmp").chmod(0o777)
    for folder in ("mine", "new"):
        with pytest.raises(NotOwnError, match="other users can write to"):
            own_folder(tmp_path / "tmp" / folder)
    assert not (tmp_path / "tmp" / "new").exists()


def test_a_group_of_one(tmp_path, monkeypatch):
    """Many systems give every user a group and let it write everywhere."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o775)
    monkeypatch.setattr(own_files, "_is_private_group", lambda gid: True)
    assert own_folder(tmp_path / "home" / "cache")
    monkeypatch.setattr(own_files, "_is_private_group", lambda gid: False)
    with pytest.raises(NotOwnError):
        own_folder(tmp_path / "home" / "cache")


def test_folders_of_another_user(tmp_path, monkeypatch):
    """A process of root in a user's cache too."""
    folder = own_folder(tmp_path / "theirs" / "cache")
    _give_away(monkeypatch, tmp_path / "theirs")
    with pytest.raises(NotOwnError, match="theirs belongs to another user, number 4242"):
        own_folder(folder)
    with pytest.raises(NotOwnError, match="another user"):
        own_folder(tmp_path / "theirs" / "new")
    assert not (tmp_path / "theirs" / "new").exists()


def test_a_link_counts_like_its_owner_and_its_target(tmp_path, monkeypatch):
    folder = own_folder(tmp_path / "real" / "cache")
    (tmp_path / "link").symlink_to("./real/../real")
    assert own_folder(tmp_path / "link" / "cache") == folder
    assert own_folder(tmp_path / "link" / "cache", tmp_path / "link") == folder
    (tmp_path / "real").chmod(0o777)
    with pytest.raises(NotOwnError, match="real"):
        own_folder(tmp_path / "link" / "cache")
    (tmp_path / "real").chmod(0o755)
    _give_away(monkeypatch, tmp_path / "link")
    with pytest.raises(NotOwnError, match="link belongs to another user"):
        own_folder(tmp_path / "link" / "cache")


@pytest.mark.parametrize("kind", ["file", "loop", "dangling"])
def test_what_is_no_folder(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("")
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nothing")
    for folder in (path, path / "below"):
        with pytest.raises(OSError):
            own_folder(folder)


def test_links_without_an_end(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b" / "c")
    (tmp_path / "b").symlink_to(tmp_path / "a" / "d")
    with pytest.raises(OSError):
        own_folder(tmp_path / "a")


def _give_away(monkeypatch, *paths):
    """Let files look like user 4242's."""
    given = {(os.lstat(path).st_dev, os.lstat(path).st_ino) for path in paths}

    def owned(function):
        def wrapped(*args, **options):
            info = function(*args, **options)
            if (info.st_dev, info.st_ino) not in given:
                return info
            fields = list(info)
            fields[stat.ST_UID] = 4242
            return os.stat_result(fields, {"st_mtime_ns": info.st_mtime_ns})

        return wrapped

    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(os, name, owned(getattr(os, name)))


# ------------------------------------------------------------------ files


def test_files_that_count(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    for bits, found, secret in (
        (0o644, b"12345", None),
        (0o600, b"12345", b"12345"),
        (0o620, None, None),
        (0o602, None, None),
    ):
        path.chmod(bits)
        assert read_own(path, 5) == found
        assert read_own(path, 5, secret=True) == secret
    path.chmod(0o600)
    assert read_own(path, 4) is None
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for other in ("link", "pipe", "nothing", "."):
        assert read_own(tmp_path / other, 99) is None
    _give_away(monkeypatch, path)
    assert read_own(path, 5) is None


def test_a_sparse_file_of_a_terabyte_is_not_read(tmp_path):
    path = tmp_path / "huge"
    path.touch(mode=0o600)
    os.truncate(path, 2**40)
    assert read_own(path, 2**20) is None


def test_the_key_is_made_once_and_stays_a_secret(tmp_path):
    first = secret_key(tmp_path)
    path = tmp_path / "graphs.key"
    assert secret_key(tmp_path) == first == path.read_bytes() and len(first) == 32
    assert mode(path) == 0o600 and [p.name for p in tmp_path.iterdir()] == ["graphs.key"]
    path.chmod(0o640)
    second = secret_key(tmp_path)
    assert second != first and mode(path) == 0o600
    path.write_bytes(b"short")
    assert len(secret_key(tmp_path)) == 32
    (tmp_path / "other").write_bytes(second)
    path.unlink()
    path.symlink_to(tmp_path / "other")
    assert secret_key(tmp_path) != second and not path.is_symlink()


# ------------------------------------------------------------------ entries

LIBRARY = Path("/home/user/kernels.so")
CONTENT = b"0123" + b"\x0a\x20" + bytes(LIBRARY) + b":conv" + b"456"


def test_an_entry_holds_no_path(tmp_path):
    entry = GraphEntry(tmp_path / "name.graph", b"k" * 32, LIBRARY)
    entry.write(CONTENT)
    stored = entry.path.read_bytes()
    assert b"kernels.so" not in stored and mode(entry.path) == 0o600
    assert entry.read() == CONTENT
    other = GraphEntry(entry.path, entry.key, Path("/home/user/another.so"))
    assert other.read() == CONTENT.replace(bytes(LIBRARY), b"/home/user/another.so")


def test_an_entry_counts_with_its_name_and_key_only(tmp_path):
    entry = GraphEntry(tmp_path / "name.graph", b"k" * 32, None)
    entry.write(CONTENT)
    assert entry.read() == CONTENT
    entry.path.with_name("other.graph").write_bytes(entry.path.read_bytes())
    assert GraphEntry(tmp_path / "other.graph", entry.key, None).read() is None
    assert GraphEntry(entry.path, b"K" * 32, None).read() is None
    entry.path.chmod(0o666)
    assert entry.read() is None
    for content in (b"", b"x" * 32, entry.path.read_bytes()[:-1]):
        entry.path.unlink()
        entry.path.write_bytes(content)
        assert entry.read() is None


def test_a_graph_that_names_another_file_is_told():
    mind_ir = pytest.importorskip("mindspore.train.mind_ir_pb2")

    def graph(text, kind="primitives"):
        model = mind_ir.ModelProto()
        if kind == "primitives":
            model.primitives.add(op_type="Custom").attribute.add(name="func_name", s=text)
        elif kind == "node":
            model.functions.add().node.add(op_type="Custom", domain="a/b").attribute.add(
                name="x"
            ).values.add(strings=[text])
        else:
            model.graph.parameter.add(name="w").external_data.location = text
        return model.SerializeToString()

    for kind in ("primitives", "node", "data"):
        assert not names_other_files(graph(b"same" if kind != "data" else "same", kind), LIBRARY)
    own = f"{LIBRARY}:conv".encode()
    assert not names_other_files(graph(own), LIBRARY)
    assert names_other_files(graph(own), None)
    for bad in (b"/tmp/evil:conv", b"evil.so:conv", own + b"/../evil", b"../" + own):
        assert names_other_files(graph(bad), LIBRARY)
        assert names_other_files(graph(bad, "node"), LIBRARY)
    assert names_other_files(graph("/etc/passwd", "data"), LIBRARY)
    assert names_other_files(b"no graph at all", LIBRARY)


# ------------------------------------------------------------------ the home folder


@pytest.mark.parametrize("home", ["", "/", "//", "home", "./", "/no/such/folder", None])
def test_what_is_no_home(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    entry = type("Entry", (), {"pw_dir": str(tmp_path)})
    monkeypatch.setattr(user_cache.pwd, "getpwuid", lambda uid: entry)
    assert user_cache.user_cache() == tmp_path / ".cache" / "faster_rcnn_mindspore"
    monkeypatch.setenv("MPLCONFIGDIR", "relative")
    user_cache.settle_home()
    assert os.environ["HOME"] == str(tmp_path) and "MPLCONFIGDIR" not in os.environ

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(user_cache.pwd, "getpwuid", unknown)
    monkeypatch.setenv("HOME", home or "")
    assert user_cache.user_cache() is None
    user_cache.settle_home()
    with pytest.raises(OSError):
        Path("~/folder").expanduser().mkdir(parents=True)


@pytest.mark.parametrize("cache", ["", "/", "relative", "./x"])
def test_what_is_no_cache_folder(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert user_cache.user_cache() == tmp_path / ".cache" / "faster_rcnn_mindspore"


def test_an_entry_script_does_not_take_the_root_for_a_home(tmp_path):
    """`~` of an empty HOME is `/` to Python, and a relative one a folder here."""
    program = (
        "import os; from src.base.errors import run_entry;"
        "run_entry(lambda _: print(os.path.expanduser('~/x'), os.environ.get('XDG_CACHE_HOME')))"
    )
    for home in ("", "/", "here"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": home, "XDG_CACHE_HOME": "here", "PYTHONPATH": str(REPO)},
            check=True,
        )
        folder, cache = done.stdout.split()
        assert folder not in ("/x", "//x", "~/x", "here/x") and cache == "None"
    assert list(tmp_path.iterdir()) == []
