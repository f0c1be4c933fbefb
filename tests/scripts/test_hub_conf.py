# SPDX-License-Identifier: Apache-2.0
"""What MindSpore Hub calls."""

import importlib.util

import pytest

from src.base.errors import UserError
from tests.helpers.network_helpers import small_config
from tests.helpers.paths import REPO


@pytest.fixture(scope="module")
def create_network():
    spec = importlib.util.spec_from_file_location("hub_conf", REPO / "mindspore_hub_conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.create_network


def test_the_detector_with_the_settings_that_are_named(create_network):
    settings = small_config(num_classes=3).to_dict()
    network = create_network("faster_rcnn", **settings)
    assert network.rcnn.reg_scores.weight.shape == (1024, 12)


def test_other_networks_and_other_keys_are_errors(create_network):
    with pytest.raises(NotImplementedError, match="yolo is not in this repository"):
        create_network("yolo")
    with pytest.raises(TypeError, match="by name"):
        create_network("faster_rcnn", 81)
    with pytest.raises(UserError, match="'classes' is not a key; did you mean coco_classes"):
        create_network("faster_rcnn", classes=3)
