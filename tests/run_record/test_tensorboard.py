# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's events: read back from the file as TensorBoard reads them."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from src.evaluation.analysis.matching import match_detections
from src.evaluation.coco import evaluate_results
from src.run_record.callback import Evaluation
from src.run_record.tensorboard import TensorBoardEvents, counts_by_threshold
from tests.helpers.run_records import write_run_record

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Two pictures with three boxes, of which two are found, and one false detection."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((60, 80, 3), 90 * number, np.uint8))
    boxes = [(1, 1, [10, 10, 20, 20]), (1, 2, [40, 20, 20, 30]), (2, 1, [5, 5, 40, 40])]
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "ox"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, category, box) in enumerate(boxes, start=1)
        ],
    }
    found = [
        (1, 1, [10, 10, 20, 20], 0.9),
        (1, 1, [50, 5, 10, 10], 0.4),
        (2, 1, [5, 5, 40, 38], 0.6),
    ]
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in found
    ]
    summary = evaluate_results(truth, results, ("cat", "dog", "ox"))
    return Evaluation(summary, results, truth, str(folder))


def _events(folder):
    """The events in a folder's only file."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_numbers_pictures_and_curves(tmp_path, evaluation):
    rows = write_run_record(tmp_path / "rows", epochs=1, steps=20, interval=10)
    hook = TensorBoardEvents()
    config = SimpleNamespace(max_image_pixels=10**6)
    hook.on_start(SimpleNamespace(folder=tmp_path, step=0, resumed=False, config=config))
    for row in rows[:-1]:
        hook.on_train_row(row)
    hook.on_evaluation(rows[-1], evaluation)
    hook.on_end(0)
    events = _events(tmp_path / "tensorboard")
    values = {
        (value.tag, event.step): (value, event.wall_time)
        for event in events
        for value in event.summary.value
    }
    loss, at = values["train/total_loss", 10]
    assert loss.simple_value == pytest.approx(rows[0]["total_loss"]) and at == rows[0]["time"]
    assert values["eval/ap50", 20][0].simple_value == pytest.approx(rows[-1]["ap50"])
    assert values["eval/ap/cat", 20][0].simple_value == pytest.approx(rows[-1]["per_class"]["cat"])
    assert ("eval/ap/fox", 20) not in values and ("eval/ap_large", 20) not in values
    assert ("validation/total_loss", 20) in values and ("train/step", 10) not in values
    picture = values["detections", 20][0].image
    sheet = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), 1)
    assert sheet.shape == (picture.height, picture.width, 3) and sheet.std() > 10
    curves = {tag for tag, _ in values if tag.startswith("pr/")}
    assert curves == {"pr/all", "pr/class/cat", "pr/class/dog"}  # there is no ox


def test_a_run_that_goes_on_forgets_later_steps(tmp_path):
    hook = TensorBoardEvents()
    hook.on_start(SimpleNamespace(folder=tmp_path, step=40, resumed=True, config=None))
    hook.on_end(0)
    starts = [e for e in _events(tmp_path / "tensorboard") if e.HasField("session_log")]
    assert [(e.step, e.session_log.status) for e in starts] == [(41, 1)]


def test_counts_are_those_of_each_threshold(evaluation):
    matches = match_detections(evaluation.summary.evidence)
    right, wrong, absent, missed, precision, recall = counts_by_threshold(matches, 0)
    at = {threshold: round(126 * threshold) for threshold in (0.0, 0.5, 0.7, 1.0)}
    assert [right[i] for i in at.values()] == [2, 2, 1, 0]
    assert [wrong[i] for i in at.values()] == [1, 0, 0, 0]
    assert (right + missed == 2).all() and not absent.any()
    assert precision[0] == pytest.approx(2 / 3) and precision[-1] == 1 and recall[-1] == 0
    assert counts_by_threshold(matches, 2) is None
    assert counts_by_threshold(matches, None)[0][0] == 2
