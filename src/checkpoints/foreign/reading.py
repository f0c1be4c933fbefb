# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoint files of four formats into NumPy arrays, without running what is in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...base.digests import file_digest
from ...base.errors import UserError
from ...base.foreign_files import require_regular
from ...base.messages import is_plain, shown
from ..families import FOREIGN_SUFFIXES
from .numpy_pickle import load_arrays
from .strict_pickle import NotOnlyArraysError
from .torch_file import is_zip, load_torch

KEY = "--ckpt_file"
SUFFIXES = (".ckpt", *FOREIGN_SUFFIXES)
MOST_BYTES = 2**31  # of a file; a ResNet-152 detector with Adam's state has 0.9 GB
_MOST_PARAMETERS = 100_000
_LARGEST_HEADER = 16 * 2**20  # of a .safetensors file; a detector's has 40 kB
_NESTED = ("state_dict", "model", "model_state_dict", "blobs")
_SAFE_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


@dataclass
class Source:
    """A checkpoint file as it is.

    Attributes:
        path: the file.
        arrays: name -> array; every floating type as float32.
        extra: what the file holds beside the parameters, such as an author.
        meta: what a checkpoint of this project says about itself; else empty.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    extra: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def sha256(self) -> str:
        """Return the file's SHA-256 in hexadecimal."""
        return file_digest(self.path)


def require_source(path: str | Path) -> Path:
    """Check, without reading it, that a path can be a checkpoint of a known format.

    Args:
        path: what the user has given.

    Raises:
        UserError: when it cannot.
    """
    path = Path(path)
    size = require_regular(path, KEY, "checkpoint")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: not a {', '.join(SUFFIXES)} file; set {KEY} to one")
    if size > MOST_BYTES and path.suffix != ".ckpt":
        raise UserError(
            f"{path}: has {size} bytes, more than {MOST_BYTES}; save the weights alone, without "
            "the optimizer's state"
        )
    return path


def read_source(path: str | Path) -> Source:
    """Read a checkpoint: MindSpore .ckpt, PyTorch .pth/.pt, .safetensors, or a .pkl of arrays.

    Args:
        path: its suffix says which format it is.

    Raises:
        UserError: no such file, another format, a damaged file, a pickle of more than arrays,
            names that are no text.
    """
    path = require_source(path)
    try:
        if path.suffix == ".safetensors":
            source = _read_safetensors(path)
        elif path.suffix == ".pkl":
            source = _read_pickle(path)
        elif path.suffix == ".ckpt" and not is_zip(path):
            from ..file import read_checkpoint  # only now: it imports MindSpore

            checkpoint = read_checkpoint(path, KEY)
            source = Source(path, checkpoint.arrays, meta=checkpoint.meta)
        else:
            source = _read_torch(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not source.arrays:
        raise UserError(f"{path}: holds no parameters; set {KEY} to another checkpoint")
    _check_parameters(source)
    for name in source.arrays:  # one after the other: the old array goes
        source.arrays[name] = _as_float32(source.arrays[name])
    for name, array in source.arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; set {KEY} to another checkpoint"
            )
    if all(name.startswith("module.") for name in source.arrays):  # of DataParallel
        source.arrays = {n.removeprefix("module."): a for n, a in source.arrays.items()}
    return source


def _check_parameters(source: Source) -> None:
    """Refuse names that are no names, and one array under so many that they fill the memory."""
    path, arrays = source.path, source.arrays
    if len(arrays) > _MOST_PARAMETERS:
        raise UserError(f"{path}: holds {len(arrays)} parameters; set {KEY} to another checkpoint")
    strange = next((name for name in arrays if not is_plain(name)), None)
    if strange is not None:
        raise UserError(
            f"{path}: a parameter's name is no plain text ({shown(strange)}); set {KEY} to another "
            "checkpoint"
        )
    needed = sum(array.size * max(array.itemsize, 4) for array in arrays.values())
    if needed > 4 * path.stat().st_size + 2**26:
        raise UserError(
            f"{path}: its parameters would take {needed} bytes, far more than the file has; set "
            f"{KEY} to another checkpoint"
        )


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _read_safetensors(path: Path) -> Source:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise UserError(f"{path}: needs the package; run `pip install safetensors`") from None
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    try:
        if header > _LARGEST_HEADER:
            raise ValueError(f"a header of {header} bytes")
        return Source(path, {n: _from_entry(path, n, e) for n, e in deserialize(path.read_bytes())})
    except (SafetensorError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: not a .safetensors file, or a damaged one ({shown(error)}); set {KEY} to "
            "another checkpoint"
        ) from None


def _from_entry(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    kind = entry["dtype"]
    if kind not in _SAFE_TYPES:
        raise UserError(f"{path}: {shown(name)} is of type {shown(kind)}; save it as F32")
    array = np.frombuffer(entry["data"], _SAFE_TYPES[kind]).reshape(entry["shape"])
    if kind == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _read_pickle(path: Path) -> Source:
    try:
        return _from_dict(path, load_arrays(path.read_bytes()))
    except NotOnlyArraysError as error:
        raise UserError(
            f"{path}: not a pickle of NumPy arrays alone, so it is not opened: {error}; set {KEY} "
            "to a detectron2 model zoo file, or save the weights as .safetensors"
        ) from None


def _read_torch(path: Path) -> Source:
    try:
        return _from_dict(path, load_torch(path))
    except NotOnlyArraysError as error:
        raise UserError(
            f"{path}: not a PyTorch file of tensors and plain values alone, so it is not opened: "
            f"{error}; where the file is trusted, save its state_dict alone with torch.save or as "
            ".safetensors"
        ) from None


def _from_dict(path: Path, loaded: Any) -> Source:
    """The parameters in the file's outer dict, or in the one that usually holds them."""
    if isinstance(loaded, Mapping):
        nested = next((k for k in _NESTED if isinstance(loaded.get(k), Mapping)), None)
        weights = loaded[nested] if nested else loaded
        extra = {k: v for k, v in loaded.items() if k != nested} if nested else {}
        arrays = {str(k): v for k, v in weights.items() if isinstance(v, np.ndarray)}
        others = {k: v for k, v in weights.items() if not isinstance(v, np.ndarray)}
        return Source(path, arrays, {**others, **extra})
    raise UserError(f"{path}: holds a {type(loaded).__name__}, not a state_dict; save one")
