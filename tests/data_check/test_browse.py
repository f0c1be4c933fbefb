# SPDX-License-Identifier: Apache-2.0
"""The command `browse`: sheets of true boxes and of augmentation."""

import cv2
import pytest

from src.base.errors import UserError
from src.commands.browse import main
from tests.helpers.data_helpers import make_coco_root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coco_root(tmp_path_factory.mktemp("data"), 5)


def sheets(root, folder, *own):
    arguments = ["--img_width", "96", "--img_height", "64", "--output_dir", str(folder)]
    assert main([str(root), *own, *arguments]) == 0
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sheets_are_drawn_without_a_conversion(root, tmp_path, capsys):
    found = sheets(root, tmp_path / "a", "--draws", "2", "--photometric", "True")
    assert sorted(found) == ["augmented_train_01.png", "truth_train_01.png"]
    assert f"sheet: {tmp_path / 'a' / 'truth_train_01.png'}" in capsys.readouterr().out
    pixels = cv2.imread(str(tmp_path / "a" / "augmented_train_01.png"))
    assert 3 * 440 < pixels.shape[1] < 4 * 440  # the picture, and two draws of it
    again = sheets(root, tmp_path / "b", "--draws", "2", "--photometric", "True")
    other = sheets(root, tmp_path / "c", "--draws", "2", "--seed", "2", "--photometric", "True")
    assert again == found and other["truth_train_01.png"] == found["truth_train_01.png"]
    assert other["augmented_train_01.png"] != found["augmented_train_01.png"]
    assert not [path for path in root.iterdir() if "MindRecord" in path.name]


def test_pictures_are_chosen(root, tmp_path):
    everything = sheets(root, tmp_path / "all", "--draws", "0")
    few = sheets(root, tmp_path / "few", "--draws", "0", "--start", "4")
    cats = sheets(root, tmp_path / "cats", "--draws", "0", "--only", "cat")
    assert set(everything) == set(few) == set(cats) == {"truth_train_01.png"}
    assert few != everything


@pytest.mark.parametrize(
    "own, message",
    [
        (["--pictures", "0"], "--pictures: 0 is not 1 to 1000"),
        (["--draws", "x"], "'x' is not a whole number"),
        (["--only", "cow"], "--only 'cow' is no class; there are dog, cat"),
        (["--split", "test"], "invalid choice"),
        (["--start", "9"], "no picture from number 9 on"),
        (["--split", "val"], "there is no validation part"),
    ],
)
def test_wrong_arguments_are_one_line(root, own, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        main([str(root), *own, "--output_dir", str(tmp_path)])
    assert "\n" not in str(caught.value)
