# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoint files of four formats into NumPy arrays, without running what is in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.checkpoint_families import FOREIGN_SUFFIXES
from src.checkpoint_formats.numpy_pickle import NotOnlyArraysError, load_arrays
from src.data_source import file_digest
from src.errors import UserError

KEY = "--ckpt_file"
SUFFIXES = (".ckpt", *FOREIGN_SUFFIXES)
NO_TORCH = (
    "needs PyTorch, which is not installed; run `pip install torch` (its CPU build will do), or "
    "use a .safetensors file"
)

_ZIP = b"PK\x03\x04"  # what torch.save writes
_NESTED = ("state_dict", "model", "model_state_dict", "blobs")
_SAFE_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


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
        return file_digest(str(self.path))


def require_source(path: str | Path) -> Path:
    """Check, without reading it, that a path can be a checkpoint of a known format.

    Raises:
        UserError: when it cannot.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{path}: {reason}; set {KEY} to a checkpoint") from None
    if path.is_dir():
        raise UserError(f"{path}: a folder; set {KEY} to a checkpoint file in it")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: not a {', '.join(SUFFIXES)} file; set {KEY} to one")
    if size == 0:
        raise UserError(f"{path}: an empty file; set {KEY} to another checkpoint")
    return path


def read_source(path: str | Path) -> Source:
    """Read a checkpoint: MindSpore .ckpt, PyTorch .pth/.pt, .safetensors, or a .pkl of arrays.

    Raises:
        UserError: no such file, another format, a damaged file, a pickle of more than arrays, or
            PyTorch is needed and missing.
    """
    path = require_source(path)
    try:
        if path.suffix == ".safetensors":
            source = _read_safetensors(path)
        elif path.suffix == ".pkl":
            source = _read_pickle(path)
        elif path.suffix == ".ckpt" and not _is_zip(path):
            from src.checkpoint import (  # only now: it imports MindSpore
                read_checkpoint,
            )

            checkpoint = read_checkpoint(path, KEY)
            source = Source(path, checkpoint.arrays, meta=checkpoint.meta)
        else:
            source = _read_torch(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not source.arrays:
        raise UserError(f"{path}: holds no parameters; set {KEY} to another checkpoint")
    source.arrays = {name: _as_float32(array) for name, array in source.arrays.items()}
    for name, array in source.arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; set {KEY} to another checkpoint"
            )
    if all(name.startswith("module.") for name in source.arrays):  # of DataParallel
        source.arrays = {n.removeprefix("module."): a for n, a in source.arrays.items()}
    return source


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _read_safetensors(path: Path) -> Source:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise UserError(f"{path}: needs the package; run `pip install safetensors`") from None
    try:
        entries = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise UserError(f"{path}: not a .safetensors file, or a damaged one ({error})") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFE_TYPES:
            raise UserError(f"{path}: {name} is of type {entry['dtype']}; save it as F32")
        array = np.frombuffer(entry["data"], _SAFE_TYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    return Source(path, arrays)


def _read_pickle(path: Path) -> Source:
    try:
        loaded = load_arrays(path.read_bytes())
    except NotOnlyArraysError as error:
        raise UserError(
            f"{path}: not a pickle of NumPy arrays alone, so it is not opened: {error}; set {KEY} "
            "to a detectron2 model zoo file, or save the weights as .safetensors"
        ) from None
    return _from_dict(path, loaded, np.ndarray)


def _read_torch(path: Path) -> Source:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: {NO_TORCH}") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged, another format, or objects of a program
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{path}: PyTorch cannot read it with weights_only=True ({reason:.200}); where the "
            "file is trusted, save its state_dict alone with torch.save or as .safetensors"
        ) from None
    source = _from_dict(path, loaded, torch.Tensor)
    try:
        source.arrays = {n: _from_tensor(t) for n, t in source.arrays.items()}
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UserError(f"{path}: holds tensors of an unusual kind ({error})") from None
    return source


def _from_tensor(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


def _from_dict(path: Path, loaded: Any, kind: type) -> Source:
    """The parameters in the file's outer dict, or in the one that usually holds them."""
    if isinstance(loaded, Mapping):
        nested = next((k for k in _NESTED if isinstance(loaded.get(k), Mapping)), None)
        weights = loaded[nested] if nested else loaded
        extra = {k: v for k, v in loaded.items() if k != nested} if nested else {}
        arrays = {str(k): v for k, v in weights.items() if isinstance(v, kind)}
        others = {k: v for k, v in weights.items() if not isinstance(v, kind)}
        return Source(path, arrays, {**others, **extra})
    raise UserError(f"{path}: holds a {type(loaded).__name__}, not a state_dict; save one")
