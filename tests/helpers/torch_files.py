# SPDX-License-Identifier: Apache-2.0
"""State dicts in the format of `torch.save` since 1.6, written by hand: without PyTorch, and with
what PyTorch would not write."""

import struct
import zipfile
from typing import NamedTuple

import numpy as np

_KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class View(NamedTuple):
    """A tensor: a view of the storage `key`, which has `length` numbers of `kind`."""

    length: int = 4
    offset: int = 0
    shape: tuple = (4,)
    strides: tuple = (1,)
    kind: str = "FloatStorage"
    key: str = "0"


def _text(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _number(number):
    return b"J" + struct.pack("<i", number)


def _tensor(view):
    reference = b"(" + _text("storage") + f"ctorch\n{view.kind}\n".encode()
    reference += _text(view.key) + _text("cpu") + _number(view.length) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + _number(view.offset)
    numbers = b"(" + b"".join(map(_number, view.shape)) + b"t"
    steps = b"(" + b"".join(map(_number, view.strides)) + b"t"
    return call + numbers + steps + b"\x89NtR"


def state_dict_pickle(views):
    """Return the pickle of {name: tensor}.

    Args:
        views: name -> `View`.
    """
    items = b"".join(_text(name) + _tensor(view) for name, view in views.items())
    return b"\x80\x02}(" + items + b"u."


def torch_zip(path, content, storages, *, compression=zipfile.ZIP_STORED, zip64=False):
    """Write the archive; return its path.

    Args:
        path: of the file.
        content: of data.pkl.
        storages: key -> bytes.
        compression, zip64: of the entries.
    """
    with zipfile.ZipFile(path, "w", compression) as archive:
        entries = {"a/data.pkl": content, "a/byteorder": b"little"}
        entries |= {f"a/data/{key}": data for key, data in storages.items()}
        for name, data in entries.items():
            with archive.open(name, "w", force_zip64=zip64) as entry:
                entry.write(data)
    return path


def save_state_dict(path, arrays, **options):
    """Write arrays as `torch.save` writes the tensors of a state dict; return the path.

    Args:
        path: of the file.
        arrays: name -> array.
        options: of `torch_zip`.
    """
    views, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        array = np.asarray(array)
        strides = [step // array.itemsize for step in np.zeros(array.shape, array.dtype).strides]
        kind = _KINDS[array.dtype.name]
        views[name] = View(array.size, 0, array.shape, tuple(strides), kind, str(number))
        storages[str(number)] = array.tobytes()
    return torch_zip(path, state_dict_pickle(views), storages, **options)
