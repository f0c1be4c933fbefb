# SPDX-License-Identifier: Apache-2.0
"""Pages: escaped, without a network, sorted by all digits."""

import base64
import hashlib
import re

import jinja2
import numpy as np
import pytest

from src.images.reading import decode_image
from src.pages.elements import Cell, Column, CommandLine, Table, Tile, count_cell, number_cell
from src.pages.page import TEMPLATES, render_page
from src.pages.thumbnails import LONGEST_SIDE, thumbnail

TEMPLATE = """\
{% extends "page.html" %}
{% import "macros.html" as ui %}
{% block title %}{{ title }}{% endblock %}
{% block content %}
{{ ui.tiles(tiles) }}{{ ui.table(table) }}{{ ui.notes(notes) }}{{ ui.commands(commands) }}
{% endblock %}
"""
EVIL = "</script><script>alert(1)</script>\"'&"


def rendered(tmp_path, **values):
    (tmp_path / "own.html").write_text(TEMPLATE)
    (tmp_path / "own.js").write_text("let own = 1 < 2;")
    table = Table([Column(EVIL, help=EVIL)], [[Cell(EVIL)]], EVIL)
    given = {
        "title": EVIL,
        "tiles": [Tile(EVIL, EVIL, EVIL)],
        "table": table,
        "notes": [EVIL],
        "commands": [CommandLine(EVIL, EVIL)],
        **values,
    }
    return render_page("own.html", given, folder=tmp_path, scripts=["own.js"])


def test_texts_are_escaped_everywhere(tmp_path):
    html = rendered(tmp_path)
    assert "alert(1)" in html and "<script>alert" not in html
    assert html.count("<script>") == html.count("</script>") == 3  # theme, tables, own


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else(tmp_path):
    html = rendered(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert "own = 1 < 2" in html  # scripts are not escaped


def test_nothing_refers_to_the_network():
    for path in TEMPLATES.iterdir():
        assert "http" not in path.read_text().replace("http-equiv", ""), path.name


def test_a_name_that_is_not_given_is_an_error(tmp_path):
    (tmp_path / "own.html").write_text(
        '{% extends "page.html" %}{% block title %}{{ x }}{% endblock %}'
    )
    with pytest.raises(jinja2.UndefinedError, match="'x' is undefined"):
        render_page("own.html", {}, folder=tmp_path)


def test_cells_sort_by_all_digits():
    assert number_cell(1234.56789, 2) == Cell("1,234.57", 1234.56789)
    assert count_cell(1234567) == Cell("1,234,567", 1234567.0)
    assert number_cell(None) == count_cell(None) == Cell("-")
    assert number_cell(0.25, share=0.5).share == 0.5


@pytest.mark.parametrize("size", [(3000, 10), (10, 3000), (1, 1), (480, 640)])
def test_thumbnails_are_small_jpegs_of_the_same_picture(size):
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[..., 0] = 200
    small = thumbnail(rgb)
    assert max(small.width, small.height) <= LONGEST_SIDE and min(small[1:]) >= 1
    kind, data = small.uri.split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = decode_image(base64.b64decode(data), "thumbnail")
    assert decoded.shape == (small.height, small.width, 3)
    assert np.abs(decoded.mean((0, 1)) - [200, 0, 0]).max() < 3
