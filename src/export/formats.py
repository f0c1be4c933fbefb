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
from ..base.program import install_command
from ..images.ops import InputFormat
from .exported_model import Model, open_mindir, open_onnx
from .onnx_form import OnnxForm

if TYPE_CHECKING:
    from mindspore import nn

_Opened = tuple[Model, Sequence[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exported models.

    Attributes:
        ending: of its files, in small letters: MindSpore loads no other.
        write: (network, image, image_meta, name, form, picture) writes the file of that name in the
            working folder; `picture` says how image files become inputs.
        open: (path, threads of the CPU, 0: the library's choice) -> the model and the names of its
            inputs and outputs (empty: those that the network has here); None when it cannot be
            opened here.
        package: what opens it.
        only_on: the device on whose machines alone it can be written; empty: on all.
        target: the device that a file is for when nobody says; empty: the run's own.
        unfit: devices that no file can be for, and why.
        needs: packages that it is written with.
        most_rounds: of Soft-NMS, where they stand one after the other in the file; 0: any number.
    """

    ending: str
    write: Callable[["nn.Cell", np.ndarray, np.ndarray, str, OnnxForm, InputFormat], None]
    open: Callable[[Path, int], _Opened] | None
    package: str = "mindspore"
    only_on: str = ""
    target: str = ""
    unfit: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    most_rounds: int = 0

    def runtime(self) -> str:
        """Return the name and version of what opens it here: "onnxruntime 1.32.0".

        Raises:
            UserError: it is not installed.
        """
        try:
            return f"{self.package} {importlib.import_module(self.package).__version__}"
        except ModuleNotFoundError:
            raise UserError(missing(self.package)) from None


def missing(package: str) -> str:
    """Return what to say of an optional package that is not installed.

    Args:
        package: its name.
    """
    return f"the package {package} is not installed: {install_command('onnx')}"


def _write(
    file_format: str,
    network: "nn.Cell",
    image: np.ndarray,
    image_meta: np.ndarray,
    name: str,
    form: OnnxForm,
    picture: InputFormat,
) -> None:
    import mindspore as ms  # only now: a plan is made without it

    inputs = ms.Tensor(image), ms.Tensor(image_meta)
    ms.export(network, *inputs, file_name=name, file_format=file_format)


def _write_onnx(
    network: "nn.Cell",
    image: np.ndarray,
    image_meta: np.ndarray,
    name: str,
    form: OnnxForm,
    picture: InputFormat,
) -> None:
    from ..FasterRcnn.faster_rcnn_resnet import FasterRcnn

    if isinstance(network, FasterRcnn):
        from .onnx_graph.writing import write_detector

        batch, _, height, width = image.shape
        write_detector(network, (height, width), batch, Path(name), form, picture)
    else:  # some other Cell with a detector's outputs
        _write("ONNX", network, image, image_meta, name, form, picture)


FORMATS = {
    "MINDIR": Format(
        ".mindir", functools.partial(_write, "MINDIR"), lambda path, _: (open_mindir(path), (), ())
    ),
    "ONNX": Format(
        ".onnx",
        _write_onnx,
        open_onnx,
        "onnxruntime",
        target="CPU",
        unfit={"Ascend": "an ONNX file is the same for all devices, and float32"},
        needs=("onnx",),
        most_rounds=300,  # thirty operators each
    ),
    "AIR": Format(".air", functools.partial(_write, "AIR"), None, only_on="Ascend"),
}
