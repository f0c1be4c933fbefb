# SPDX-License-Identifier: Apache-2.0
"""What is refused of an ONNX file before a library loads it."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.runtimes.onnx_file import check_onnx_file
from tests.helpers.exported_models import field, onnx_with_external_data


@pytest.fixture
def model(tmp_path):
    """Writes a model into a folder of its own, beside which there is a secret."""
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    folder = tmp_path / "models"
    folder.mkdir()

    def write(content):
        (folder / "m.onnx").write_bytes(content)
        return folder / "m.onnx"

    return write


def test_weights_beside_the_file_are_taken(model):
    path = model(onnx_with_external_data("weights.bin"))
    (path.parent / "weights.bin").write_bytes(b"\0" * 16)
    check_onnx_file(path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "{}/secret.bin", "link.bin", "missing.bin", "", "a\0b", "."]
)
def test_weights_elsewhere_are_refused(model, tmp_path, location):
    path = model(onnx_with_external_data(location.format(tmp_path)))
    os.symlink(tmp_path / "secret.bin", path.parent / "link.bin")
    with pytest.raises(UserError, match="which is no file in its folder") as raised:
        check_onnx_file(path)
    assert "\n" not in str(raised.value)


def test_weights_of_an_inner_graph_are_looked_at_too(model):
    tensor = field(13, field(1, "location") + field(2, "../secret.bin"))
    inner = field(5, field(6, field(5, tensor)))  # an attribute that is a graph
    with pytest.raises(UserError, match="no file in its folder"):
        check_onnx_file(model(field(7, field(1, inner))))


@pytest.mark.parametrize("content", [b"", b"no model", field(1, 8), b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model(model, content):
    with pytest.raises(UserError, match="m.onnx: not an ONNX model, or a damaged one"):
        check_onnx_file(model(content))


def test_a_model_without_an_end(model):
    message = b""
    for _ in range(200):
        message = field(1, field(5, field(6, message)))
    with pytest.raises(UserError, match="too deep"):
        check_onnx_file(model(field(7, message)))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="not a file, but a pipe"):
        check_onnx_file(tmp_path / "m.onnx")


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 200))
def test_any_damage_is_one_line_or_nothing(tmp_path_factory, place, byte, cut):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(onnx_with_external_data("../secret.bin"))
    content[place % len(content)] = byte
    (folder / "damaged.onnx").write_bytes(bytes(content[: len(content) - cut % len(content)]))
    try:
        check_onnx_file(folder / "damaged.onnx")
    except UserError as error:
        assert "\n" not in str(error) and "damaged.onnx" in str(error)
