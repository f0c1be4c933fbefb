# SPDX-License-Identifier: Apache-2.0
"""When two models count as the same detector."""

import numpy as np
import pytest

from src.base.errors import UserError
from src.export.exported_model import compare, open_mindir, open_onnx


def _outputs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 500, (1, 100, 4)).astype(np.float32)
    scores = -np.sort(-rng.random((1, 100)).astype(np.float32))
    labels = rng.integers(1, 4, (1, 100)).astype(np.int32)
    valid = np.arange(100)[None] < count
    return [boxes, scores, labels, valid]


def _changed(index, change):
    outputs = _outputs()
    outputs[index] = change(outputs[index].copy())
    return outputs


def _set(position, value):
    def change(array):
        array[position] = value
        return array

    return change


def test_equal():
    result = compare(_outputs(), _outputs())
    assert result.equal and result.same and (result.count, result.unmatched) == (60, 0)


def test_rounding_and_another_order_are_no_difference():
    moved = [array[:, np.r_[1, 0, 2:100]] for array in _changed(0, lambda boxes: boxes + 0.01)]
    result = compare(_outputs(), moved)
    assert result.same and not result.equal and result.unmatched == 0
    assert 0.005 < result.box < 0.02 and result.score == 0.0


@pytest.mark.parametrize(
    "index, change",
    [
        (0, lambda boxes: boxes + 0.2),
        (0, _set((0, slice(0, 3)), 5.0)),
        (0, lambda boxes: boxes * np.nan),
        (1, lambda scores: scores * 0.9),
        (2, lambda labels: labels % 3 + 1),
        (3, lambda valid: np.zeros_like(valid)),
        (3, lambda valid: np.ones_like(valid)),
        (0, lambda boxes: boxes[:, :50]),
    ],
)
def test_differences(index, change):
    assert not compare(_outputs(), _changed(index, change)).same
    assert not compare(_changed(index, change), _outputs()).same


def test_another_choice_among_equal_scores_is_no_difference():
    tied, other = _outputs(), _outputs()
    for outputs in (tied, other):
        outputs[1][:, 50:60], outputs[2][:, 50:60] = 0.3, 2
    other[0][:, 52:60] += 40
    result = compare(tied, other)
    assert result.same and result.unmatched == 0 and not result.equal
    alone = _outputs()
    alone[0][:, 52:60] += 40  # the same boxes elsewhere, but their scores do not tie
    assert compare(_outputs(), alone).unmatched == 16


def test_nothing_found_by_either():
    assert compare(_outputs(0), _changed(3, np.zeros_like)).same
    assert not compare(_outputs(0), _outputs(1)).same


@pytest.mark.parametrize("open_it", [open_onnx, open_mindir])
def test_files_that_are_no_models(tmp_path, open_it):
    if open_it is open_onnx:
        pytest.importorskip("onnxruntime")
    path = tmp_path / ("m.onnx" if open_it is open_onnx else "m.mindir")
    path.write_bytes(b"no model at all")
    with pytest.raises(UserError, match="not an? (ONNX|MINDIR) model, or a damaged one") as raised:
        open_it(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.mindir", "a.onnx"])
def test_too_little_memory_is_told_from_damage(tmp_path, monkeypatch, name):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    (tmp_path / name).write_bytes(b"damaged")
    open_model = open_mindir if name.endswith("mindir") else open_onnx
    with pytest.raises(UserError, match=f"{name}: not an? (ONNX|MINDIR) model, or a damaged one"):
        open_model(tmp_path / name)
    monkeypatch.setattr("src.base.memory.available_memory", lambda: 10)
    with pytest.raises(UserError, match=f"{name}: too little memory"):
        open_model(tmp_path / name)
