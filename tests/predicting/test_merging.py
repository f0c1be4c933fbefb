# SPDX-License-Identifier: Apache-2.0
"""Boxes of overlapping tiles as one list; pictures in tiles through a detector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.images.overlaps import overlaps
from src.images.views import View
from src.inference import Found
from src.predicting.finding import Finder, Tiling
from src.predicting.merging import merged
from tests.helpers.data_helpers import canvas_format
from tests.helpers.plain_boxes import plain_iou


def found(*rows):
    """Rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


WHOLE, PIECE, OTHER = (0, 0, 100, 100, 0.9, 1), (60, 0, 100, 100, 0.8, 1), (0, 0, 100, 99, 0.7, 2)


def kept(match, threshold=0.5, per_class=True, parts=((WHOLE,), (PIECE, OTHER))):
    together = merged(
        [found(*part) for part in parts], match=match, threshold=threshold, per_class=per_class
    )
    return sorted(round(float(score), 3) for score in together.scores)


def test_a_piece_of_an_object_belongs_to_it():
    assert kept("ios") == [0.7, 0.9]
    assert kept("iou") == [0.7, 0.8, 0.9]
    assert kept("ios", per_class=False) == [0.9]


def test_the_best_stays_and_comes_first():
    parts = [found((0, 0, 10, 10, 0.3, 1)), found((0, 0, 10, 11, 0.6, 1), (50, 50, 60, 60, 0.9, 1))]
    together = merged(parts, match="iou", threshold=0.5, per_class=True)
    assert together.scores.tolist() == pytest.approx([0.9, 0.6])
    assert together.boxes.dtype == np.float32 and together.labels.dtype == np.int32


def test_nothing_found_in_any_tile():
    together = merged([found(), found()], match="ios", threshold=0.5, per_class=True)
    assert [len(column) for column in together] == [0, 0, 0]


def test_boxes_without_an_area_overlap_nothing():
    point = np.array([5.0, 5, 5, 5])
    assert overlaps(point, np.array([[0.0, 0, 9, 9], [5, 5, 5, 5]]), "ios").tolist() == [0, 0]


BOXES = st.lists(
    st.tuples(
        *[st.integers(0, 60)] * 2, *[st.integers(1, 60)] * 2, st.integers(1, 2), st.integers(0, 2)
    ),
    max_size=12,
)


@given(BOXES, st.sampled_from(["iou", "ios"]), st.floats(0.1, 0.9))
def test_as_by_the_definition(rows, match, threshold):
    """Of all boxes in the order of their scores, those that no kept one of their class overlaps."""
    rows = [(x, y, x + w, y + h, 1 - i / 20, c) for i, (x, y, w, h, c, _) in enumerate(rows)]
    parts = [found(*rows[::2]), found(*rows[1::2])]
    together = merged(parts, match=match, threshold=threshold, per_class=True)
    expected = []
    for row in rows:
        box = np.array(row[:4], float)
        close = [
            _overlap(box, np.array(better[:4], float), match) > threshold
            for better in expected
            if better[5] == row[5]
        ]
        if not any(close):
            expected.append(row)
    assert np.allclose(together.boxes, [row[:4] for row in expected] or np.zeros((0, 4)))


def _overlap(a, b, match):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (min(areas) if match == "ios" else sum(areas) - shared)


class Brightest:
    """Finds the white rectangle of each picture, in its own pixels."""

    def __init__(self, *sizes):
        self.views = (View(canvas_format(*sizes[0])),)
        self.batches = []

    def detect_inputs(self, inputs):
        ((images, meta),) = inputs
        self.batches.append(images.shape)
        return [self._look(image, row) for image, row in zip(images, meta, strict=True)]

    def _look(self, image, meta):
        height, width = meta[:2].astype(int)
        rows, columns = np.nonzero(image[0, :height, :width] > 2.0)
        if not len(rows):
            return found()
        scale = meta[[3, 2, 3, 2]]
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / scale
        area = (box[2] - box[0]) * (box[3] - box[1])
        return found((*box, 0.5 + area / 10_000, 1))


def test_an_object_on_the_edge_of_tiles_is_found_once_and_whole():
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[70:110, 90:130] = 255
    detector = Brightest((96, 128))
    tiling = Tiling(size=(96, 128), overlap=0.5, whole=False)
    ((number, pixels, one),) = Finder(detector, 2, tiling).find(iter([(7, rgb)]))
    assert number == 7 and pixels is rgb
    assert len(one.boxes) == 1 and one.boxes[0].tolist() == [90, 70, 130, 110]
    assert {shape[0] for shape in detector.batches} == {2}  # one batch size, one graph


def test_tiles_of_the_canvas_enter_at_their_own_scale_and_the_whole_comes_on_top():
    rgb = np.zeros((192, 256, 3), np.uint8)
    rgb[10:20, 10:30] = 255
    detector = Brightest((96, 128))
    list(Finder(detector, 1, Tiling(overlap=0.0)).find(iter([(0, rgb)])))
    assert len(detector.batches) == 5
    detector.batches.clear()
    list(Finder(detector, 1, Tiling()).find(iter([(0, rgb[:96, :128])])))
    assert len(detector.batches) == 1  # no larger than a tile


def test_the_plain_iou_is_the_same():
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 20, 20], [0, 0, 10, 10], [30, 30, 40, 40]])
    assert np.allclose(overlaps(boxes[0], boxes, "iou"), plain_iou(boxes[:1], boxes, 0.0)[0])
