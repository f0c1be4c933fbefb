# SPDX-License-Identifier: Apache-2.0
"""Old names of modules."""

import importlib
import subprocess
import sys

import pytest

from src.base.moved import MOVED
from tests.helpers.paths import importing


def old_module(old):
    sys.modules.pop(f"src.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"src.{old} is now src.*; the old name goes"):
        return importlib.import_module(f"src.{old}")


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_is_the_module_of_today(old):
    found = old_module(old)
    today = [importlib.import_module(f"src.{name}") for name in MOVED[old].split()]
    if len(today) == 1:
        assert found is today[0] and found.__spec__.name == f"src.{MOVED[old]}"
    for module in today:
        own = [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        assert all(getattr(found, name) is getattr(module, name) for name in own)


def test_names_that_scripts_import():
    assert {"probe_image", "decode_image", "read_image"} <= set(dir(old_module("image_ops")))
    assert "META_KEY" in dir(old_module("checkpoint")) and "unzip" in dir(old_module("safe_zip"))
    assert "UserError" in dir(old_module("errors"))


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="src.no_such_module"):
        importlib.import_module("src.no_such_module")


def test_importing_the_package_imports_nothing_else():
    code = "import src, sys; print({'numpy', 'yaml', 'mindspore'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=importing(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
