# SPDX-License-Identifier: Apache-2.0
"""Old names of modules."""

import importlib
import subprocess
import sys

import pytest

from src.base.moved import MOVED
from tests.helpers.paths import importing


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_is_the_module_of_today(old):
    with pytest.warns(DeprecationWarning, match=f"src.{MOVED[old]}; the old name goes"):
        sys.modules.pop(f"src.{old}", None)
        found = importlib.import_module(f"src.{old}")
    today = importlib.import_module(f"src.{MOVED[old]}")
    assert found is today and today.__spec__.name == f"src.{MOVED[old]}"


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="src.no_such_module"):
        importlib.import_module("src.no_such_module")


def test_importing_the_package_imports_nothing_else():
    code = "import src, sys; print({'numpy', 'yaml', 'mindspore'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=importing(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
