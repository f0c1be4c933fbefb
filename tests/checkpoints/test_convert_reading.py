# SPDX-License-Identifier: Apache-2.0
"""Reading foreign files: pickles of arrays alone, safetensors, PyTorch; and files that lie."""

import codecs
import collections
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from src.base.errors import UserError
from src.checkpoints.foreign import reading
from src.checkpoints.foreign.numpy_pickle import load_arrays
from src.checkpoints.foreign.reading import read_source
from src.checkpoints.foreign.strict_pickle import MOST_INSTRUCTIONS, NotOnlyArraysError
from src.checkpoints.foreign.torch_file import load_torch
from tests.helpers.paths import RESOURCES
from tests.helpers.torch_files import View, state_dict_pickle, torch_zip

HELD = {
    "model": collections.OrderedDict(
        plain=np.arange(6, dtype=np.float32).reshape(2, 3),
        column_order=np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        half=np.array([1, 2], np.float16),
        scalar=np.float32(3),
        big_endian=np.arange(3, dtype=">i4"),
        empty=np.zeros((0, 3)),
        zero_dimensional=np.array(True),
    ),
    "__author__": "Detectron2 Model Zoo",
    "matching_heuristics": True,
}


# ------------------------------------------------------------------ the unpickler


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(protocol):
    loaded = load_arrays(pickle.dumps(HELD, protocol=protocol))
    assert loaded["__author__"] == HELD["__author__"] and loaded["matching_heuristics"] is True
    for name, array in HELD["model"].items():
        assert loaded["model"][name].dtype == np.asarray(array).dtype, name
        np.testing.assert_array_equal(loaded["model"][name], array)


def test_a_pickle_of_python_2():
    """Protocol 2 as Python 2 writes it: byte strings and NumPy's old module."""
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01b"
        b"tR(K\x01K\x02\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    np.testing.assert_array_equal(load_arrays(content)["a"], np.array([1, 2], np.float32))


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class _OwnArray(np.ndarray):
    pass


def _global(module, name, arguments=b"("):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments + b"tR."


MALICIOUS = {
    "system": pickle.dumps(_Call(os.system, "touch {marker}")),
    "eval": pickle.dumps({"model": _Call(eval, "open('{marker}', 'w')")}),
    "inside an array's dict": pickle.dumps({"a": np.ones(2), "b": _Call(exec, "1/0")}),
    "getattr": pickle.dumps(_Call(getattr, "text", "upper")),
    "a codec": pickle.dumps(_Call(codecs.encode, "abc", "rot13")),
    "objects in an array": pickle.dumps(np.array([{}, 1], object)),
    "an array of pickled objects": pickle.dumps(np.array([_Call(os.getcwd)], object)),
    "records": pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "a subclass": pickle.dumps(np.ones(3).view(_OwnArray)),
    "numpy.load": _global("numpy", "load", b"S'/etc/passwd'\n("),
    "numpy's own functions": _global("numpy.core.multiarray", "fromfile", b"(S'/etc/passwd'\n"),
    "dotted names": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\n\x93.",
    "an instruction": b"(S'touch {marker}'\nios\nsystem\n.",
    "an extension code": b"\x80\x02\x82\x01.",
    "data elsewhere": b"Pfile\n.",
    "a huge memo": b"N" + b"r" + struct.pack("<I", 2**32 - 1) + b".",
    "more size than numbers": pickle.dumps(np.ones(3)).replace(b"K\x03\x85", b"K\x7f\x85"),
    "a set": pickle.dumps({"a": {1, 2}}),
    "deep nesting": pickle.dumps([[[[[[[[[[[1]]]]]]]]]]]),
    "half a pickle": pickle.dumps(HELD)[:-200],
    "text": b"these are no weights",
    "a class": pickle.dumps(np.ndarray),
    "a type": pickle.dumps(np.dtype("f4")),
    "an array without a state": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntR.",
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_other_pickles_are_not_opened(kind, tmp_path):
    marker = tmp_path / "marker"
    content = MALICIOUS[kind].replace(b"{marker}", str(marker).encode())
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(NotOnlyArraysError):
        load_arrays(content)
    with pytest.raises(UserError, match="not a pickle of NumPy arrays alone") as raised:
        read_source(path)
    assert str(path) in str(raised.value) and "--ckpt_file" in str(raised.value)
    assert not marker.exists()


def _shared(kind, depth):
    """A value that a few hundred bytes make and nobody can walk through."""
    value = kind([1])
    for _ in range(depth):
        value = kind([value, value])
    return value


_TREE = b"K\x01q\0" + b"h\0h\0\x86q\0" * 60  # a tuple whose text has no end
_ITEMS = b"".join(b"J" + struct.pack("<i", number) + b"N" for number in range(2000))


def _many_calls(function, argument):
    """A list of what a function makes of an argument that is there once."""
    return b"\x80\x02" + argument + b"q\x02](" + (function + b"h\x02\x85R") * 20_000 + b"e."


BOMBS = {
    "tuples that share tuples as a type": b"\x80\x02cnumpy\ndtype\n" + _TREE + b"\x85R.",
    "as an encoding": b"\x80\x02c_codecs\nencode\nU\x01a" + _TREE + b"\x86R.",
    "as a module": b"\x80\x04" + _TREE + b"U\x01a\x93.",
    "one dict copied many times": _many_calls(b"ccollections\nCounter\n", b"}(" + _ITEMS + b"u"),
    "pairs copied many times": _many_calls(
        b"ccollections\nOrderedDict\n", b"](" + b"K\x01N\x86" * 2000 + b"e"
    ),
    "names copied many times": (
        b"\x80\x02}(" + _ITEMS + b"uq\x02](" + b"cargparse\nNamespace\n)Rh\x02b" * 20_000 + b"e."
    ),
    "tuples that share tuples": pickle.dumps(_shared(tuple, 60)),
    "as a key": b"(U\x01aq\0" + b"h\0\x86q\0" * 60 + b"K\x01d.",
    "as a key by items": b"}(" + b"(tq\0" + b"h\0h\0\x86q\0" * 60 + b"K\x01u.",
    "in a set": b"\x80\x04\x8f(" + b"(tq\0" + b"h\0h\0\x86q\0" * 60 + b"\x90.",
    "in itself": b"]q\0h\0a.",
    "one array's bytes many times": (
        b"c_codecs\nencode\nq\0X"
        + struct.pack("<I", 2**20)
        + b"x" * 2**20
        + b"q\x010]"
        + b"h\0h\x01\x85Ra" * 500
        + b"."
    ),
    "a huge integer": b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b".",
    "a long text as an integer": b"I" + b"9" * 10**6 + b"\n.",
    "a length of 2**62": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "bytes of 2**62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "a negative length": b"T" + struct.pack("<i", -5) + b"abc.",
    "more instructions than anybody needs": b"]" + b"N0" * (MOST_INSTRUCTIONS // 2) + b".",
    "an empty stack": b"0.",
    "marks without an end": b"(" * 1000 + b".",
    "a mark too few": b"e.",
    "a state for a list": b"]N}b.",
    "a call of a value": b"K\x01)R.",
    "a shape of huge numbers": pickle.dumps(np.ones(3)).replace(
        b"K\x03\x85", b"\x8a\xff" + b"\x7f" * 255 + b"\x85"
    ),
    "control codes": b"c\x1b[2J\x1b]0;x\x07\nname\n.",
    "a name of a megabyte": b"c" + b"m" * 2**20 + b"\nname\n.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_small_files_that_never_end_or_fill_the_memory(kind, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(UserError, match="not a pickle of NumPy arrays alone") as raised:
        read_source(path)
    reason = str(raised.value).removeprefix(str(path))
    assert len(reason) < 400 and reason.isprintable()


def test_what_is_shared_stays_shared():
    """Lists of lists of one list: as small afterwards as in the file."""
    value = ["x"] * 100
    for _ in range(6):
        value = [value] * 100
    loaded = load_arrays(pickle.dumps({"a": value}))
    assert len(loaded["a"]) == 100 and loaded["a"][0] is loaded["a"][99]


def test_one_array_under_many_names_does_not_fill_the_memory(tmp_path):
    array = np.zeros(2**20, np.float16)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({f"n{i}": array for i in range(1000)}))
    with pytest.raises(UserError, match="far more than the file has"):
        read_source(path)


@pytest.mark.parametrize("name", ["\x1b[31m", "a" * 301, "\0", "a\nb"])
def test_names_that_are_no_text(name, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({name: np.ones(2)}))
    with pytest.raises(UserError, match="no plain text") as raised:
        read_source(path)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


@given(data=st.data())
@settings(max_examples=150)
def test_changed_bytes_never_get_through_as_anything_else(data):
    content = bytearray(pickle.dumps(HELD, protocol=data.draw(st.sampled_from([0, 2, 4]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        loaded = load_arrays(bytes(content))
    except NotOnlyArraysError:
        return
    todo = [loaded]
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
        else:
            assert value is None or type(value) in (bool, int, float, str, bytes, np.ndarray)


# ------------------------------------------------------------------ the formats


def test_detectron2s_pickle(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(HELD))
    source = read_source(path)
    assert source.arrays.keys() == HELD["model"].keys()
    assert source.arrays["half"].dtype == np.float32 == source.arrays["column_order"].dtype
    assert source.extra["__author__"] == "Detectron2 Model Zoo"


def test_safetensors_of_every_type(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {
        "half": np.array([1.5, -2], np.float16),
        "single": np.ones((2, 3), np.float32),
        "double": np.ones(2),
        "count": np.array(7),
    }
    save_file(arrays, path)
    loaded = read_source(path).arrays
    assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())
    assert loaded["half"].dtype == loaded["double"].dtype == np.float32


def _safetensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_bfloat16(tmp_path):
    header = {"module.a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    path = _safetensors(tmp_path / "a.safetensors", header, b"\x80\x3f\x00\xc0")
    np.testing.assert_array_equal(read_source(path).arrays["a"], [1, -2])


@pytest.mark.parametrize(
    "header, data, message",
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234", "damaged"),
        ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, b"1234", "damaged"),
        ({}, b"", "holds no parameters"),
        ({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"1", "F8_E4M3"),
        (
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
            b"\x00\x00\xc0\x7f",
            "a holds numbers that are not finite",
        ),
    ],
)
def test_wrong_safetensors(tmp_path, header, data, message):
    path = _safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises(UserError, match=message):
        read_source(path)


@pytest.mark.parametrize("length", [2**24 + 1, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_is_too_long(length, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UserError, match=r"damaged one \(a header of"):
        read_source(path)


@pytest.mark.parametrize("shape", [[0, 2**62], [1] * 70, [2**63, 0]])
def test_absurd_shapes(shape, tmp_path):
    size = 4 if 0 not in shape else 0
    header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    with pytest.raises(UserError, match="damaged"):
        read_source(_safetensors(tmp_path / "a.safetensors", header, b"\0" * size))


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_files_larger_than_any_detectors(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.touch()
    os.truncate(path, reading.MOST_BYTES + 1)
    with pytest.raises(UserError, match="save the weights alone"):
        read_source(path)


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "a.pkl")
    with pytest.raises(UserError, match="a device or a pipe"):
        read_source(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.pth", None, "no such file"),
        ("a.onnx", b"x", "not a .ckpt, .pth"),
        ("a.safetensors", b"", "an empty file"),
        ("a.safetensors", b"no weights at all", "damaged"),
        ("a.ckpt", b"no weights at all", "not a MindSpore checkpoint"),
        ("a.pkl", pickle.dumps([np.ones(2)]), "holds a list, not a state_dict"),
        ("a.pkl", pickle.dumps({"a": 1}), "holds no parameters"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_source(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="a folder"):
        read_source(tmp_path)


# ------------------------------------------------------------------ PyTorch


@pytest.mark.parametrize("name", ["torchvision_reference.pth", "torchvision_reference_old.pth"])
def test_files_of_torchvisions_training_without_pytorch(name):
    """With `args=Namespace` and a Counter of milestones; views, bfloat16, a scalar."""
    source = read_source(RESOURCES / name)
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "view": base[1:3, 2:5],
        "turned": base.T,
        "half": np.float32([1.5, -2]),
        "count": np.array(7),
    }
    assert source.arrays.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(source.arrays[key], array)
        assert source.arrays[key].dtype == array.dtype
    assert source.extra["args"] == {"lr": 0.02, "data_path": "coco", "aspect_ratio_group_factor": 3}
    assert source.extra["lr_scheduler"]["milestones"] == {2: 1, 3: 1}


def _torch_zip(path, content, *, storages=("0",), data=b"\0" * 16, **options):
    return torch_zip(path, content, dict.fromkeys(storages, data), **options)


def _tensor(**changes):
    return state_dict_pickle({"a": View(**changes)})


def test_a_tensor_by_hand(tmp_path):
    data = np.arange(4, dtype=np.float32).tobytes()
    path = _torch_zip(tmp_path / "a.pth", _tensor(shape=(2, 2), strides=(1, 2)), data=data)
    np.testing.assert_array_equal(load_torch(path)["a"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shape": (5,)}, "larger than its storage"),
        ({"offset": 1}, "larger than its storage"),
        ({"offset": -1}, "unknown layout"),
        ({"strides": (-1,)}, "unknown layout"),
        ({"shape": (2, 2)}, "larger than its storage"),
        ({"shape": (1,) * 9, "strides": (1,) * 9}, "larger than its storage"),
        ({"shape": (2**30,), "strides": (0,)}, "more bytes than it has"),
        ({"length": 2**30}, "more data than it has"),
        ({"length": 5}, "less data than it refers to"),
        ({"length": 3, "shape": (3,)}, "its a/data/0 has 16 bytes"),
        ({"kind": "UntypedStorage"}, "it asks for torch.UntypedStorage"),
    ],
)
def test_tensors_that_lie(changes, message, tmp_path):
    path = _torch_zip(tmp_path / "a.pth", _tensor(**changes))
    with pytest.raises(UserError, match=message) as raised:
        read_source(path)
    assert str(path) in str(raised.value)


def test_zip_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "a.pth"
    for make, message in (
        (lambda: _torch_zip(path, _tensor(), compression=zipfile.ZIP_DEFLATED), "is compressed"),
        (lambda: _torch_zip(path, _tensor(), storages=()), "no whole zip file"),
        (lambda: _torch_zip(path, pickle.dumps(_Call(os.system, "exit 3"))), "posix.system"),
        (lambda: path.write_bytes(b"PK\x03\x04" * 9), "no whole zip file"),
        (lambda: zipfile.ZipFile(path, "w").close(), "no pickle|no file of torch.save"),
        (lambda: path.write_bytes(pickle.dumps(1) * 9), "no file of torch.save"),
    ):
        make()
        with pytest.raises(UserError, match=message):
            read_source(path)


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
@pytest.mark.parametrize("name, zipped", [("a.pth", True), ("a.ckpt", True), ("a.pt", False)])
def test_pytorch_files(tmp_path, nested, name, zipped):
    torch = pytest.importorskip("torch")
    weights = {"module.a": torch.ones(2, 3, dtype=torch.bfloat16), "module.n": torch.tensor(3)}
    held = {nested: weights, "meta": {"CLASSES": ("red",)}} if nested else weights
    torch.save(held, tmp_path / name, _use_new_zipfile_serialization=zipped)
    source = read_source(tmp_path / name)
    np.testing.assert_array_equal(source.arrays["a"], np.ones((2, 3), np.float32))
    assert source.arrays["a"].dtype == np.float32 and source.arrays["n"] == 3
    assert source.extra == ({"meta": {"CLASSES": ["red"]}} if nested else {})


@pytest.mark.parametrize("content", [_Call(os.system, "touch marker"), {"a": pytest}])
def test_pytorch_files_with_a_program_are_refused(tmp_path, content, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    if isinstance(content, dict):
        content = {"args": _Call(print, "loaded")}
    torch.save(content, "a.pth")
    with pytest.raises(UserError, match="not opened.*state_dict alone"):
        read_source("a.pth")
    assert not os.path.exists("marker")
