# SPDX-License-Identifier: Apache-2.0
"""Records of a converted split that are made when they are asked for."""

import numpy as np
import pytest

from src.data.stored_records import StoredRecords

INDEX = {
    "image_ids": [7, "b", 9],
    "file_names": ["a.jpg", "x/../b.jpg", "c.jpg"],
    "offsets": np.array([0, 2, 2, 3]),
    "boxes": np.arange(12, dtype=np.float32).reshape(3, 4),
    "labels": np.array([1, 2, 1], np.int32),
    "crowd": np.array([False, True, False]),
}


def test_each_record_has_its_own_boxes():
    records = StoredRecords("/pictures", INDEX)
    assert len(records) == 3 and [len(record.labels) for record in records] == [2, 0, 1]
    first, second, last = records
    assert (first.image_id, first.file_name, first.image_path) == (7, "a.jpg", "/pictures/a.jpg")
    assert (second.image_id, second.image_path) == ("b", "/pictures/b.jpg")
    assert second.is_empty and second.boxes.shape == (0, 4)
    np.testing.assert_array_equal(first.crowd, [False, True])
    np.testing.assert_array_equal(last.boxes, [[8, 9, 10, 11]])
    assert last.stated_size is None


def test_it_is_a_sequence():
    records = StoredRecords("/pictures", INDEX)
    assert records[-1].image_id == 9
    assert [record.image_id for record in records[1:]] == ["b", 9]
    with pytest.raises(IndexError):
        records[3]
