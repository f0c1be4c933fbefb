# SPDX-License-Identifier: Apache-2.0
"""The reader of checkpoint files: the same as MindSpore's, within bounds, and never a traceback."""

import binascii
import os

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Parameter, Tensor
from mindspore.train.checkpoint_pb2 import Checkpoint as Message

from src.base import memory
from src.base.errors import DamagedFileError, UserError
from src.checkpoints import records as checkpoint_file
from src.checkpoints.file import META_KEY, read_checkpoint, save_checkpoint
from src.checkpoints.records import read_entries
from tests.helpers.tiny_detector import tiny_run_meta, tiny_trained

TYPES = (
    ms.float64,
    ms.float32,
    ms.float16,
    ms.bfloat16,
    ms.int64,
    ms.int32,
    ms.int16,
    ms.int8,
    ms.uint64,
    ms.uint32,
    ms.uint16,
    ms.uint8,
    ms.bool_,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A training checkpoint of this project: its path and its bytes."""
    network, optimizer, _ = tiny_trained(steps=1)
    path = tmp_path_factory.mktemp("saved") / "a.ckpt"
    save_checkpoint(path, network, optimizer, tiny_run_meta(1))
    return path, path.read_bytes()


def _message(content):
    message = Message()
    message.ParseFromString(content[:-17])  # without the checksum
    return message


def _with_checksum(content):
    return content + b"crc_num" + binascii.crc32(content).to_bytes(10, "big")


def _write(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    return path


def test_what_mindspore_writes_is_read_as_mindspore_reads_it(tmp_path):
    path = str(tmp_path / "a.ckpt")
    rng = np.random.default_rng(0)
    values = {f"of.{kind}": Tensor(rng.integers(0, 2, (2, 3)), kind) for kind in TYPES}
    values |= {"scalar": Tensor(np.float32(3)), "one": Tensor(np.ones(1, np.int32))}
    entries = [{"name": n, "data": Parameter(t, name=n)} for n, t in values.items()]
    for crc in (False, True):
        ms.save_checkpoint(
            entries, path, append_dict={"note": "größe 猫", "epoch": 3}, crc_check=crc
        )
        arrays, texts = read_entries(tmp_path / "a.ckpt", "key", texts=("note",))
        expected = ms.load_checkpoint(path)
        assert texts == {"note": expected.pop("note")}
        assert arrays.keys() == expected.keys()
        for name, parameter in expected.items():
            array = arrays[name]
            assert array.shape == tuple(parameter.shape) and array.flags.writeable
            wanted = parameter.astype(ms.float32) if "loat16" in name else parameter
            np.testing.assert_array_equal(array, wanted.asnumpy())


def test_own_checkpoints_are_ordinary_ones(saved):
    path, _ = saved
    loaded = ms.load_checkpoint(str(path), crc_check=True)
    assert loaded.pop(META_KEY).startswith('{"format_version": 1')
    own = read_checkpoint(path).arrays
    assert own.keys() == loaded.keys()
    assert all(np.array_equal(own[name], loaded[name].asnumpy()) for name in own)


def test_tensors_in_pieces_are_put_together(tmp_path):
    values = np.arange(10, dtype=np.float32)
    message = Message()
    for piece in (values[:3], values[3:9], values[9:]):
        value = message.value.add(tag="a.weight")
        value.tensor.dims.extend((2, 5))
        value.tensor.tensor_type = "Float32"
        value.tensor.tensor_content = piece.tobytes()
    arrays, _ = read_entries(_write(tmp_path, message.SerializeToString()), "key")
    np.testing.assert_array_equal(arrays["a.weight"], values.reshape(2, 5))


def test_a_full_page_cache_is_no_lack_of_memory(saved, monkeypatch):
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda n: 1 if n == "SC_AVPHYS_PAGES" else real(n))
    assert read_checkpoint(saved[0]).meta["global_step"] == 1


def test_too_little_memory_is_told_from_damage(saved, monkeypatch):
    def out_of_memory(_tensor):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file, "_array", out_of_memory)
        with pytest.raises(UserError, match="too little memory to read it") as raised:
            read_checkpoint(saved[0])
    assert not isinstance(raised.value, DamagedFileError)
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    with pytest.raises(UserError, match="too little memory .* are needed and 0.00 GB are availabl"):
        read_checkpoint(saved[0])


def test_available_memory_counts_the_page_cache(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemFree: 5 kB\nMemAvailable: 900 kB\nSwapFree: 100 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    assert memory.available_memory() == 1000 * 1024
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    assert memory.available_memory() is None


def test_a_changed_bit_anywhere_is_noticed(saved, tmp_path):
    content = saved[1]
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(content) - 17, 60):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(DamagedFileError):
            read_checkpoint(_write(tmp_path, bytes(changed)))


ODD = {
    "text": (b"\nsome text\n" * 500, "a record"),
    "zeros": (b"\0" * 5000, "no record at byte 0"),
    "endless number": (b"\x0a" + b"\xff" * 50, "a number that does not end"),
    "huge record": (b"\x0a\xff\xff\xff\xff\x7f" + b"x" * 50, "could not be read to its end"),
    "encrypted": (bytes.fromhex("d85e3a7f") + b"x" * 50, "an encrypted checkpoint"),
    "empty record": (b"\x0a\0", "a record without a usable name"),
}


@pytest.mark.parametrize("kind", ODD)
def test_files_of_other_bytes(tmp_path, kind):
    content, message = ODD[kind]
    with pytest.raises(UserError, match=message):
        read_checkpoint(_write(tmp_path, content))


def _set(**changes):
    def change(value):
        tensor = value.tensor
        if "dims" in changes:
            del tensor.dims[:]
            tensor.dims.extend(changes["dims"])
        for name in changes.keys() - {"dims", "tag"}:
            setattr(tensor, name, changes[name])
        value.tag = changes.get("tag", value.tag)

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (_set(dims=[-1]), "which do not fit its dimensions"),
        (_set(dims=[-(2**63), 4]), "which do not fit its dimensions"),
        (_set(dims=[2**62, 2**62]), "which do not fit its dimensions"),
        (_set(dims=[0, 2**40]), "which do not fit its dimensions"),
        (_set(dims=[4] + [1] * 32), "more than 32 dimensions"),
        (_set(dims=[1] * 1_000_000), "more than 32 dimensions"),
        (_set(tensor_content=b"abc"), "has 3 bytes, which do not fit"),
        (_set(tensor_type="Int4"), "of the type 'Int4', which no detector has"),
        (_set(tensor_type="x" * 5000), "of the type 'x{20}'"),
        (_set(tag=""), "without a usable name"),
        (_set(tag="\x1b[2J"), "without a usable name"),
        (_set(tag="x" * 600), "without a usable name"),
        (_set(tag="rcnn.cls_scores.bias"), "rcnn.cls_scores.bias twice"),
        (lambda value: value.maptensor.SetInParent(), "another kind than a tensor"),
        (lambda value: value.tensor.Clear(), "of the type ''"),
    ],
)
def test_tensors_that_cannot_be(saved, tmp_path, change, message):
    changed = _message(saved[1])
    change(changed.value[0])
    path = _write(tmp_path, _with_checksum(changed.SerializePartialToString()))
    with pytest.raises(DamagedFileError, match=message) as raised:
        read_checkpoint(path, "some_key")
    text = str(raised.value)
    assert str(path) in text and "set some_key to another checkpoint" in text and len(text) < 500


def test_an_endless_meta_entry_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "LONGEST_TEXT", 10)
    ms.save_checkpoint([], str(tmp_path / "a.ckpt"), append_dict={META_KEY: '{"source": "a"}'})
    with pytest.raises(DamagedFileError, match="faster_rcnn_meta is longer than 10 characters"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_devices_and_pipes_are_no_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="a device or a pipe"):
        read_checkpoint(tmp_path / "a.ckpt")


@st.composite
def _damage(draw, content):
    """Bytes of a checkpoint with some of them changed, left out or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(changed) - 1))
        new = draw(st.binary(max_size=20))
        changed[place : place + draw(st.integers(0, 30))] = new
        if not changed:
            return b"\n"
    return bytes(changed)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_ends_in_one_line(saved, tmp_path_factory, data):
    whole = saved[1][:-17]
    content = data.draw(_damage(whole))
    if data.draw(st.booleans()):
        content = _with_checksum(content)
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"
    path.write_bytes(content)
    try:
        arrays = read_checkpoint(path).arrays
    except UserError as error:
        assert str(path) in str(error) and len(str(error)) < 800
    else:
        assert sum(array.nbytes for array in arrays.values()) <= 2 * len(content)
