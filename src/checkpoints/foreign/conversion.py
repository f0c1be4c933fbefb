# SPDX-License-Identifier: Apache-2.0
"""One conversion while it is made: every parameter is accounted for, or it is an error."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...base.errors import UserError
from ...base.messages import counted, short_list
from ...FasterRcnn.names import BACKBONES
from ..backbones import (
    BackboneForm,
    backbone_named,
    form_of_plan,
    form_of_shapes,
    known_titles,
    title_of,
)
from .parameters import Shapes
from .reading import Source

# BatchNorm's counters of steps, which nothing here reads.
COUNTERS = re.compile(r".*\.num_batches_tracked").fullmatch


@dataclass(frozen=True)
class ConversionOptions:
    """What the user has asked for.

    Attributes:
        class_names: the configuration's, without the background.
        names_given: whether the user gave them, or they are the defaults.
        style: "torch", "caffe", or None where the file is to tell.
        settings: configuration keys given on the command line; they override everything.
    """

    class_names: tuple[str, ...]
    names_given: bool = False
    style: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """Where a parameter comes from."""

    source: str
    target: str
    shape: tuple[int, ...]
    note: str = ""


@dataclass
class Conversion:
    """Parameters under this project's names, and everything a reader should know about them.

    Attributes:
        source: the file.
        kind: what it is, for people.
        arrays: our name -> float32 array.
        rows: one for each of them.
        dropped: (names, why) that are left out on purpose.
        settings: configuration key -> value that belongs to the weights.
        class_names: without the background; None for a backbone.
        assumed: what the file does not say.
    """

    source: Source
    kind: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    dropped: list[tuple[list[str], str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    assumed: list[str] = field(default_factory=list)

    def drop(self, names: list[str], why: str) -> None:
        """Note what is left out on purpose.

        Args:
            names: in the file; there may be none.
            why: for people.
        """
        if names:
            self.dropped.append((names, why))


class ParameterPool:
    """Takes parameters out of a file one by one and knows what is left.

    Args:
        source: the file.
        name_in_file: our name -> the file's.
        spelling: another spelling of a name in the file -> the one that `name_in_file` gives.
    """

    def __init__(
        self,
        source: Source,
        name_in_file: Callable[[str], str],
        spelling: Callable[[str], str] = str,
    ) -> None:
        self.path = source.path
        self.name_in_file = name_in_file
        self.left: dict[str, str] = {}
        for name in source.arrays:
            if self.left.setdefault(spelling(name), name) != name:
                raise UserError(f"{source.path}: holds {spelling(name)} under two names")
        self.arrays = source.arrays

    def has(self, ours: str) -> bool:
        """Return whether the file has our parameter and nobody has taken it.

        Args:
            ours: our name of it.
        """
        return self.name_in_file(ours) in self.left

    def look(self, ours: str) -> np.ndarray:
        """Return the file's array of our parameter, which stays to be taken.

        Args:
            ours: our name of it.
        """
        name = self.name_in_file(ours)
        if name not in self.left:
            raise UserError(f"{self.path}: has no {name}, which becomes {ours}; is the file whole?")
        return self.arrays[self.left[name]]

    def drop(self, matches: Callable[[str], object]) -> list[str]:
        """Take all names that `matches` is true of; return them as the file spells them.

        Args:
            matches: name in the spelling of `name_in_file` -> whether to take it, as truth.
        """
        found = [name for name in self.left if matches(name)]
        return [self.left.pop(name) for name in found]

    def take_all(
        self,
        shapes: Shapes,
        fit: Callable[[str, np.ndarray], np.ndarray] = lambda _, array: array,
        notes: Callable[[str], str] = lambda _: "",
    ) -> tuple[dict[str, np.ndarray], list[Row]]:
        """Take every parameter of `shapes`; nothing may be missing, of another shape or left over.

        Args:
            shapes: our name -> shape.
            fit: (our name, the file's array) -> ours.
            notes: our name -> a remark for the table.

        Raises:
            UserError: otherwise; names what does not fit.
        """
        missing = [name for name in shapes if not self.has(name)]
        if missing:
            raise UserError(
                f"{self.path}: {counted(len(missing), 'parameter is', 'parameters are')} missing "
                "(the first is "
                f"{self.name_in_file(missing[0])}, which becomes {missing[0]}); nothing is written"
            )
        arrays, rows = {}, []
        for name, shape in shapes.items():
            array = np.ascontiguousarray(fit(name, self.look(name)))
            original = self.left.pop(self.name_in_file(name))
            if array.shape != shape or array.dtype != np.float32:
                raise UserError(
                    f"{self.path}: {original} is {self.arrays[original].shape} "
                    f"{self.arrays[original].dtype}, and {name} would have to become {shape} of "
                    "floating point; only a known backbone with the standard heads "
                    "(256 channels, 3 anchors, 1024 hidden) can be converted"
                )
            arrays[name] = array
            rows.append(Row(original, name, shape, notes(name)))
        if self.left:
            raise UserError(
                f"{self.path}: {counted(len(self.left), 'parameter has', 'parameters have')} no "
                "place in this project's network "
                f"({short_list(list(self.left.values()))}); nothing is written"
            )
        return arrays, rows


def read_form(pool: ParameterPool) -> BackboneForm:
    """Return what tells the file's backbone from others.

    Args:
        pool: the file's parameters; none is taken.

    Raises:
        UserError: it is none of `names.BACKBONES`.
    """
    form = form_of_shapes(lambda name: pool.look(name).shape if pool.has(name) else None)
    if form is None or title_of(form) is None:
        found = f"has {form}" if form else "is no ResNet"
        raise UserError(
            f"{pool.path}: its backbone {found}; what can be converted is "
            f"{', '.join(known_titles())}"
        )
    return form


def choose_backbone(pool: ParameterPool, style: str, options: ConversionOptions) -> str:
    """Return the configuration's name of the file's backbone.

    Args:
        pool: the file's parameters; none is taken.
        style: "torch" (stride in the 3x3 convolution) or "caffe" (in the first 1x1).
        options: has the backbone that the user has given, if any.

    Raises:
        UserError: there is none, or the user's does not fit.
    """
    form = read_form(pool)
    given = options.settings.get("backbone")
    if given:
        if form_of_plan(BACKBONES[given]) != form:
            raise UserError(
                f"command line: backbone: {given} does not fit {pool.path}, which holds a "
                f"{title_of(form)}; leave --backbone out"
            )
        return given
    name = backbone_named(form, style)
    if name is None:
        raise UserError(
            f"{pool.path}: a {title_of(form)} with the stride in the first 1x1 convolution "
            "(Caffe2's weights), which is no backbone here; if its stride is in the 3x3, give "
            "--style torch"
        )
    return name


def group_names(names: Sequence[str]) -> str:
    """Return names as one short text: the last part and how many of them.

    Args:
        names: of parameters, with points.
    """
    endings = Counter(name.rpartition(".")[2] for name in names)
    if len(names) <= 3:
        return ", ".join(names)
    return ", ".join(f"*.{ending} ({number})" for ending, number in endings.most_common(3))
