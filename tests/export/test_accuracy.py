# SPDX-License-Identifier: Apache-2.0
"""AP of 8-bit files and of the float32 files that they were made of."""

import json

import pytest

from src.export.accuracy import measure_loss


@pytest.mark.parametrize("names", [["m.onnx"], ["m_64x96.onnx", "m_96x64.onnx"]])
def test_both_are_scored_with_their_own_description(tmp_path, names):
    written = {}
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        written[tmp_path / name] = folder / "model.onnx"
        (folder / "model.onnx").write_bytes(b"8" * (10 + number))
        (folder / "float32_model.onnx").write_bytes(b"32" * (20 + number))
    card = {"model_bytes": 10}
    if len(names) > 1:
        card = {"files": [{"name": name, "bytes": 0} for name in names]}
    seen = []

    def score(model):
        content = json.loads(model.with_name(model.name + ".json").read_text())
        files = content.get("files") or [{"name": names[0], "bytes": content["model_bytes"]}]
        for file in files:
            assert (model.parent / file["name"]).stat().st_size == file["bytes"]
        seen.append([file["bytes"] for file in files])
        return 0.51234567 if len(seen) == 1 else 0.5

    (tmp_path / "scored").mkdir()
    accuracy = measure_loss(score, card, written, tmp_path / "scored")
    assert accuracy == {"ap_float32": 0.5123, "ap": 0.5}
    assert seen == [[40, 42][: len(names)], [10, 11][: len(names)]]
