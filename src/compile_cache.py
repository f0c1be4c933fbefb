# SPDX-License-Identifier: Apache-2.0
"""Compiled graphs of earlier processes, so that a second start does not compile again.

MindSpore keeps compiled graphs by a number, the how-manieth of the process, and believes a file of
that number whatever configuration it was made with. So it gets a folder that holds nothing but the
graph that it is about to compile, found by `graph_digest`. Its own check of the program's files
comes on top.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from src.model_utils import local_adapter
from src.model_utils.device_adapter import give_back_memory
from src.user_cache import user_cache

AUTO, OFF = "auto", "off"
MAX_ENTRIES, MAX_DAYS = 64, 30  # of graphs, 1 to 5 MB each; the longest unused go first
_ENTRY, _ROOM = ".graph", "room-"
_ROOM_DAYS = 1  # what a killed process leaves
# A user who sets one of these has a cache of MindSpore's own.
_USERS_OWN = ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH")
_DEPENDENCIES = "compile_dependency.hash"  # of the program's files, as MindSpore finds them
_HEX = 64  # characters of a SHA-256


class CompileCache:
    """Calls Cells; their graphs come from the cache when one of the same digest is there.

    Works on a CPU with a single process. Everywhere else, with `compile_cache: off`, and where the
    folder cannot be used (said once), it only calls. On a CPU, what compiling took and left free
    goes back to the system before the first run.

    Args:
        config: uses compile_cache (auto: a folder of the user's cache; off; or a folder),
            device_target; everything else tells graphs apart.
        say: gets the one line about a folder that cannot be used.
    """

    def __init__(self, config: Any, say: Callable[[str], None] = print) -> None:
        self._config, self._say = config, say
        self._folder = _folder_of(config)
        self._seen: set[tuple] = set()

    def __call__(self, cell: nn.Cell, *inputs: Tensor) -> Any:
        """Return `cell(*inputs)`."""
        if self._config.device_target == "CPU" and isinstance(cell, nn.Cell):
            # The cell itself, not its id: that of a cell which is gone may be given again.
            kind = (cell, cell.training, *((tensor.shape, tensor.dtype) for tensor in inputs))
            if kind not in self._seen:
                self._seen.add(kind)
                if self._folder is not None:
                    self._compile(cell, inputs)
                cell.compile(*inputs)  # unless it is by now
                give_back_memory()
        return cell(*inputs)

    def _compile(self, cell: nn.Cell, inputs: tuple[Tensor, ...]) -> None:
        """Compile with the cache; whatever is wrong with it, the cell can be called afterwards."""
        try:
            from src.graph_digest import graph_digest

            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = self._folder / (graph_digest(self._config, cell, inputs) + _ENTRY)
            room = _Room.of_process(self._folder)
            found = _read_entry(entry)
            room.fill(found)
        except OSError as error:
            self._give_up(error)
            return
        before = len(cell.compile_cache)
        with room.open():
            try:
                cell.compile(*inputs)
            except RuntimeError:
                if found is None:
                    raise
                entry.unlink(missing_ok=True)  # the call compiles it anew, or says what is wrong
        if len(cell.compile_cache) == before:  # it was compiled already
            return
        try:
            made = room.empty()
            if made is not None and made != found:
                _write_entry(entry, made)
                tidy(self._folder)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._say(
            f"note: compiled graphs are not kept ({self._folder}: {error.strerror or error}); set "
            "compile_cache to another folder, or to off"
        )
        self._folder = None


class _Room:
    """The folder in which this process's MindSpore looks for graphs, and leaves them.

    MindSpore takes the first folder that it is told for the whole process, and numbers the graphs
    that are compiled with the cache switched on.
    """

    _only: "_Room | None" = None

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_ROOM, dir=folder))
        self._graphs = self.path / "rank_0" / "graph_cache"
        self._number = 0
        self._dependencies = b""
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    @classmethod
    def of_process(cls, folder: Path) -> "_Room":
        if cls._only is None:
            # MindSpore reads the program's file: not every one can be (a program from stdin).
            try:
                _program_files()
            except Exception as error:
                raise OSError(f"the program's files cannot be read: {error}") from error
            cls._only = cls(folder)
        return cls._only

    def fill(self, content: bytes | None) -> None:
        """Hold the graph of `content` and no other, for the next compilation."""
        self._clear()
        if content is not None:
            (self._graphs / _DEPENDENCIES).write_bytes(content[:_HEX])
            (self._graphs / self._name()).write_bytes(content[_HEX:])

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Switch the cache on for what compiles inside, which is one graph."""
        ms.set_context(enable_compile_cache=True, compile_cache_path=str(self.path))
        try:
            yield
        finally:
            ms.set_context(enable_compile_cache=False)

    def empty(self) -> bytes | None:
        """Take the graph out; None when there is not exactly one."""
        made = list(self._graphs.glob("compile_cache_*.mindir"))
        dependencies = self._graphs / _DEPENDENCIES
        if dependencies.is_file():  # MindSpore writes it at the first compilation only
            self._dependencies = dependencies.read_bytes()
        content = None
        if len(made) == 1 and len(self._dependencies) == _HEX:
            content = self._dependencies + made[0].read_bytes()
        # MindSpore's own count, should the program around us have switched its cache on too.
        numbers = [int(path.stem.rpartition("_")[2]) for path in made]
        self._number = max([self._number, *numbers]) + 1
        self._clear()
        return content

    def _name(self) -> str:
        return f"compile_cache_{self._number}.mindir"

    def _clear(self) -> None:
        # The folder itself stays: MindSpore makes it once.
        self._graphs.mkdir(parents=True, exist_ok=True)
        for path in self._graphs.iterdir():
            path.unlink()


def _folder_of(config: Any) -> Path | None:
    """The cache's folder, None where there is none."""
    if config.compile_cache == OFF or config.device_target != "CPU":
        return None
    # Of several ranks each has its own graph, with the exchange in it: not tried.
    if local_adapter.get_world_size() > 1 or os.environ.get("MS_ROLE"):
        return None
    if any(name in os.environ for name in _USERS_OWN):
        return None
    if config.compile_cache != AUTO:
        return Path(os.path.abspath(os.path.expanduser(config.compile_cache)))
    cache = user_cache()
    return cache / "graphs" if cache else None


def _program_files() -> list[str]:
    """The files that MindSpore looks at, as it finds them."""
    from mindspore.graph.api import _get_compile_cache_dep_files

    return _get_compile_cache_dep_files()


def _read_entry(entry: Path) -> bytes | None:
    """What `_write_entry` wrote; None when there is nothing whole."""
    try:
        stored = entry.read_bytes()
        os.utime(entry)
    except OSError:
        return None
    checksum, content = stored[:_HEX], stored[_HEX:]
    whole = hashlib.sha256(content).hexdigest().encode() == checksum
    return content if whole and len(content) > _HEX else None


def _write_entry(entry: Path, content: bytes) -> None:
    """Write a graph under its final name, whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=_ROOM, dir=entry.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, entry)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def tidy(folder: Path) -> None:
    """Remove graphs that are too old or too many, and what killed processes left."""
    now = time.time()
    entries = [(_age_of(path, now), path) for path in folder.glob(f"*{_ENTRY}")]
    for place, (days, path) in enumerate(sorted(entries)):
        if place >= MAX_ENTRIES or days > MAX_DAYS:
            path.unlink(missing_ok=True)
    for path in folder.glob(f"{_ROOM}*"):
        if _age_of(path, now) > _ROOM_DAYS:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _age_of(path: Path, now: float) -> float:
    """Days since it was last used; of one that is gone, 0."""
    try:
        return (now - path.stat().st_mtime) / 86400
    except OSError:
        return 0.0
