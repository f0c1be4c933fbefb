# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: a picture goes to the server, its boxes are laid over it."""

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("multipart", reason="the extra `serve` is not installed")

from src.serving.page import upload_page
from tests.helpers.browser import Browser, find_chromium
from tests.helpers.web import ByRed, served

CHROMIUM = find_chromium()


def choose(browser, path):
    """Choose a file as a user does."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=field)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_picture_is_sent_and_its_boxes_are_shown(tmp_path):
    Image.new("RGB", (60, 40), (153, 0, 0)).save(tmp_path / "red.png")  # found with score 0.6
    (tmp_path / "bad.png").write_text("no picture")
    page = upload_page(ByRed.class_names, 1_000_000, 0.5)
    boxes = "document.querySelectorAll('#boxes div').length"
    with served(ByRed(), page=page) as site, Browser(CHROMIUM) as browser:
        address = f"http://127.0.0.1:{site.port}/"
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.readyState === 'complete' && location.protocol === 'http:'")
        choose(browser, tmp_path / "red.png")
        browser.wait_for(f"{boxes} === 1")
        assert browser.run("document.querySelector('#boxes span').textContent") == "cat 0.60"
        assert browser.run("document.querySelectorAll('#rows tr').length") == 1
        slide = "score.value = 0.7; score.dispatchEvent(new Event('input'))"
        browser.run(f"{{ const score = document.getElementById('score'); {slide} }}")
        assert browser.run(boxes) == 0
        others = [p for p in browser.problems if not _is_to(address, p)]
        assert others == []  # nothing on the console, nothing asked elsewhere
        choose(browser, tmp_path / "bad.png")
        browser.wait_for("document.getElementById('status').classList.contains('bad')")
        assert "no picture of a known kind" in browser.run(
            "document.getElementById('status').textContent"
        )


def _is_to(address, problem):
    return isinstance(problem, str) and problem.removeprefix("blob:").startswith(address)
