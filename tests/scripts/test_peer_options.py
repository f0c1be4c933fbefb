# SPDX-License-Identifier: Apache-2.0
"""Which peers the measuring scripts take, and in which settings."""

import argparse
import itertools

import pytest

from benchmarks import common
from benchmarks.peer_options import MODES, peer_mode
from benchmarks.workload import Workload, add_workload_options
from src.base.errors import UserError


def _parsed(*arguments):
    parser = common.make_parser("Measure.")
    add_workload_options(parser)
    return common.parse(parser, arguments)[0]


@pytest.mark.parametrize(
    "words", [words for n in (1, 2, 3) for words in itertools.permutations(MODES, n)]
)
def test_modes_have_one_order(words):
    assert peer_mode(",".join(words)) == tuple(sorted(words, key=MODES.index))


def test_eager_is_no_mode():
    assert peer_mode("eager") == ()


@pytest.mark.parametrize("text", ["", "bf16,", "fp16", "eager,bf16", "bf16 compile"])
def test_unknown_modes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no mode; give eager, or some of"):
        peer_mode(text)


@pytest.mark.parametrize(
    "arguments, complaint",
    [(["--peer", "keras"], "--peer"), (["--peer_mode", "channels_first"], "'channels_first'")],
)
def test_a_wrong_choice_is_one_line(arguments, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        _parsed(*arguments)
    assert "\n" not in str(raised.value)


def test_no_peer_unless_asked_for(tmp_path):
    options = _parsed()
    assert options.peer == [] and options.peer_mode == [()]
    assert Workload(options, [], str(tmp_path)).peers("training") == {}


def test_a_program_for_each_mode(tmp_path):
    options = _parsed("--peer", "torchvision", "--peer_mode", "eager", "bf16,channels_last")
    for task in ("training", "inference"):
        names = list(Workload(options, [], str(tmp_path)).peers(task))
        assert names == ["torchvision", "torchvision channels_last,bf16"]


def test_openvino_runs_both_exports_in_two_precisions(tmp_path):
    options = _parsed("--peer", "torchvision", "openvino", "--peer_mode", "compile")
    work = Workload(options, [], str(tmp_path))
    assert list(work.peers("inference")) == [
        "torchvision compile",
        "OpenVINO f32, torchvision ONNX",
        "OpenVINO default, torchvision ONNX",
        "OpenVINO f32, own ONNX",
        "OpenVINO default, own ONNX",
    ]
    with pytest.raises(UserError, match="--peer openvino: runs inference only, not training"):
        work.peers("training")


def test_onnxruntime_runs_both_exports(tmp_path):
    work = Workload(_parsed("--peer", "onnxruntime"), [], str(tmp_path))
    assert list(work.peers("inference")) == [
        "ONNX Runtime, torchvision ONNX",
        "ONNX Runtime, own ONNX",
    ]
    with pytest.raises(UserError, match="--peer onnxruntime: runs inference only"):
        work.peers("training")
