# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints of a run there are, and which of them stay."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.files import write_text_atomic
from ..base.foreign_files import is_regular_file, read_json
from ..base.line_log import unwritable
from ..checkpoints.names import checkpoint_position

_LARGEST_INDEX = 1 << 22  # bytes; a hundred thousand names


class CheckpointKeeper:
    """Remembers this run's checkpoints in a folder and deletes those that are not to be kept.

    The names stand in `checkpoints.json`, oldest first, so that a later run in the same folder
    never counts, deletes or resumes from what another run left there.

    Of the checkpoints that end an epoch the newest `keep` stay. One from within an epoch stays
    until the next checkpoint is there, and takes the place of none.

    Args:
        folder: made when it is missing.
        keep: how many stay.
        resume: continue the list that is there instead of starting a new one.
        say: told what is wrong with that list.

    Raises:
        UserError: when the folder cannot be made.
    """

    INDEX = "checkpoints.json"

    def __init__(
        self,
        folder: str | Path,
        keep: int,
        *,
        resume: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.folder, self.keep = Path(folder), keep
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        self.names = (self.read_index(self.folder, say) or []) if resume else []
        self.within = _names(_read(self.folder), "within_epoch") if resume else []

    @classmethod
    def read_index(
        cls, folder: str | Path, say: Callable[[str], None] | None = None
    ) -> list[str] | None:
        """Return the listed names whose files exist, oldest first; None without a usable list.

        The list may be somebody else's: only names of checkpoints in this very folder are taken.

        Args:
            folder: where the checkpoints are; may be missing.
            say: told of entries that are passed over.
        """
        content = _read(folder)
        listed = content.get("checkpoints")
        if not isinstance(listed, list):
            return None
        names = _names(content, "checkpoints")
        strange = len(listed) - len(names)
        if strange and not names:
            return None
        if strange and say:
            say(
                f"note: {Path(folder) / cls.INDEX}: {strange} of its {len(listed)} entries are no "
                "names of this run's checkpoints and are passed over"
            )
        return [name for name in names if _is_inside(Path(folder), name)]

    def write_index(self) -> None:
        """Write the list; a new run begins with it, so that nothing older is ever resumed from.

        Raises:
            UserError: it cannot be written.
        """
        content = {"checkpoints": self.names}
        if self.within:
            content["within_epoch"] = self.within
        try:
            write_text_atomic(self.folder / self.INDEX, json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise unwritable(self.folder / self.INDEX, error) from error

    def path(self, name: str) -> Path:
        """Return where a checkpoint of that name belongs.

        Args:
            name: of `checkpoint_name`.
        """
        return self.folder / name

    def added(self, name: str, *, within_epoch: bool = False) -> None:
        """Take a checkpoint, already written under `path(name)`, as the newest one.

        Args:
            name: its file's name.
            within_epoch: whether it is from within an epoch.

        Raises:
            UserError: the list cannot be written; nothing has been deleted then.
        """
        listed = [old for old in self.names if old != name]
        ends = [old for old in listed if old not in self.within]
        if not within_epoch:
            ends.append(name)
        stay = {name, *ends[-self.keep :]}
        surplus = [old for old in listed if old not in stay]
        before = listed + [name], self.within
        # Those that somebody has removed are not listed any more.
        self.names = [old for old in before[0] if old in stay and self.path(old).exists()]
        self.within = [name] if within_epoch else []
        # First the list, then the files: a kill in between leaves a file too many, never one too
        # few.
        try:
            self.write_index()
        except UserError:
            self.names, self.within = before[0], [*before[1], *self.within]
            raise
        for old in surplus:
            if _is_inside(self.folder, old):
                with contextlib.suppress(OSError):
                    self.path(old).unlink()


def _read(folder: str | Path) -> dict[str, Any]:
    """The list of a folder; empty where there is none that can be read."""
    path = Path(folder) / CheckpointKeeper.INDEX
    try:
        content = read_json(path, _LARGEST_INDEX)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _names(content: dict[str, Any], key: str) -> list[str]:
    """The entries of a list that are names of checkpoints, each once."""
    listed = content.get(key)
    listed = listed if isinstance(listed, list) else []
    return list(dict.fromkeys(n for n in listed if isinstance(n, str) and checkpoint_position(n)))


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name is a file of the folder, and no link that leads out of it."""
    path = folder / name
    return is_regular_file(path) and os.path.dirname(os.path.realpath(path)) == os.path.realpath(
        folder
    )
