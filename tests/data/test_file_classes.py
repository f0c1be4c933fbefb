# SPDX-License-Identifier: Apache-2.0
"""Classes that nobody has named come from the training file."""

import pytest

from src.base.errors import UserError
from src.data.file_classes import with_file_classes
from src.data.mindrecord import ensure_mindrecord
from src.model_utils.config import load_config
from tests.helpers.data_helpers import ANNO, edit_json, make_coco_root

COCO = load_config([]).class_names


@pytest.fixture
def root(tmp_path):
    return make_coco_root(tmp_path)


def config_of(root, *arguments):
    return load_config(["--coco_root", str(root), "--device_target", "CPU", *arguments])


@pytest.mark.parametrize("arguments", [[], ["--coco_classes", "auto"]])
def test_classes_are_the_files_in_its_order(root, arguments):
    config, lines = with_file_classes(config_of(root, *arguments))
    assert config.coco_classes == ("background", "dog", "cat") and config.num_classes == 3
    assert not config.is_given("coco_classes")  # a checkpoint's classes may take their place
    assert lines == [
        f"classes: the 2 of {root / ANNO}, in its order: dog, cat; coco_classes takes others"
    ]
    assert ensure_mindrecord(config, "train").class_names == ("dog", "cat")


def test_a_list_of_the_users_stays(root):
    config = config_of(root, "--coco_classes", "cat,dog")
    assert with_file_classes(config) == (config, [])


@pytest.mark.parametrize("more", [[], ["unicorn"]])
def test_cocos_classes_stay_in_their_order_where_the_file_has_them_all(root, more):
    names = [*more, *COCO[::-1]]
    edit_json(
        root / ANNO,
        lambda content: content.update(
            categories=[{"id": i, "name": name} for i, name in enumerate(names)]
        ),
    )
    config = config_of(root)
    assert with_file_classes(config) == (config, []) and config.class_names == COCO


def test_another_kind_of_data_keeps_its_classes(tmp_path):
    config = load_config(["--dataset", "txt", "--image_dir", str(tmp_path), "--anno_path", "a.txt"])
    assert with_file_classes(config) == (config, [])


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "has no name|empty name"),
        ("x\ny", "control character.* give a list of your own"),
        (7, "has name 7; a category needs a name"),
    ],
)
def test_names_that_cannot_be_classes(root, name, message):
    edit_json(root / ANNO, lambda content: content["categories"][0].update(name=name))
    with pytest.raises(UserError, match=message) as caught:
        with_file_classes(config_of(root))
    assert "instances_train2017.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_category_that_only_stands_above_others_is_no_class(root):
    """As Roboflow's exports begin with one; values that cannot be are said elsewhere."""

    def change(content):
        for category in content["categories"]:
            category["supercategory"] = "animals"
        content["categories"] += [
            {"id": 0, "name": "animals", "supercategory": "none"},
            {"id": 8, "name": "zebra", "supercategory": ["none"]},
        ]
        content["annotations"].append({"category_id": [0]})

    edit_json(root / ANNO, change)
    config, _ = with_file_classes(config_of(root))
    assert config.class_names == ("dog", "cat", "zebra")


def test_two_categories_of_one_name_are_refused(root):
    def change(content):
        content["categories"].append({"id": 9, "name": "cat"})
        content["annotations"][0]["category_id"] = 9

    edit_json(root / ANNO, change)
    with pytest.raises(UserError, match="2 categories have the name 'cat'"):
        with_file_classes(config_of(root))


def test_a_missing_file_is_named(root):
    (root / ANNO).unlink()
    with pytest.raises(UserError, match="instances_train2017.json"):
        with_file_classes(config_of(root))
