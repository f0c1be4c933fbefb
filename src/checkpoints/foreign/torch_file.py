# SPDX-License-Identifier: Apache-2.0
"""What `torch.save` writes, read without PyTorch: a strict pickle, and the numbers beside it.

Since PyTorch 1.6 a zip archive of `data.pkl` and a file for every storage; before, one pickle after
the other with the storages behind them.
"""

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...base.messages import shown
from ...storage.safe_zip import DAMAGE, open_zip
from .numpy_pickle import NUMPY
from .strict_pickle import Known, NotOnlyArraysError, Pending, finished, load_pickle, run_pickle

_ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what files of the older kind begin with
_MOST_PICKLE = 64 * 2**20
_MOST_DIMENSIONS = 8
_BFLOAT16 = "bfloat16"  # the upper half of a float32
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
    "BFloat16Storage": _BFLOAT16,
}
_DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "bool",
)


def load_torch(path: Path) -> Any:
    """Return what a file of `torch.save` holds: tensors as arrays, in dicts and lists.

    bfloat16 becomes float32. An `argparse.Namespace` becomes a dict.

    Args:
        path: of either of PyTorch's two formats.

    Raises:
        NotOnlyArraysError: it holds or asks for anything else, or is damaged.
        OSError: it cannot be read.
    """
    storages = _Storages(path.stat().st_size)
    if is_zip(path):
        return _from_zip(path, storages)
    try:
        with open(path, "rb") as file:
            return _from_stream(file, storages)
    except NotOnlyArraysError:
        raise
    except DAMAGE as error:
        raise NotOnlyArraysError(f"it is damaged ({shown(error)})") from error


def is_zip(path: Path) -> bool:
    """Say whether a file begins like a zip archive.

    Args:
        path: only its first bytes are read.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(_ZIP)) == _ZIP


@dataclass(frozen=True)
class _Kind:
    """The class of a storage."""

    dtype: str

    def __call__(self, *_: Any) -> None:
        raise NotOnlyArraysError("it makes a storage of its own")

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize


@dataclass
class _Storage:
    """The numbers that tensors are views of; read after the pickle that refers to them."""

    kind: _Kind
    length: int
    content: bytes = b""

    @property
    def size(self) -> int:
        return self.length * self.kind.itemsize


@dataclass
class _Tensor(Pending):
    """A view of a storage, until that has its content."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
            raise NotOnlyArraysError("it has a tensor of an unknown layout")
        fits = len(self.shape) == len(self.strides) <= _MOST_DIMENSIONS
        steps = zip(self.shape, self.strides, strict=fits)
        last = self.offset + sum((side - 1) * stride for side, stride in steps)
        count = math.prod(self.shape)
        if not fits or (count and last >= self.storage.length):
            raise NotOnlyArraysError("it has a tensor that is larger than its storage")
        self.nbytes = count * self.storage.kind.itemsize

    def finished(self) -> np.ndarray:
        """Return the array, contiguous."""
        kind = self.storage.kind
        dtype = np.dtype("<u2" if kind.dtype == _BFLOAT16 else kind.dtype)
        if not math.prod(self.shape):
            array = np.zeros(self.shape, dtype)
        else:
            steps = [stride * dtype.itemsize for stride in self.strides]
            array = np.ndarray(
                self.shape, dtype, self.storage.content, self.offset * dtype.itemsize, steps
            )
        if kind.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(array).reshape(self.shape)


class _Storages:
    """The storages that a pickle refers to.

    Args:
        size: of the file; all storages together cannot have more bytes.
    """

    def __init__(self, size: int) -> None:
        self.by_key: dict[str, _Storage] = {}
        self.size = self.left = size

    def run(self, file: BinaryIO) -> Any:
        """Carry out the pickle of the tensors."""
        return run_pickle(file, 3 * self.size + 2**20, _TORCH, self._refer)

    def _refer(self, reference: Any) -> _Storage:
        """`("storage", class, key, device, length)`, with a view of it in old files."""
        known = isinstance(reference, tuple) and len(reference) in (5, 6)
        if not known or reference[0] != "storage" or not isinstance(reference[1], _Kind):
            raise NotOnlyArraysError("it refers to data of an unknown kind")
        _, kind, key, _, length, *view = reference
        if (
            not isinstance(key, str)
            or type(length) is not int
            or length < 0
            or view not in ([], [None])
        ):
            raise NotOnlyArraysError("it refers to data of an unknown kind")
        storage = self.by_key.get(key)
        if storage is None:
            storage = self.by_key[key] = _Storage(kind, length)
            self.left -= storage.size
        if (storage.kind, storage.length) != (kind, length) or self.left < 0:
            raise NotOnlyArraysError("it refers to more data than it has")
        return storage


def _from_zip(path: Path, storages: _Storages) -> Any:
    try:
        with open_zip(path) as archive:
            pickles = [n for n in archive.namelist() if n.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise NotOnlyArraysError("it is a zip file without one data.pkl")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist():
                order = _stored(archive, f"{folder}byteorder", 16)
                if order != b"little":
                    raise NotOnlyArraysError(f"its byte order is {shown(order)}")
            content = _stored(archive, pickles[0], _MOST_PICKLE)
            held = storages.run(io.BytesIO(content))
            for key, storage in storages.by_key.items():
                storage.content = _stored(archive, f"{folder}data/{key}", storage.size)
                _require_size(storage)
            return finished(held)
    except NotOnlyArraysError:
        raise
    except DAMAGE as error:
        raise NotOnlyArraysError(f"it is no whole zip file ({shown(error)})") from error


def _stored(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, as PyTorch writes it: not compressed."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise NotOnlyArraysError(f"its {shown(name)} is compressed")
    if entry.file_size > most:
        raise NotOnlyArraysError(f"its {shown(name)} has {entry.file_size} bytes")
    return archive.read(entry)


def _require_size(storage: _Storage) -> None:
    if len(storage.content) != storage.size:
        raise NotOnlyArraysError("it has less data than it refers to")


def _from_stream(file: BinaryIO, storages: _Storages) -> Any:
    if [run_pickle(file, 0, {}) for _ in range(2)] != [_MAGIC, _PROTOCOL]:
        raise NotOnlyArraysError("it is no file of torch.save")
    load_pickle(file, 0, {})  # about the machine that wrote it
    held = storages.run(file)
    keys = load_pickle(file, 0, {})
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or sorted(keys) != sorted(storages.by_key):
        raise NotOnlyArraysError("it names other storages than it refers to")
    for key in keys:
        storage = storages.by_key[key]
        if int.from_bytes(file.read(8), "little") != storage.length:
            raise NotOnlyArraysError("it has less data than it refers to")
        storage.content = file.read(storage.size)
        _require_size(storage)
    return finished(held)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple | list):
        raise NotOnlyArraysError("it has a tensor without its numbers")
    if not isinstance(strides, tuple | list):
        raise NotOnlyArraysError("it has a tensor of an unknown layout")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise NotOnlyArraysError("it has a parameter that is no tensor")
    return tensor


def _size(sides: Any = ()) -> tuple:
    """Stands for `torch.Size`."""
    if not isinstance(sides, tuple | list):
        raise NotOnlyArraysError("it has a shape of an unknown layout")
    return tuple(sides)


def _device(kind: Any = "", number: Any = None) -> str:
    """Stands for `torch.device`."""
    return shown(kind) if number is None else f"{shown(kind)}:{shown(number)}"


_TORCH: Known = {
    **NUMPY,
    **{("torch", name): name for name in _DTYPES},
    ("torch", "device"): _device,
    **{("torch", name): _Kind(dtype) for name, dtype in _STORAGES.items()},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
}
