# SPDX-License-Identifier: Apache-2.0
"""The formats of exported models: how each is written, and how it is opened again."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import UserError
from .exported_model import Model, open_mindir, open_onnx

if TYPE_CHECKING:
    from mindspore import nn

_Opened = tuple[Model, Sequence[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exported models.

    Attributes:
        ending: of its files, in small letters: MindSpore loads no other.
        write: (network, image, image_meta, name) writes the file of that name in the working
            folder.
        open: (path, threads of the CPU, 0: the library's choice) -> the model and the names of its
            inputs and outputs (empty: those that the network has here); None when it cannot be
            opened here.
        package: what opens it.
        only_on: the device on whose machines alone it can be written; empty: on all.
        target: the device that a file is for when nobody says; empty: the run's own.
        unfit: devices that no file can be for, and why.
        has_loops: whether a graph in it can hold a loop.
    """

    ending: str
    write: Callable[["nn.Cell", np.ndarray, np.ndarray, str], None]
    open: Callable[[Path, int], _Opened] | None
    package: str = "mindspore"
    only_on: str = ""
    target: str = ""
    unfit: Mapping[str, str] = field(default_factory=dict)
    has_loops: bool = True

    def runtime(self) -> str:
        """Return the name and version of what opens it here: "onnxruntime 1.32.0".

        Raises:
            UserError: it is not installed.
        """
        try:
            return f"{self.package} {importlib.import_module(self.package).__version__}"
        except ModuleNotFoundError:
            raise UserError(
                f"the package {self.package} is not installed; pip install {self.package} (of this "
                "project's package it is the extra [onnx])"
            ) from None


def _write(
    file_format: str, network: "nn.Cell", image: np.ndarray, image_meta: np.ndarray, name: str
) -> None:
    import mindspore as ms  # only now: a plan is made without it

    inputs = ms.Tensor(image), ms.Tensor(image_meta)
    ms.export(network, *inputs, file_name=name, file_format=file_format)


FORMATS = {
    "MINDIR": Format(
        ".mindir", functools.partial(_write, "MINDIR"), lambda path, _: (open_mindir(path), (), ())
    ),
    "ONNX": Format(
        ".onnx",
        functools.partial(_write, "ONNX"),
        open_onnx,
        "onnxruntime",
        target="CPU",
        unfit={"Ascend": "an Ascend graph holds a loop, which the ONNX exporter cannot write"},
        has_loops=False,
    ),
    "AIR": Format(".air", functools.partial(_write, "AIR"), None, only_on="Ascend"),
}
