# SPDX-License-Identifier: Apache-2.0
"""From COCO to VOC or YOLO and back: the same pictures, boxes and classes."""

import json
import os
from collections import defaultdict

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.commands.import_data import main
from src.commands.split import main as split
from src.data.formats.export import plain
from src.data.formats.recognise import require_parts
from tests.helpers import format_samples as samples
from tests.helpers.data_helpers import edit_json
from tests.helpers.format_samples import CLASSES, SAMPLES, TRAIN, VAL, add_picture


def table(path):
    """Picture -> (class, box, crowd) of its objects, in their order; and the classes."""
    content = json.loads(path.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    pictures = {i["id"]: os.path.basename(i["file_name"]) for i in content["images"]}
    boxes = defaultdict(list, {name: [] for name in pictures.values()})
    for a in content["annotations"]:
        row = names[a["category_id"]], a["bbox"], a["iscrowd"]
        boxes[pictures[a["image_id"]]].append(row)
    sizes = sorted((i["width"], i["height"]) for i in content["images"])
    return list(names.values()), boxes, sizes


def there_and_back(root, kind, folder, *options):
    """COCO files of train and val after a way through another format."""
    main(["--from", "coco", str(root), "--to", kind, str(folder / kind), *options])
    target = str(folder / f"{kind}-{{}}.json")
    main(["--from", kind, str(folder / kind), "--to", "coco", target, *options])
    return [folder / f"{kind}-{part}.json" for part in ("train", "val")]


@pytest.mark.parametrize("kind", ["voc", "yolo"])
@pytest.mark.parametrize("data", ["bccd", "coco128"])
def test_real_data_comes_back_as_it_was(kind, data, request, tmp_path):
    root = request.getfixturevalue(f"{data}_root")
    paths = there_and_back(root, kind, tmp_path)
    for path, part in zip(paths, ("train2017", "val2017"), strict=True):
        assert table(path) == table(root / f"annotations/instances_{part}.json")


def crowd_and_rest(root):
    """A COCO set with a crowd region, a picture without objects and boxes that are none."""
    samples.coco_own(root)
    add_picture(root / "train2017", "empty")

    def change(content):
        content["images"].append({"id": 99, "file_name": "empty.jpg"})
        first = content["annotations"][0]
        content["annotations"] += [
            {**first, "id": 100, "bbox": [1.25, 2.5, 3.125, 4], "iscrowd": 1},
            {**first, "id": 101, "bbox": [5, 5, 0, 3]},
            {**first, "id": 102, "image_id": 12345},
            {**first, "id": 103, "bbox": [60, 40, 20, 20]},
        ]

    edit_json(root / "annotations/instances_train2017.json", change)


def test_crowds_and_boxes_that_leave_the_picture(tmp_path, capsys):
    crowd_and_rest(tmp_path / "coco")
    _, boxes, _ = table(there_and_back(tmp_path / "coco", "voc", tmp_path)[0])
    assert boxes["empty.jpg"] == []
    assert boxes["a_1.jpg"][2:] == [
        ("cat", [1.25, 2.5, 3.125, 4.0], 1),
        ("cat", [60.0, 40.0, 20.0, 20.0], 0),
    ]
    told = capsys.readouterr().out
    assert "1 box without a positive width and height" in told
    assert "1 annotation of an image that the file does not list" in told
    _, boxes, _ = table(there_and_back(tmp_path / "coco", "yolo", tmp_path)[0])
    assert boxes["a_1.jpg"][2:] == [("cat", [60.0, 40.0, 4.0, 8.0], 0)]
    assert boxes["empty.jpg"] == []
    told = capsys.readouterr().out
    assert "1 crowd region, for which YOLO's files have no place" in told
    assert "1 box partly outside its image, clipped" in told


def test_pixels_of_voc_come_back_too(tmp_path):
    samples.coco_own(tmp_path / "coco")
    path, _ = there_and_back(tmp_path / "coco", "voc", tmp_path, "--voc_corners", "pixels")
    assert table(path)[1] == table(tmp_path / "coco/annotations/instances_train2017.json")[1]
    text = (tmp_path / "voc/Annotations/a_1.xml").read_text()
    assert "<xmin>5</xmin>" in text and "<xmax>36</xmax>" in text


def test_pixels_of_voc_are_known_again(tmp_path):
    samples.coco_own(tmp_path / "coco")
    voc = ["--to", "voc", str(tmp_path / "voc"), "--voc_corners", "pixels"]
    main(["--from", "coco", str(tmp_path / "coco"), *voc])
    main(["--from", "voc", str(tmp_path / "voc"), "--to", "coco", str(tmp_path / "{}.json")])
    own = table(tmp_path / "coco/annotations/instances_train2017.json")
    assert table(tmp_path / "train.json")[1] == own[1]


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_names_that_would_be_one(kind, tmp_path):
    """Pictures of one name in two parts, and two pictures that differ in their ending alone."""
    root = tmp_path / "coco"
    for part in ("train2017", "val2017"):
        add_picture(root / part, "a")
        (root / part / "a.jpeg").write_bytes((root / part / "a.jpg").read_bytes())
        images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpeg"}]
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
        samples.write(root / f"annotations/instances_{part}.json", json.dumps(content))
    for path in there_and_back(root, kind, tmp_path):
        names = [image["file_name"] for image in json.loads(path.read_text())["images"]]
        assert len(names) == 2 and len(set(names)) == 2
    parts = require_parts(str(tmp_path / kind))
    records = [
        record.image_path
        for part in parts
        for record in part.records(["cat"], keep_empty=True, max_boxes=0, to_learn=False)[0]
    ]
    assert len(set(records)) == 4 and all(map(os.path.isfile, records))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layout_becomes_coco(name, tmp_path, capsys):
    sample = SAMPLES[name]
    sample.make(tmp_path / "data")
    source = ["--from", sample.kind, str(tmp_path / "data")]
    if name == "voc_own":  # which has its training pictures in two parts
        source += ["--part", "train", "--part", "val"]
    main([*source, "--to", "coco", str(tmp_path / "{}.json")])
    assert f"is {sample.layout} (parts: " in capsys.readouterr().out
    for part, truths in (("train", TRAIN), ("val", VAL)):
        if part == "val" and not sample.has_val:
            continue
        path = tmp_path / f"{part}.json"
        _, boxes, sizes = table(path)
        assert sizes == [(samples.WIDTH, samples.HEIGHT)] * len(truths)
        for truth in truths:
            expected = [
                (CLASSES[b[0]], pytest.approx(corners(b), abs=1e-4), 0) for b in truth.boxes
            ]
            assert boxes[f"{truth.name}.jpg"] == expected
        first = json.loads(path.read_text())["images"][0]
        assert type(first["id"]) is int


def corners(box):
    _, x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def test_links_and_copies(tmp_path):
    samples.coco_own(tmp_path / "coco")
    source = ["--from", "coco", str(tmp_path / "coco"), "--part", "train2017"]
    picture = tmp_path / "coco/train2017/a_1.jpg"
    main([*source, "--to", "yolo", str(tmp_path / "linked")])
    assert picture.samefile(tmp_path / "linked/images/train/a_1.jpg")
    main([*source, "--to", "yolo", str(tmp_path / "copied"), "--copy"])
    copy = tmp_path / "copied/images/train/a_1.jpg"
    assert not picture.samefile(copy) and copy.read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--from", "coco", "{data}", "--to", "pascal", "{new}"], "pascal is no format here"),
        (["--from", "txt", "{data}", "--to", "coco", "{new}"], "txt is no format here"),
        (["--from", "coco", "{data}", "--to", "coco", "{new}.json"], "put {} into the file's name"),
        (["--from", "voc", "{data}", "--to", "coco", "{new}"], "no data set of kind voc"),
        (
            ["--from", "coco", "{data}", "--to", "voc", "{data}"],
            "exists already; set --to to a new",
        ),
        (
            ["--from", "coco", "{data}", "--part", "x", "--to", "voc", "{new}"],
            "has no part x; it has",
        ),
    ],
)
def test_requests_that_are_refused(arguments, message, tmp_path):
    samples.coco_own(tmp_path / "data")
    named = {"{data}": str(tmp_path / "data"), "{new}": str(tmp_path / "new")}
    for mark, path in named.items():
        arguments = [argument.replace(mark, path) for argument in arguments]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        main(arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_picture_leaves_nothing_behind(tmp_path):
    samples.coco_own(tmp_path / "data")
    (tmp_path / "data/val2017/c_1.jpg").unlink()
    with pytest.raises(UserError, match="1 of the 2 images that .*val2017.json names do not exist"):
        main(["--from", "coco", str(tmp_path / "data"), "--to", "voc", str(tmp_path / "new")])
    assert os.listdir(tmp_path) == ["data"]


def test_a_file_is_not_replaced_unasked(tmp_path):
    samples.labelme(tmp_path / "data")
    target = tmp_path / "new.json"
    target.write_text("mine")
    arguments = ["--from", "labelme", str(tmp_path / "data"), "--to", "coco", str(target)]
    with pytest.raises(UserError, match="new.json exists already; give another, or --overwrite"):
        main(arguments)
    assert target.read_text() == "mine"
    main([*arguments, "--overwrite"])
    assert len(table(target)[1]) == len(TRAIN)


@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_numbers_as_people_write_them(value):
    text = plain(value, 6)
    assert abs(float(text) - value) <= 5e-7 and "e" not in text and text != "-0"
    assert "." not in text or text[-1] not in "0."


def test_parts_of_one_role_have_its_key(tmp_path):
    for part, truths in (("train2017", TRAIN), ("val2014", VAL[:1]), ("val2017", VAL[1:])):
        samples.add_pictures(tmp_path / f"coco/{part}", truths)
        text = samples.coco_text(truths)
        samples.write(tmp_path / f"coco/annotations/instances_{part}.json", text)
    main(["--from", "coco", str(tmp_path / "coco"), "--to", "yolo", str(tmp_path / "yolo")])
    content = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert content["train"] == "images/train"
    assert sorted(content["val"]) == ["images/val2014", "images/val2017"]
    sizes = {part.name: len(part.read().images) for part in require_parts(str(tmp_path / "yolo"))}
    assert sizes == {"train": len(TRAIN), "val": len(VAL)}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/null", path)])
def test_only_a_file_is_replaced(make, tmp_path):
    samples.labelme(tmp_path / "data")
    target = tmp_path / "new.json"
    make(target)
    mode = target.lstat().st_mode
    arguments = ["--from", "labelme", str(tmp_path / "data"), "--to", "coco", str(target)]
    with pytest.raises(UserError, match="exists already and is not a file"):
        main([*arguments, "--overwrite"])
    assert target.lstat().st_mode == mode


NAMES = (
    ".hidden.jpg",
    ".folder/a.jpg",
    "__MACOSX/a.jpg",
    "cat.jpg.png",
    "cat.xml.jpg",
    '"q".jpg',
    '"a b".jpg',
    "cat 1.jpg",
    "x/images/a.jpg",
    "x/labels/a.jpg",
    "plain",
)


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_no_name_loses_boxes(kind, tmp_path):
    """Each picture has a box of its own place; all of them come back with it."""
    images, annotations = [], []
    for number, name in enumerate(NAMES, start=1):
        path = tmp_path / "coco/train" / name
        add_picture(tmp_path, "any", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "any.jpg").rename(path)
        images.append({"id": number, "file_name": name})
        box = [number, number, 8, 8]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "cat"}]
    samples.write(tmp_path / "coco/annotations/instances_train.json", json.dumps(content))
    main(["--from", "coco", str(tmp_path / "coco"), "--to", kind, str(tmp_path / "new")])
    (part,) = require_parts(str(tmp_path / "new"), kind)
    records, report = part.records(["cat"], keep_empty=True, max_boxes=0, to_learn=True)
    assert not report.counts
    found = {}
    for record in records:
        with open(record.image_path, "rb") as file:
            found[file.read()] = record.boxes.tolist()
    for number, name in enumerate(NAMES, start=1):
        data = (tmp_path / "coco/train" / name).read_bytes()
        expected = [pytest.approx([number, number, number + 8, number + 8], abs=1e-3)]
        assert found[data] == expected


@pytest.mark.parametrize("value", ["NaN", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("command", ["import", "split"])
def test_numbers_that_json_does_not_have_are_dropped(command, value, tmp_path, capsys):
    root = tmp_path / "data"
    samples.add_pictures(root / "images", TRAIN)
    text = samples.coco_text(TRAIN, folder="images/")
    text = text.replace('"bbox": [4, 8,', f'"bbox": [4, {value},').replace(
        '"area": 768', '"area": NaN'
    )
    samples.write(root / "result.json", text)
    if command == "import":
        main(["--from", "coco", str(root), "--to", "coco", str(tmp_path / "new.json")])
        paths = [tmp_path / "new.json"]
    else:
        split([str(root), "--val", "0.5"])
        paths = list((root / "annotations").iterdir())
    read = [json.loads(path.read_text(), parse_constant=pytest.fail) for path in paths]
    assert sum(len(content["annotations"]) for content in read) == 5
    assert "1 box with NaN or infinite coordinates, dropped" in capsys.readouterr().out


def test_other_numbers_that_json_does_not_have_are_refused(tmp_path):
    samples.coco_label_studio(tmp_path)
    path = tmp_path / "result.json"
    path.write_text(path.read_text().replace('"segmentation": []', '"segmentation": [[NaN]]'))
    with pytest.raises(UserError, match="new.json: not written: NaN or infinity"):
        main(["--from", "coco", str(tmp_path), "--to", "coco", str(tmp_path / "new.json")])
    assert not (tmp_path / "new.json").exists()


def test_the_source_is_not_replaced(tmp_path):
    samples.coco_label_studio(tmp_path)
    path = tmp_path / "result.json"
    before = path.read_text()
    with pytest.raises(UserError, match="result.json is what is read; give another"):
        main(["--from", "coco", str(tmp_path), "--to", "coco", str(path), "--overwrite"])
    assert path.read_text() == before
