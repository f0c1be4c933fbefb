# SPDX-License-Identifier: Apache-2.0
"""The classes of a foreign box head, and its weights in this project's order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...base.errors import UserError
from ...base.messages import short_list
from ..families import COCO_IDS, COCO_NAMES, COCO_OUTPUTS
from .conversion import ConversionOptions


@dataclass(frozen=True)
class ClassPicker:
    """Which outputs of a box head become which classes.

    Attributes:
        names: the classes, without the background, in our order.
        outputs: the file's output of each of them.
        background: the file's output of the background.
        total: the file's outputs.
        background_deltas: whether the file has box deltas for the background.
        origin: where the names are from, for people.
    """

    names: tuple[str, ...]
    outputs: tuple[int, ...]
    background: int
    total: int
    background_deltas: bool
    origin: str

    def scores(self, array: np.ndarray) -> np.ndarray:
        """Put a classifier's outputs in order: the background, the unused ones, the classes.

        Another length stays as it is.

        Args:
            array: (outputs, ...), weight or bias of the file.
        """
        if array.ndim == 0 or len(array) != self.total:
            return array
        return array[[self.background, *self.unused, *self.outputs]]

    def deltas(self, array: np.ndarray) -> np.ndarray:
        """Return the box deltas of the classes, (C * 4, ...); a wrong length stays as it is.

        Args:
            array: (outputs * 4, ...), weight or bias of the file.
        """
        places = self.total if self.background_deltas else self.total - 1
        if array.ndim == 0 or len(array) != 4 * places:
            return array
        shift = 1 if not self.background_deltas and self.background == 0 else 0
        rows = [4 * (output - shift) + side for output in self.outputs for side in range(4)]
        return array[rows]

    @property
    def unused(self) -> tuple[int, ...]:
        """The file's outputs of no class of ours: kept, as the softmax goes over them too."""
        used = {self.background, *self.outputs}
        return tuple(output for output in range(self.total) if output not in used)


def pick_classes(
    path: Path,
    total: int,
    options: ConversionOptions,
    *,
    background_first: bool,
    background_deltas: bool,
    stored_names: Sequence[str] | None = None,
) -> ClassPicker:
    """Find the outputs of the wanted classes.

    Args:
        path: the file, for errors.
        total: outputs of the box head's classifier, the background included.
        options: has the classes that the user has given.
        background_first: or last.
        background_deltas: whether there are box deltas for the background.
        stored_names: the classes, when the file names them.

    Raises:
        UserError: the number of outputs and the classes do not fit.
    """
    first = 1 if background_first else 0
    known, origin = _known(total, first, stored_names)
    names = options.class_names
    if known and set(names) <= known.keys():
        outputs = tuple(known[name] for name in names)
    elif options.names_given:
        if len(names) != total - 1:
            raise UserError(
                f"{path}: has {total} outputs, the background included, but coco_classes gives "
                f"{len(names)} classes ({short_list(names)}); give the {total - 1} names in the "
                "file's order"
            )
        outputs, origin = tuple(range(first, first + len(names))), "as given, in the file's order"
    elif known:
        names, outputs = tuple(known), tuple(known.values())
    else:
        raise UserError(
            f"{path}: has {total - 1} classes whose names it does not hold; give them in its order "
            "with --coco_classes NAME NAME ..."
        )
    background = 0 if background_first else total - 1
    return ClassPicker(names, outputs, background, total, background_deltas, origin)


def _known(
    total: int, first: int, stored_names: Sequence[str] | None
) -> tuple[dict[str, int], str]:
    """Class name -> output where the file or its number of outputs tells; and which of the two."""
    if stored_names and len(stored_names) == total - 1:
        return {name: first + n for n, name in enumerate(stored_names)}, "named in the file"
    if total == COCO_OUTPUTS and first == 1:
        return dict(COCO_IDS), "COCO's, at their category ids"
    if total == len(COCO_NAMES) + 1:
        return {name: first + n for n, name in enumerate(COCO_NAMES)}, "COCO's 80 in their order"
    return {}, ""
