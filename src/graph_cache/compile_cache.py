# SPDX-License-Identifier: Apache-2.0
"""Compiled graphs of earlier processes, so that a second start does not compile again.

MindSpore keeps compiled graphs by a number, the how-manieth of the process, and believes a file of
that number whatever configuration it was made with. So it gets a folder that holds nothing but the
graph that it is about to compile, found by `graph_digest`. Its own check of the program's files
comes on top. What is found is only used when this user has made it: see `graph_entries`.
"""

import atexit
import contextlib
import gc
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn
from mindspore.communication import GlobalComm

from .. import base
from ..base.files import remove_leftovers
from ..base.own_files import NotOwnError, own_folder
from ..base.user_cache import user_cache
from ..images.geometry import canvas_text
from ..model_utils import local_adapter
from ..model_utils.config import Config
from ..model_utils.cpu_operators import cpu_library
from ..model_utils.device_adapter import give_back_memory
from .graph_entries import GraphEntry, names_other_files, secret_key

AUTO, OFF = "auto", "off"
MAX_ENTRIES, MAX_DAYS = 64, 30  # of graphs, 1 to 5 MB each; the longest unused go first
_ENTRY, _SCRATCH = ".graph", "room-"
# Nothing else in the folder is touched, whatever folder the user has named.
_OURS = re.compile(r"[0-9a-f]{64}\.graph|room-[a-z0-9_]{8}").fullmatch
_SCRATCH_DAYS = 1  # what a killed process leaves
# A user who sets one of these has a cache of MindSpore's own.
_USERS_OWN = ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH")
_GRAPHS = "compile_cache_"  # and a number
_DEPENDENCIES = "compile_dependency.hash"  # of the program's files, as MindSpore finds them
_HEX = 64  # characters of a SHA-256


class CompileCache:
    """Calls Cells; their graphs come from the cache when one of the same digest is there.

    Works on CPUs. Everywhere else, with `compile_cache: off`, and where the folder cannot be used
    (said once), it only calls. On a CPU, what compiling took and left free goes back to the system
    before the first run.

    Args:
        config: uses compile_cache (auto: a folder of the user's cache; off; or a folder),
            device_target; everything else tells graphs apart.
        say: gets the one line about a folder that cannot be used.
        compiling: makes the context in which a Cell is compiled, for those who show it; gets the
            canvas where there are several, else "".

    Attributes:
        compiled: whether the last call compiled a graph.
        compilations: how many calls have.
    """

    def __init__(
        self,
        config: Config,
        say: Callable[[str], None] = print,
        compiling: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.compiled, self.compilations = False, 0
        self._config, self._say, self._compiling = config, say, compiling
        self._folder = _folder_of(config)
        self._is_usual = config.compile_cache == AUTO
        self._seen: set[tuple[object, ...]] = set()

    def __call__(self, cell: nn.Cell, *inputs: Tensor) -> Any:
        """Return `cell(*inputs)`."""
        if not isinstance(cell, nn.Cell):
            return cell(*inputs)
        # The cell itself, not its id: that of a cell which is gone may be given again.
        kind = (cell, cell.training, *((tensor.shape, tensor.dtype) for tensor in inputs))
        self.compiled = kind not in self._seen
        if not self.compiled:
            return cell(*inputs)
        self._seen.add(kind)
        self.compilations += 1
        with self._compiling(self._canvas(inputs)), _little_garbage():
            if self._config.device_target == "CPU":
                if self._folder is not None:
                    self._compile(self._folder, cell, inputs)
                cell.compile(*inputs)  # unless it is by now
                give_back_memory()
            return cell(*inputs)

    def _canvas(self, inputs: tuple[Tensor, ...]) -> str:
        """The canvas of the images among the inputs, "" where there is only one."""
        images = [tensor.shape for tensor in inputs if len(tensor.shape) == 4]
        if len(self._config.canvas_sizes) == 1 or not images:
            return ""
        _, _, height, width = images[0]
        return canvas_text((height, width))

    def _compile(self, folder: Path, cell: nn.Cell, inputs: tuple[Tensor, ...]) -> None:
        """Compile with the cache; whatever is wrong with it, the cell can be called afterwards."""
        try:
            entry = self._entry(folder, cell, inputs)
            scratch = _ScratchFolder.of_process(entry.path.parent)
            found = entry.read()
            scratch.fill(found)
        except OSError as error:
            self._give_up(error)
            return
        before = len(cell.compile_cache)
        with scratch.open():
            try:
                cell.compile(*inputs)
            except RuntimeError:
                if found is None:
                    raise
                # The call compiles it anew, or says what is wrong.
                entry.path.unlink(missing_ok=True)
        if len(cell.compile_cache) == before:  # it was compiled already
            return
        try:
            made = scratch.empty()
            if made is None or made == found:
                return
            if not names_other_files(made[_HEX:], entry.library):
                entry.write(made)
                tidy(entry.path.parent)
        except OSError as error:
            self._give_up(error)

    def _entry(self, folder: Path, cell: nn.Cell, inputs: tuple[Tensor, ...]) -> GraphEntry:
        """Where the graph belongs, in a folder that others cannot write to.

        Raises:
            OSError: there is none, or no place for the user's key.
        """
        from .graph_digest import graph_digest

        cache = user_cache()
        if cache is None:
            raise NotOwnError("there is no home folder for the key of the cache; set HOME")
        key = secret_key(cache)
        folder = own_folder(folder, cache if self._is_usual else None)
        operators = cpu_library(self._config)
        return GraphEntry(
            folder / (graph_digest(self._config, cell, inputs) + _ENTRY),
            key,
            operators.path if operators else None,
        )

    def _give_up(self, error: OSError) -> None:
        reason = f"{self._folder}: {error.strerror}" if error.strerror else error
        self._say(
            f"note: compiled graphs are not kept ({reason}); set compile_cache to another folder, "
            "or to off"
        )
        self._folder = None


class _ScratchFolder:
    """The folder in which this process's MindSpore looks for graphs, and leaves them.

    MindSpore takes the first folder that it is told for the whole process, and numbers the graphs
    that are compiled with the cache switched on.
    """

    _only: "_ScratchFolder | None" = None

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
        self._graphs = self.path / f"rank_{local_adapter.get_rank()}" / "graph_cache"
        # What a process of msrun is stands before the names of its files, once it has joined.
        self._role = os.environ.get("MS_ROLE", "") if GlobalComm.INITED else ""
        self._number = 0
        self._dependencies = b""
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    @classmethod
    def of_process(cls, folder: Path) -> "_ScratchFolder":
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
            (self._graphs / self._dependencies_name()).write_bytes(content[:_HEX])
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
        made = list(self._graphs.glob(f"*{_GRAPHS}*.mindir"))
        dependencies = self._graphs / self._dependencies_name()
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
        return f"{self._role}{_GRAPHS}{self._number}.mindir"

    def _dependencies_name(self) -> str:
        return f"{self._role}{_DEPENDENCIES}"

    def _clear(self) -> None:
        # The folder itself stays: MindSpore makes it once.
        self._graphs.mkdir(parents=True, exist_ok=True)
        for path in self._graphs.iterdir():
            path.unlink()


@contextlib.contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep Python's garbage collector away from what is there already.

    MindSpore has it go through all objects before each graph: 0.1 s, most of them of its import.
    """
    enabled, freezes = gc.isenabled(), gc.get_freeze_count() == 0
    gc.disable()
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        if freezes:
            gc.unfreeze()
        if enabled:
            gc.enable()


def _folder_of(config: Config) -> Path | None:
    """The cache's folder, None where there is none."""
    if config.compile_cache == OFF or config.device_target != "CPU":
        return None
    if any(name in os.environ for name in _USERS_OWN):
        return None
    if config.compile_cache != AUTO:
        return Path(os.path.abspath(os.path.expanduser(config.compile_cache)))
    cache = user_cache()
    return cache / "graphs" if cache else None


def _program_files() -> list[str]:
    """The files that MindSpore looks at, as it finds them."""
    from mindspore.graph import api

    if api.entry_script_path and not os.path.exists(api.entry_script_path):
        # It is the first argument, where a command's own name may stand: `faster-rcnn train`. Any
        # file will do: all of the program's are in the digest.
        api.entry_script_path = os.path.realpath(base.__file__)
    return api._get_compile_cache_dep_files()


def tidy(folder: Path) -> None:
    """Remove graphs that are too old or too many, and what killed processes left.

    Args:
        folder: of the graphs; what else is in it stays.
    """
    remove_leftovers(folder)
    now = time.time()
    ours = [path for path in folder.iterdir() if _OURS(path.name)]
    entries = [(_age_of(path, now), path) for path in ours if path.suffix == _ENTRY]
    for place, (days, path) in enumerate(sorted(entries)):
        if place >= MAX_ENTRIES or days > MAX_DAYS:
            path.unlink(missing_ok=True)
    for path in set(ours) - {path for _, path in entries}:
        if _age_of(path, now) > _SCRATCH_DAYS:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _age_of(path: Path, now: float) -> float:
    """Days since it was last used; of one that is gone, 0."""
    try:
        return (now - path.stat().st_mtime) / 86400
    except OSError:
        return 0.0
