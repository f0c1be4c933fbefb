# SPDX-License-Identifier: Apache-2.0
"""The model zoo's names for the network: they build what the configuration describes."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from src.detector import build_detector
from src.model_utils.configuration.derived import DERIVED
from tests.helpers.network_helpers import small_config
from tests.helpers.paths import REPO

MODULES = ("faster_rcnn_resnet", "faster_rcnn_resnet50v1")


def _strides(network):
    block = network.backbone.layer2[0]
    return block.conv1.stride[-1], block.conv2.stride[-1]


@pytest.mark.parametrize("name", MODULES)
def test_the_zoo_s_name_builds_the_network_of_the_configuration(name):
    make = importlib.import_module(f"src.FasterRcnn.{name}").Faster_Rcnn_Resnet
    config = small_config(num_classes=3, backbone="resnet_v1_50")
    network, expected = make(config=config), build_detector(config)
    shapes = {p.name: p.shape for p in network.get_parameters()}
    assert shapes == {p.name: p.shape for p in expected.get_parameters()}
    assert _strides(network) == (2, 1)
    assert _strides(make(config.replace(backbone="resnet_v1.5_50"))) == (1, 2)


def test_any_object_with_the_settings_will_do():
    from src.FasterRcnn.faster_rcnn_resnet import Faster_Rcnn_Resnet

    config = small_config(num_classes=3)
    derived = {name: getattr(config, name) for name in DERIVED}
    network = Faster_Rcnn_Resnet(SimpleNamespace(**{**config.to_dict(), **derived}))
    assert network.rcnn.reg_scores.weight.shape == (1024, 12)


@pytest.mark.parametrize("name", MODULES)
def test_the_network_s_package_loads_nothing_above_it(name):
    code = f"import sys, src.FasterRcnn.{name}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split()
    packages = {module.split(".")[1] for module in loaded if module.startswith("src.")}
    assert "FasterRcnn" in packages and packages <= {"FasterRcnn", "base"}
