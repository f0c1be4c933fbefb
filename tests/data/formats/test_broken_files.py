# SPDX-License-Identifier: Apache-2.0
"""Files, rows and entries of others that cannot be used: one ends a training, a look lists all."""

import pytest

from src.base.errors import UserError
from src.commands.browse import main as browse
from src.commands.check import main as check
from src.data.file_classes import with_file_classes
from src.data.source import data_source
from src.model_utils.config import load_config
from tests.helpers import format_samples as samples
from tests.helpers.data_helpers import edit_json
from tests.helpers.format_samples import CLASSES, TRAIN, add_pictures, labelme_text, write


def _cut(folder, *names):
    for name in names:
        path = folder / name
        path.write_text(path.read_text()[:-40])


def _voc(root):
    samples.voc_label_studio(root)
    _cut(root / "Annotations", "a_1.xml", "b_1.xml")


def _yolo(root):
    samples.yolo_label_studio(root)
    write(root / "labels/a_1.txt", "0 0.5 0.5\n")
    write(root / "labels/b_1.txt", "7 0.5 0.5 0.1 0.1\n")


def _labelme(root):
    samples.labelme(root)
    _cut(root, "a_1.json")
    write(root / "b_1.json", labelme_text(TRAIN[2], shapes=3))


def _coco(root):
    samples.coco_label_studio(root)

    def spoil(content):
        for number, entry in enumerate(content["annotations"]):
            if number in (0, 1, 3):  # all boxes of a_1 and b_1
                entry["bbox"] = [1, 2, 3]

    edit_json(root / "result.json", spoil)


def _txt(root):
    add_pictures(root, TRAIN)
    rows = ["a_1.jpg 4,8,36,x,1", "a_2.jpg 8,12,24,36,2", "b_1.jpg 0,0,64,48", "b_2.jpg 2,2,9,9,1"]
    write(root / "rows.txt", "\n".join([*rows, "a_2.jpg 1,1,2,2,1"]))


BROKEN = {  # -> how many, and what the first is said to be
    "voc": (_voc, 2, "a_1.xml is not XML"),
    "yolo": (_yolo, 2, "a_1.txt, line 1: 3 numbers"),
    "labelme": (_labelme, 2, "a_1.json is not valid JSON"),
    "coco": (_coco, 3, "has bbox"),
    "txt": (_txt, 3, "rows.txt, line 1: box"),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path):
    """The name of a kind, the folder of such a set, and the arguments that name it."""
    root = tmp_path / "data"
    BROKEN[request.param][0](root)
    data = [str(root)]
    if request.param == "txt":
        data = [str(root / "rows.txt"), str(root), "--coco_classes", *CLASSES]
    return request.param, root, data


def test_all_of_them_are_listed_and_the_rest_is_looked_at(broken, tmp_path, capsys):
    kind, _, data = broken
    _, number, first = BROKEN[kind]
    assert check([*data, "--output_dir", str(tmp_path / "out"), "--device_target", "CPU"]) == 0
    lines = capsys.readouterr().out.splitlines()
    title = next(line for line in lines if "cannot be used" in line)
    assert title.startswith(f"  {number} ")
    place = lines.index(title)
    listed = [line for line in lines[place + 1 :] if line.startswith("    - ")]
    assert len(listed) == number and first in listed[0]
    assert "that cannot be used: a training does not begin" in (
        (tmp_path / "out/data_check.html").read_text()
    )
    assert any(line.startswith("  boxes a picture: ") for line in lines)
    assert not any("without annotations, left out" in line for line in lines)
    assert browse([*data, "--draws", "0", "--output_dir", str(tmp_path / "out")]) == 0
    assert f"{number} " in capsys.readouterr().err


def test_a_training_ends_at_the_first(broken):
    kind, root, data = broken
    where = ["--coco_root", str(root)]
    if kind == "txt":
        where = ["--dataset", "txt", "--anno_path", data[0], "--image_dir", data[1], *data[2:]]
    with pytest.raises(UserError, match=BROKEN[kind][2]):
        data_source(with_file_classes(load_config(where))[0], "train").read(max_boxes=0)


def test_only_so_many_are_listed(tmp_path, capsys):
    samples.voc_label_studio(tmp_path / "data")
    for number in range(30):
        write(tmp_path / f"data/Annotations/z_{number}.xml", "<annotation>")
    assert check([str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "  30 annotation files that cannot be used" in out
    assert out.count("    - annotation file") == 20 and "    - and 10 more" in out


def test_nothing_but_broken_files(tmp_path, capsys):
    samples.voc_label_studio(tmp_path)
    _cut(tmp_path / "Annotations", *(f"{truth.name}.xml" for truth in TRAIN))
    arguments = [str(tmp_path), "--coco_classes", *CLASSES, "--output_dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="4 annotation files that cannot be used"):
        check(arguments)


def test_a_validation_split_that_cannot_be_used_does_not_end_a_check(tmp_path, capsys):
    samples.voc_roboflow(tmp_path / "data")
    for path in (tmp_path / "data/valid").glob("*.xml"):
        path.write_text("<annotation>")
    assert check([str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "note: no validation split is looked at: " in told and "advice:" in told
