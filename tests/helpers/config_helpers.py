# SPDX-License-Identifier: Apache-2.0
"""What the tests of the configuration share."""

import os

import pytest

from src.base.errors import UserError
from src.model_utils.config import DEFAULT_CONFIG, load_config
from tests.helpers.paths import RESOURCES

ZOO_FILE = str(RESOURCES / "model_zoo_config.yaml")
ROOT = os.path.dirname(DEFAULT_CONFIG)


def write(path, text):
    """Write the text and return the path as a string."""
    path.write_text(text)
    return str(path)


def message(argv):
    """The one line of the error that `load_config(argv)` ends with."""
    with pytest.raises(UserError) as caught:
        load_config(argv)
    text = str(caught.value)
    assert "\n" not in text and text
    return text
