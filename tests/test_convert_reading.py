# SPDX-License-Identifier: Apache-2.0
"""Reading foreign files: pickles of arrays alone, safetensors, PyTorch; and files that lie."""

import codecs
import collections
import json
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from src.checkpoint_formats.numpy_pickle import NotOnlyArraysError, load_arrays
from src.checkpoint_formats.reading import read_source
from src.errors import UserError

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
    arrays = {"half": np.array([1.5, -2], np.float16), "single": np.ones((2, 3), np.float32),
              "double": np.ones(2), "count": np.array(7)}  # fmt: skip
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
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\x00\x00\xc0\x7f",
         "a holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_wrong_safetensors(tmp_path, header, data, message):
    path = _safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises(UserError, match=message):
        read_source(path)


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


def test_without_pytorch_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    path = tmp_path / "a.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="needs PyTorch.*pip install torch.*safetensors"):
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
    assert source.extra == ({"meta": {"CLASSES": ("red",)}} if nested else {})


@pytest.mark.parametrize("content", [_Call(os.system, "touch marker"), {"a": pytest}])
def test_pytorch_files_with_a_program_are_refused(tmp_path, content, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    if isinstance(content, dict):
        content = {"args": _Call(print, "loaded")}
    torch.save(content, "a.pth")
    with pytest.raises(UserError, match="weights_only=True.*state_dict alone"):
        read_source("a.pth")
    assert not os.path.exists("marker")
