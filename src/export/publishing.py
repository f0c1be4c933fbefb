# SPDX-License-Identifier: Apache-2.0
"""Puts exported files and their description in their place: all of them, or none."""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.files import remove_any, replacing, sync_folder, write_text_atomic
from .model_card import card_path, read_card


def publish(
    written: Mapping[Path, Path], card: Mapping[str, Any], model: Path, aside: Path
) -> list[str]:
    """Move models and their description to where they belong, in the place of an earlier export.

    The earlier description goes first and the new one comes last: in between there is none, so that
    nobody takes files of two exports, which may even have equal sizes, for one. After an error
    everything is as it was.

    Args:
        written: where a file belongs -> where it was written, on the same file system.
        card: what the description says.
        model: NAME.onnx, which the description is named after.
        aside: an empty folder on the same file system, for the earlier files; the caller removes
            it.

    Returns:
        Names of the earlier export's files that this one has no place for; they went with it.

    Raises:
        UserError: they cannot be written.
    """
    surplus = [path for path in _earlier(model) if path not in written]
    before: list[tuple[Path, Path | None]] = []  # a place, and where what was there is now
    try:
        for number, path in enumerate((card_path(model), *written, *surplus)):
            before.append((path, aside / str(number) if os.path.lexists(path) else None))
            if before[-1][1]:
                os.replace(path, before[-1][1])
        sync_folder(model.parent)
        for path, source in written.items():
            with replacing(path) as file:
                os.replace(source, file)
        write_text_atomic(card_path(model), json.dumps(card, indent=1, ensure_ascii=False))
    except BaseException as error:
        for path, earlier in reversed(before):
            _put_back(earlier, path)
        if isinstance(error, OSError):
            raise UserError(f"{model} cannot be written: {error.strerror}; set file_name") from None
        raise
    return [path.name for path in surplus]


def _put_back(earlier: Path | None, path: Path) -> None:
    if earlier is None:
        remove_any(path)
    elif os.path.lexists(earlier):  # else it has not been moved
        with contextlib.suppress(OSError):
            os.replace(earlier, path)


def _earlier(model: Path) -> list[Path]:
    """Files that the description in the place of the new one lists, if they have a name of ours."""
    ours = re.compile(rf"{re.escape(model.stem)}(_[0-9]+x[0-9]+)?{re.escape(model.suffix)}")
    try:
        files = read_card(card_path(model)).files
    except UserError:
        return []
    paths = [model.with_name(file.name) for file in files if ours.fullmatch(file.name)]
    return [path for path in paths if path.is_file()]
