# SPDX-License-Identifier: Apache-2.0
"""The command `check`: a data set with everything wrong, and what is written of it."""

import json
import shutil

import cv2
import numpy as np
import pytest

from src.base.errors import UserError
from src.commands.check import main
from src.model_utils.config import load_config
from tests.helpers.data_helpers import make_coco_root, picture, write_json

ANNO = "annotations/instances_{}.json"
STRANGE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven training pictures, some of them spoilt, and a validation split with one of them."""
    root = make_coco_root(tmp_path_factory.mktemp("data"))
    make_coco_root(root, 3, "val2017")
    train, val = (root / ANNO.format(split) for split in ("train2017", "val2017"))
    content = json.loads(train.read_text())
    first = content["images"][0]
    for number, name in ((901, STRANGE), (902, "cut.jpg")):
        shutil.copy(root / "train2017" / first["file_name"], root / "train2017" / name)
        content["images"].append({**first, "id": number, "file_name": name})
        box = [5, 5, 10, 10] if number == 902 else [-4, 2, 30, 30]
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 7, "bbox": box}
        )
    cut = root / "train2017" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    content["annotations"].append(
        {"id": 903, "image_id": first["id"], "category_id": 7, "bbox": [1, 1, 0, 5]}
    )
    write_json(train, content)
    for i in range(3):  # the first is the training split's, the others are their own
        name = f"img_{i}.v1.jpg"
        if i:
            cv2.imwrite(str(root / "val2017" / name), picture(50, 70, 100 + i))
    only_cats = json.loads(val.read_text())
    only_cats["annotations"] = [a for a in only_cats["annotations"] if a["category_id"] == 7]
    write_json(val, only_cats)
    return root


@pytest.fixture(scope="module")
def checked(root, tmp_path_factory):
    """The folder with what a check has written, and what it has printed."""
    import contextlib
    import io

    folder, printed = tmp_path_factory.mktemp("out"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([str(root), "--output_dir", str(folder), "--device_target", "CPU"]) == 0
    return folder, printed.getvalue()


def test_the_text_names_what_is_wrong(checked):
    _, text = checked
    assert "classes: the 2 of" in text
    assert "1 box without a positive width and height" in text
    assert "1 missing or undecodable image, skipped: cut.jpg" in text
    assert "1 box partly outside its image, clipped" in text
    assert "validation pictures that are (nearly) the same as training pictures: 1" in text
    assert "val has no object of 1 of the 2 classes: dog" in text
    assert "\x1b" not in text
    folder = checked[0]
    training = f"python train.py --config_path {folder}/advice.yaml --output_dir train"
    assert text.endswith(f"next: {training}\n")
    assert training in (folder / "data_check.html").read_text()


def test_the_numbers_are_json(checked):
    folder, _ = checked
    content = json.loads((folder / "data_check.json").read_text())
    train, val = content["splits"]
    assert (train["name"], val["name"]) == ("train", "val")
    assert train["findings"] == {"bad_image": 1, "clipped": 1, "degenerate": 1}
    assert sum(one["boxes"] for one in train["classes"]) == train["boxes"]
    group = content["duplicates"][0]
    assert group["identical"] and {split for split, _ in group["pictures"]} == {"train", "val"}
    labels = [row["label"] for row in content["anchors"]]
    assert labels[0] == "now" and any(label.startswith("advised") for label in labels)
    assert all(0 <= row["above_0.7"] <= row["above_0.5"] <= 1 for row in content["anchors"])


def test_the_advice_is_a_configuration(checked, root, tmp_path, capsys):
    folder, _ = checked
    path = str(folder / "advice.yaml")
    config = load_config(["--config_path", path])
    assert (config.coco_root, config.class_names) == (str(root), ("dog", "cat"))
    assert config.num_gts == 16 and config.device_target == "CPU"
    assert config.eval_interval == 1  # which tells the best weights
    assert config.box_convention == "modern"  # no weights ask for another one
    content = json.loads((folder / "data_check.json").read_text())
    for item in content["advice"]:
        for key, value in item["keys"].items():
            have = getattr(config, key)
            assert (list(have) if isinstance(have, tuple) else have) == value
    # With the advice as the present settings there is nothing left to advise, and it stays.
    mine = shutil.copy(path, tmp_path / "advice.yaml")
    before = mine.read_text()
    assert main(["--config_path", str(mine), "--output_dir", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "data_check.json").read_text())
    assert [item["keys"] for item in again["advice"] if item["keys"]] == []
    assert mine.read_text() == before
    assert load_config(["--config_path", str(tmp_path / "effective_advice.yaml")]) == config


def test_the_page_holds_all_and_runs_nothing_of_the_data(checked):
    folder, _ = checked
    page = (folder / "data_check.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("data:image/jpeg;base64,") > 10
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    for heading in ("Problems", "Advice", "Classes", "Anchors", "Pictures that are alike"):
        assert f"<h2>{heading}</h2>" in page
    assert "nearly the same" in page or "the same file" in page


def test_what_the_user_has_chosen_stays(root, tmp_path, capsys):
    settings = tmp_path / "mine.yaml"
    settings.write_text("batch_size: 3\nepoch_size: 5\nbase_lr: 0.01\nflip_ratio: 0.25\n")
    arguments = [str(root), "--config_path", str(settings), "--output_dir", str(tmp_path / "out")]
    assert main([*arguments, "--pictures", "2"]) == 0
    assert "note: train: 2 of 9 pictures were opened" in capsys.readouterr().out
    config = load_config(["--config_path", str(tmp_path / "out" / "advice.yaml")])
    assert (config.batch_size, config.epoch_size, config.base_lr) == (3, 5, 0.01)
    assert config.flip_ratio == 0.25 and config.files[-2:] == (
        str(settings),
        str(tmp_path / "out" / "advice.yaml"),
    )


def test_annotations_and_a_folder(root, tmp_path, capsys):
    rows = tmp_path / "rows.txt"
    rows.write_text("img_1.v1.jpg 1,1,20,20,1 5,5,30,30,2\nimg_2.v1.jpg 3,3,30,30,1\n")
    out = ["--output_dir", str(tmp_path / "out")]
    images = str(root / "train2017")
    assert main([str(rows), images, "--coco_classes", "cat,dog", *out]) == 0
    assert "2 images, 3 boxes" in capsys.readouterr().out
    assert main([str(root / ANNO.format("val2017")), str(root / "val2017"), *out]) == 0
    text = capsys.readouterr().out
    assert "instances_val2017.json: " in text
    assert "note: no validation split is looked at: it is the training split" in text
    assert "  - there is no validation part; `python -m src split " in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["no-such-folder"], "DATA no-such-folder: no such file or folder"),
        (["{root}", "{root}"], "is too much after"),
        (["{root}/annotations/instances_val2017.json"], "give the folder of its pictures"),
        (["{root}", "--pictures", "-1"], "--pictures: -1 is not 0 or more"),
        (["{root}", "--picture", "1"], "'picture' is not a key"),
        (["a", "b", "c"], "'c' is too much"),
        ([], "coco_root is empty"),
        (["{records}"], "holds converted records: `python -m src.record_check "),
    ],
)
def test_wrong_arguments_are_one_line(root, arguments, message, tmp_path):
    (tmp_path / "records" / "set").mkdir(parents=True)
    (tmp_path / "records" / "set" / "index.npz").touch()
    places = {"root": str(root), "records": str(tmp_path / "records")}
    arguments = [text.format(**places) for text in arguments]
    with pytest.raises(UserError, match=message) as caught:
        main([*arguments, "--output_dir", str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_pictures_that_are_all_bad_are_one_line(tmp_path):
    root = make_coco_root(tmp_path, 2)
    for path in (root / "train2017").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no usable image is left; 2 missing or undecodable"):
        main([str(root), "--output_dir", str(tmp_path / "out")])
    assert np.array_equal(sorted((tmp_path / "out").iterdir()), [])
