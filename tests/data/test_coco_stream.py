# SPDX-License-Identifier: Apache-2.0
"""Large COCO files, read piece by piece, give what whole ones give: records, reports, errors."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.data import coco_stream
from src.data.annotation_table import AnnotationTable, place_of
from src.data.coco_annotations import records_of
from src.data.coco_file import CocoFile

NAMES = ("a", "b")
_LARGEST = 1 << 30
_ANNOTATION = {"image_id": 1, "category_id": 7, "bbox": [1, 2.5, 10, 20]}
_CONTENT = {
    "info": {"year": 2017},
    "images": [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 60, "flickr_url": "..."}],
    "annotations": [_ANNOTATION, {**_ANNOTATION, "iscrowd": 1, "segmentation": [[1, 2, 3, 4]]}],
    "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
}


def _written(folder, content):
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def _outcome(path, skips_broken, compact):
    """The records and the report's lines, or the error."""
    try:
        file = CocoFile.read(path, unannotated=True, compact=compact)
        records, report = records_of(
            file, "/pictures", NAMES, keep_empty=True, to_learn=False, skips_broken=skips_broken
        )
    except UserError as error:
        return str(error)
    values = [
        (r.image_id, r.file_name, r.boxes.tolist(), r.labels.tolist(), r.crowd.tolist())
        for r in records
    ]
    return repr(values), report.lines(), file.class_names()


_ODD = st.sampled_from([None, "x", [], {}, True, 1.0, 2.5, -1, "1", 10**30, float("nan"), 1e308])
_IDS = st.sampled_from([1, 2, "1", "two", 1.0, 2**63, -(2**63), 3]) | _ODD
_BOX = st.lists(st.integers(0, 60) | st.floats(-10, 60), min_size=4, max_size=4)
_ENTRY = st.fixed_dictionaries(
    {"image_id": st.integers(1, 2), "category_id": st.sampled_from([7, 9]), "bbox": _BOX},
    optional={"iscrowd": st.sampled_from([0, 1, True, 0.0]), "ignore": st.integers(0, 1)},
)
_ANY_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "image_id": _IDS,
        "category_id": st.sampled_from([7, 9, 11, "7", 7.0]) | _ODD,
        "bbox": st.lists(_ODD | st.integers(0, 9), max_size=5) | _ODD,
        "iscrowd": _ODD,
        "ignore": _ODD,
    },
)


@settings(deadline=None, max_examples=150)
@given(
    annotations=st.lists(_ENTRY | _ENTRY | _ENTRY | _ANY_ENTRY, max_size=8),
    image_ids=st.lists(_IDS, min_size=1, max_size=3),
    skips_broken=st.booleans(),
    part=st.integers(1, 40),
)
def test_as_the_whole_file(tmp_path_factory, annotations, image_ids, skips_broken, part):
    content = {
        "annotations": annotations,
        "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg", "width": 9}]
        + [{"id": id_, "file_name": f"more/{number}.jpg"} for number, id_ in enumerate(image_ids)],
        "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}, {"id": 11, "name": "c"}],
    }
    path = _written(tmp_path_factory.getbasetemp(), content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_stream, "_PART", part)
        ours = _outcome(path, skips_broken, compact=True)
    assert ours == _outcome(path, skips_broken, compact=False)


@pytest.mark.parametrize("part", [1, 5, 1000])
def test_what_is_kept(tmp_path, monkeypatch, part):
    monkeypatch.setattr(coco_stream, "_PART", part)
    content = coco_stream.stream_coco(_written(tmp_path, _CONTENT), _LARGEST)
    assert content["info"] == {"year": 2017}
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 60}]
    assert content["categories"] == _CONTENT["categories"]
    table = content["annotations"]
    assert isinstance(table, AnnotationTable) and not table.odd
    assert list(table) == table[:] == [{**_ANNOTATION, "iscrowd": crowd} for crowd in (0, 1)]
    with pytest.raises(IndexError):
        table[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"images": [], "annotations": []',
        '{"images": []} x',
        '{"images": [], "images": []}',
        '{"images": [1]}',
        '{"annotations": [{}',
        '{"annotations": [{},]}',
        '{"annotations" [{}]}',
        '{"annotations": [{"id": 1e}]}',
        '{"info": 12',
        "{1: 2}",
        '{"info": ' + "9" * 5000 + "}",
        '{"info": ' + "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1") + "\0",
    ],
)
def test_other_files_are_left_to_who_reads_them_whole(tmp_path, text):
    path = _written(tmp_path, text)
    assert coco_stream.stream_coco(path, _LARGEST) is None
    with pytest.raises(UserError) as whole:
        CocoFile.read(path)
    with pytest.raises(UserError) as compact:
        CocoFile.read(path, compact=True)
    assert str(compact.value) == str(whole.value)


def test_bounds(tmp_path, monkeypatch):
    path = _written(tmp_path, _CONTENT)
    assert coco_stream.stream_coco(path, 100) is None
    assert coco_stream.stream_coco(str(tmp_path), _LARGEST) is None
    assert coco_stream.stream_coco(str(tmp_path / "none.json"), _LARGEST) is None
    monkeypatch.setattr(coco_stream, "_PART", 10)
    monkeypatch.setattr(coco_stream, "_LONGEST", 20)
    assert coco_stream.stream_coco(path, _LARGEST) is None


def test_a_byte_order_mark_and_line_ends(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(_CONTENT, indent=2).replace("\n", "\r\n").encode()
    )
    assert len(coco_stream.stream_coco(str(path), _LARGEST)["annotations"]) == 2


def test_places_of_ids():
    wanted = np.array([5, 7, -3, 2**63 - 1, 6])
    np.testing.assert_array_equal(place_of(["5", 7, -3, 2**70, 5], wanted), [4, 1, 2, -1, -1])
    np.testing.assert_array_equal(place_of(["a"], wanted), [-1] * 5)
