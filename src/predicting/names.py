# SPDX-License-Identifier: Apache-2.0
"""Where results go: names that are unique, and no input's."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..base.errors import UserError

PREDICTIONS, COCO, CSV, CLASSES = (
    "predictions.json",
    "predictions_coco.json",
    "predictions.csv",
    "classes.txt",
)
LABELS, CROPS = "labels", "crops"  # folders
_LONGEST_STEM = 200  # bytes; file systems take 255, and a number or an ending may follow
_LONGEST_CLASS = 80  # characters


def unique_stems(stems: Iterable[str]) -> list[str]:
    """Return names for results without their endings: the inputs' own, made unique.

    Args:
        stems: names of pictures or videos without their endings.
    """
    taken: Counter[str] = Counter()
    names = []
    for given in stems:
        stem = given[:_LONGEST_STEM]
        while os.fsencode(stem)[_LONGEST_STEM:]:  # whole characters
            stem = stem[:-1]
        name = stem
        while name in taken:
            taken[stem] += 1
            name = f"{stem}_{taken[stem]}"
        taken[name] += 1
        names.append(name)
    return names


def class_folders(class_names: Sequence[str]) -> dict[str, str]:
    """Return a folder's name for each class: a checkpoint may bring any names.

    Args:
        class_names: of labels 1..C.
    """
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for number, name in enumerate(class_names, 1):
        safe = re.sub(r"[^\w -]", "_", name).strip()[:_LONGEST_CLASS]
        while os.fsencode(safe)[_LONGEST_STEM:]:
            safe = safe[:-1]
        if not safe or safe in taken:
            safe = f"{safe}_{number}"
        folders[name] = safe
        taken.add(safe)
    return folders


def refuse_to_overwrite(inputs: Sequence[Path], names: Iterable[str], output: Path) -> None:
    """Make sure that no result goes where an input is.

    Args:
        inputs: pictures and videos.
        names: of all files that results may be written to in `output`; those in the folders
            `LABELS` and `CROPS` come on top.
        output: the folder of the results; need not exist.

    Raises:
        UserError: one would, or `output` cannot be looked at.
    """
    try:
        # Not `resolve`: an image may be a link to itself, which is said when it is opened.
        images = {Path(os.path.realpath(path)): path for path in inputs}
        targets = {(output / name).resolve(): output / name for name in names}
        folders = [(output / name).resolve() for name in (LABELS, CROPS)]
        for real, given in images.items():
            inner = next((folder for folder in folders if real.is_relative_to(folder)), None)
            target = targets.get(real) or (inner and given)
            if target is not None:
                raise UserError(
                    f"--output_dir {output}: {target} would overwrite the image {given}; "
                    "choose another folder"
                )
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--output_dir {output}: {reason}") from error
