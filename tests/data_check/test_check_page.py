# SPDX-License-Identifier: Apache-2.0
"""The page of a check in a real browser."""

import pytest

from src.commands.check import main
from tests.helpers.browser import Browser, find_chromium
from tests.helpers.data_helpers import make_coco_root

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")


def test_the_page_opens_and_its_tables_sort(tmp_path):
    root = make_coco_root(tmp_path / "data")
    assert main([str(root), "--output_dir", str(tmp_path)]) == 0
    first = "document.querySelector('#classes tbody td').textContent"
    with Browser(find_chromium()) as browser:
        browser.open(tmp_path / "data_check.html", width=400, dark=True)
        assert browser.run("document.title") == "Data check: data"
        assert browser.run("document.documentElement.scrollWidth") <= 400  # on a phone
        assert browser.run("[...document.images].every(image => image.naturalWidth > 0)")
        before = browser.run(first)
        browser.run("document.querySelector('#classes th button').click()")
        names = {before, browser.run(first)}
        browser.run("document.querySelector('#classes th button').click()")
        assert names | {browser.run(first)} == {"cat", "dog"}
        assert browser.problems == []
