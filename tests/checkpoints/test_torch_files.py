# SPDX-License-Identifier: Apache-2.0
"""Files of `torch.save`, read without PyTorch: the same numbers to the last bit, or one line."""

import os
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from src.base.errors import UserError
from src.checkpoints.foreign.reading import read_source
from src.checkpoints.foreign.torch_file import load_torch
from tests.helpers.paths import RESOURCES
from tests.helpers.torch_files import View, save_state_dict, state_dict_pickle, torch_zip

DTYPES = ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(
    data=st.data(),
    names=st.lists(st.text("abc.01_", min_size=1, max_size=9), min_size=1, max_size=4, unique=True),
    zip64=st.booleans(),
)
@settings(max_examples=40)
def test_arrays_come_back_bit_for_bit(data, names, zip64):
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    kinds = st.sampled_from(DTYPES)
    held = {name: data.draw(arrays_of.arrays(data.draw(kinds), shapes)) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_torch(save_state_dict(Path(folder) / "a.pth", held, zip64=zip64))
    assert list(loaded) == names
    assert all(same(loaded[name], held[name]) for name in names)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
    offset=st.integers(0, 5),
    steps=st.lists(st.integers(0, 3), min_size=3, max_size=3),
)
@settings(max_examples=40)
def test_views_of_one_storage(shape, order, offset, steps):
    """Turned, spread, repeated: whatever offset and strides lead to."""
    storage = np.arange(200, dtype=np.float32)
    order.shuffle(steps)
    strides = tuple(steps[: len(shape)])
    view = View(200, offset, tuple(shape), strides)
    other = View(200, 3, (2, 2), (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        torch_zip(path, state_dict_pickle({"a": view, "b": other}), {"0": storage.tobytes()})
        loaded = load_torch(path)
    steps_in_bytes = [4 * step for step in strides]
    expected = np.ndarray(tuple(shape), np.float32, storage.data, 4 * offset, steps_in_bytes)
    np.testing.assert_array_equal(loaded["a"], expected)
    np.testing.assert_array_equal(loaded["b"], [[3, 5], [4, 6]])


@given(numbers=arrays_of.arrays("uint16", 20))
@settings(max_examples=20)
def test_bfloat16_is_the_upper_half_of_float32(numbers):
    view = View(20, 0, (20,), (1,), "BFloat16Storage")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        torch_zip(path, state_dict_pickle({"a": view}), {"0": numbers.tobytes()})
        loaded = load_torch(path)["a"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded.view(np.uint32), numbers.astype(np.uint32) << 16)


@pytest.mark.parametrize("name", ["torchvision_reference.pth", "torchvision_reference_old.pth"])
@given(data=st.data())
@settings(max_examples=150)
def test_changed_bytes_give_one_line_or_arrays(name, data):
    """Each entry of an archive has a checksum; the older format has none."""
    content = bytearray((RESOURCES / name).read_bytes())
    whole = read_source(RESOURCES / name).arrays
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        path.write_bytes(content)
        try:
            arrays = read_source(path).arrays
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1100
            return
    assert all(type(array) is np.ndarray for array in arrays.values())
    if not name.endswith("_old.pth"):
        assert arrays.keys() == whole.keys()
        assert all(same(arrays[key], whole[key]) for key in whole)


def test_archives_that_are_not_as_pytorch_writes_them(tmp_path):
    path, content = tmp_path / "a.pth", state_dict_pickle({"a": View()})

    def compressed():
        return torch_zip(path, content, {"0": b"\0" * 16}, compression=zipfile.ZIP_DEFLATED)

    def twice():
        torch_zip(path, content, {"0": b"\0" * 16})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("b/data.pkl", content)

    def big_endian():
        torch_zip(path, content, {"0": b"\0" * 16})
        path.write_bytes(path.read_bytes().replace(b"little", b"bigger"))

    def overlapping():
        """Two entries of the list lead to the same bytes."""
        views = {"a": View(), "b": View(key="1")}
        torch_zip(path, state_dict_pickle(views), {"0": b"\0" * 16, "1": b"\0" * 16})
        whole = path.read_bytes()
        first, second = whole.index(b"a/data/0") - 30, whole.index(b"a/data/1") - 30
        at = whole.rindex(b"a/data/1") - 4
        assert int.from_bytes(whole[at : at + 4], "little") == second
        path.write_bytes(whole[:at] + first.to_bytes(4, "little") + whole[at + 4 :])

    for make, message in (
        (compressed, "is compressed"),
        (twice, "without one data.pkl"),
        (big_endian, "no whole zip file|byte order"),
        (overlapping, "no whole zip file"),
    ):
        make()
        with pytest.raises(UserError, match=message):
            read_source(path)


def test_a_half_precision_file_needs_little_more_than_its_result(tmp_path):
    """Array after array becomes float32; not all of them beside all the old ones."""
    import tracemalloc

    arrays = {f"layer{n}": np.ones((256, 1024), np.float16) for n in range(32)}  # 16 MB
    path = save_state_dict(tmp_path / "a.pth", arrays)
    del arrays
    tracemalloc.start()
    try:
        held = read_source(path).arrays
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = sum(array.nbytes for array in held.values())
    assert peak < result + 4 * 2**20


# ------------------------------------------------------------------ with PyTorch


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64"])
def test_equal_to_torch_load(tmp_path, kind, zipped):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    weights = models.resnet18(weights=None).to(getattr(torch, kind)).state_dict()
    torch.save(weights, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_torch(tmp_path / "a.pth")
    expected = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(loaded) == list(expected)
    for name, tensor in expected.items():
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert same(loaded[name], tensor.numpy()), name


def test_pytorch_is_not_imported():
    import subprocess
    import sys

    code = (
        "import sys; from src.checkpoints.foreign.reading import read_source; "
        f"read_source({str(RESOURCES / 'torchvision_reference.pth')!r}); "
        "assert 'torch' not in sys.modules"
    )
    root = RESOURCES.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment)


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch\ndevice\nK\x01q\0" + b"h\0h\0\x86q\0" * 60 + b"\x85R.",
        b"ctorch\nSize\nq\x01B" + struct.pack("<I", 2**20) + bytes(2**20) + b"q\x02"
        b"](" + b"h\x01h\x02\x85R" * 1000 + b"e.",
    ],
    ids=["a device without an end", "a shape copied many times"],
)
def test_small_files_that_never_end_or_fill_the_memory(tmp_path, content):
    with pytest.raises(UserError, match=r"holds a str|not a PyTorch file") as raised:
        read_source(torch_zip(tmp_path / "a.pth", b"\x80\x02" + content, {}))
    assert len(str(raised.value)) < 500


def _old_file(path, content, keys, numbers=b""):
    """Write a file of PyTorch before 1.6."""
    heads = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(heads) + content + pickle.dumps(keys, 2) + numbers)
    return path


_FOUR = struct.pack("<q4f", 4, 1, 2, 3, 4)


def _shared_lists():
    value = ["x"] * 100
    for _ in range(6):
        value = [value] * 100
    return value


@pytest.mark.parametrize("keys", [[0], [["0"]], ["0", "0"], ["1"], "0", [_shared_lists()]])
def test_storages_of_other_names_in_an_old_file(tmp_path, keys):
    content = state_dict_pickle({"w": View()})
    path = _old_file(tmp_path / "a.pth", content, keys, _FOUR * 2)
    with pytest.raises(UserError, match="other storages than it refers to"):
        read_source(path)


def test_an_old_file_by_hand(tmp_path):
    path = _old_file(tmp_path / "a.pth", state_dict_pickle({"w": View()}), ["0"], _FOUR)
    assert read_source(path).arrays["w"].tolist() == [1, 2, 3, 4]


def test_a_shape_of_nothing_that_is_too_large_for_numpy(tmp_path):
    view = View(4, 0, (0, *[2**31 - 1] * 3), (1,) * 4)
    path = _old_file(tmp_path / "a.pth", state_dict_pickle({"w": view}), ["0"], _FOUR)
    with pytest.raises(UserError, match="not a PyTorch file"):
        read_source(path)
