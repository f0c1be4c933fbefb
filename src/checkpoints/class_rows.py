# SPDX-License-Identifier: Apache-2.0
"""A box head's outputs for the classes of one detector, put where another one has them.

A head scores [background, outputs of no class, classes] and gives each class four box deltas. Two
detectors that name their classes share the rows of those that both have, wherever these stand.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.messages import short_list

SCORES, _DELTAS = "rcnn.cls_scores.", "rcnn.reg_scores."
_SHOWN = 10  # names of classes in a line


@dataclass(frozen=True)
class HeadClasses:
    """What the outputs of a box head are of.

    Attributes:
        names: of the classes, without the background, in the order of the outputs.
        unused: scores between the background's and the first class's that belong to no class.
        class_agnostic: one box for all classes.
    """

    names: tuple[str, ...]
    unused: int = 0
    class_agnostic: bool = False

    @classmethod
    def described(cls, model: Mapping[str, Any]) -> "HeadClasses | None":
        """Return what a description of a model says, None where it names no classes.

        Args:
            model: `describe_model` of a configuration, or the meta of a checkpoint.
        """
        names = model.get("class_names")
        if not names:
            return None
        return cls(
            tuple(names), model.get("unused_outputs", 0), model.get("rcnn_class_agnostic", False)
        )

    @property
    def outputs(self) -> int:
        """The number of scores."""
        return 1 + self.unused + len(self.names)


def same_classes(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Return {place in `new`: place in `old`} of the classes that both have.

    Spaces around a name and capitals do not count. Where they alone tell two classes of one list
    apart, a name has to be the same letter for letter.

    >>> same_classes(["RBC", "WBC", "Platelets"], ["wbc", "dust", "Platelets "])
    {0: 1, 2: 2}

    Args:
        old, new: names, each once.
    """
    folded = [Counter(_folded(name) for name in names) for names in (old, new)]
    ambiguous = {name for counts in folded for name, count in counts.items() if count > 1}

    def key(name: str) -> tuple[str, str]:
        plain = _folded(name)
        return plain, name if plain in ambiguous else ""

    places = {key(name): place for place, name in enumerate(old)}
    return {here: places[key(name)] for here, name in enumerate(new) if key(name) in places}


def _folded(name: str) -> str:
    return name.strip().casefold()


class ClassRows:
    """Takes the outputs of shared classes from a detector's head to another's.

    Args:
        old: what the file's outputs are of.
        new: what the network's are of.
    """

    def __init__(self, old: HeadClasses, new: HeadClasses) -> None:
        self.old, self.new = old, new
        self.shared = same_classes(old.names, new.names)

    @property
    def as_they_are(self) -> bool:
        """Whether both heads have the same outputs in the same order."""
        kept = self.shared == {place: place for place in range(len(self.old.names))}
        return kept and self.old.outputs == self.new.outputs

    def take(self, name: str, array: np.ndarray, fresh: np.ndarray) -> np.ndarray | None:
        """Return `fresh` with the rows of shared classes, and the background's, from the file.

        Args:
            name: of a parameter.
            array: the file's, (..., outputs).
            fresh: the network's, (..., outputs), whose other rows are kept.

        Returns:
            None where the parameter has no rows of classes, or those of another head: not as many
            as there are classes, or with other features before them.
        """
        widths, places = self._rows(name)
        if not widths or array.ndim == 0 or array.shape[:-1] != fresh.shape[:-1]:
            return None
        if (array.shape[-1], fresh.shape[-1]) != widths:
            return None
        taken = fresh.astype(array.dtype)
        taken[..., list(places)] = array[..., list(places.values())]
        return taken

    def _rows(self, name: str) -> tuple[tuple[int, ...], dict[int, int]]:
        """The outputs of the file's parameter and of ours, and {our output: the file's}."""
        old, new = self.old, self.new
        if name.startswith(SCORES):
            kept = min(old.unused, new.unused)
            places = {0: 0} | {new.unused - n: old.unused - n for n in range(kept)}
            places |= {1 + new.unused + n: 1 + old.unused + o for n, o in self.shared.items()}
            return (old.outputs, new.outputs), places
        if name.startswith(_DELTAS) and not (old.class_agnostic or new.class_agnostic):
            places = {4 * n + i: 4 * o + i for n, o in self.shared.items() for i in range(4)}
            return (4 * len(old.names), 4 * len(new.names)), places
        return (), {}

    def line(self) -> str:
        """Return for people which classes' rows were taken, and which start fresh."""
        names = self.new.names
        taken = [name for place, name in enumerate(names) if place in self.shared]
        fresh = [name for place, name in enumerate(names) if place not in self.shared]
        text = f"{len(taken)} of {len(names)} from the file by name"
        text += f": {short_list(taken, _SHOWN)}" if taken else ", only its background"
        return f"classes: {text}" + (f"; start fresh: {short_list(fresh, _SHOWN)}" if fresh else "")
