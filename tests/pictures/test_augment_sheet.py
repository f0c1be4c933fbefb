# SPDX-License-Identifier: Apache-2.0
"""The sheet of augmented training pictures."""

import cv2
import numpy as np
import pytest

from src.base.errors import UserError
from src.commands.augment_sheet import main
from tests.helpers.data_helpers import make_coco_root


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    root = make_coco_root(tmp_path_factory.mktemp("data"), portraits=3)
    values = {
        "coco_root": root,
        "coco_classes": "cat,dog",
        "resize": "short_edge",
        "min_size": "[96, 128]",
        "max_size": 192,
        "scale_jitter": "[0.5, 2.0]",
        "crop_ratio": 0.5,
        "expand_ratio": 1.5,
        "photometric": True,
        "device_target": "CPU",
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


def sheet(arguments, folder, *own):
    assert main([*arguments, "--output_dir", str(folder), *own]) == 0
    return (folder / "augmented.png").read_bytes()


def test_a_sheet_is_the_same_again_and_another_one_in_another_epoch(arguments, tmp_path, capsys):
    first = sheet(arguments, tmp_path / "a", "--pictures", "7")
    assert f"augmented pictures: {tmp_path / 'a' / 'augmented.png'}" in capsys.readouterr().out
    assert sheet(arguments, tmp_path / "b", "--pictures", "7") == first
    assert sheet(arguments, tmp_path / "c", "--pictures", "7", "--epoch", "2") != first
    pixels = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[1] > 4 * 440 and pixels.shape[0] > 500  # two rows of four


@pytest.mark.parametrize(
    "own, message",
    [
        (["--pictures", "0"], "--pictures: 0 is not 1 to 1000"),
        (["--pictures", "x"], "'x' is not a whole number"),
        (["--epoch", "0"], "--epoch: 0 is not 1 or more"),
        (["--augmentations", "[flip]"], "has to have resize once"),
        (["--picture", "3"], "'picture' is not a key"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, own, message):
    with pytest.raises(UserError, match=message) as caught:
        main([*arguments, *own])
    assert "\n" not in str(caught.value)
