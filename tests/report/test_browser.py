# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: no error, nothing from the network, and controls that work."""

import pytest

from src.model_utils.config import load_config
from src.report.build import write_report
from tests.helpers.browser import Browser, find_chromium
from tests.helpers.report_runs import make_run

VISIBLE = "[...document.querySelectorAll('.shot:not([hidden]) rect:not(.off)')]"
DETECTIONS = f"{VISIBLE}.filter((r) => !['truth', 'crowd'].includes(r.classList[0]))"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run, rows, evaluation = make_run(tmp_path_factory.mktemp("run"), images=6)
    return write_report(load_config([]), run), evaluation


@pytest.fixture(scope="module")
def browser():
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium), or set CHROMIUM")
    with Browser(program) as browser:
        yield browser


def slide(browser, threshold):
    browser.run(
        f"const s = document.getElementById('controls').elements.threshold; s.value = {threshold};"
        "s.dispatchEvent(new Event('input', { bubbles: true }))"
    )


def column(browser, table, heading):
    """The texts of a column of the table that has this id around it."""
    return browser.run(
        f"(() => {{ const t = document.querySelector('{table} table.sortable');"
        f"const n = [...t.tHead.rows[0].cells].findIndex((c) => c.innerText.trim() == '{heading}');"
        "return [...t.tBodies[0].rows].map((r) => r.cells[n].innerText.trim()) })()"
    )


def click_heading(browser, table, heading):
    browser.run(
        f"[...document.querySelector('{table} table.sortable').tHead.querySelectorAll('button')]"
        f".find((button) => button.innerText == '{heading}').click()"
    )


def test_it_opens_by_day_and_night_on_a_desk_and_on_a_phone(browser, made):
    colours = set()
    for width in (1200, 390):
        for dark in (False, True):
            browser.open(made[0], width=width, dark=dark)
            # Tables scroll by themselves; the page does not, sideways.
            assert browser.run("document.documentElement.scrollWidth") == width
            colours.add(browser.run("getComputedStyle(document.body).backgroundColor"))
            drawn = "document.querySelector('.plot svg').getBoundingClientRect().width"
            assert browser.run(drawn) > 250
    assert len(colours) == 2 and browser.problems == []


def test_the_switch_turns_the_colours_around(browser, made):
    browser.open(made[0], dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    before = browser.run(background)
    browser.run("document.getElementById('theme').click()")
    assert browser.run(background) != before
    browser.run("document.getElementById('theme').click()")
    assert browser.run(background) == before and browser.problems == []


def test_the_slider_hides_boxes_and_counts_as_the_evaluation_does(browser, made):
    browser.open(made[0])
    pictures = {p["file_name"]: p for g in ("worst", "best") for p in made[1]["pictures"][g]}
    shown = browser.run(
        "[...document.querySelectorAll('.shot figcaption')].map((c) =>"
        " [c.children[0].innerText, c.children[1].innerText])"
    )
    assert len(shown) == len(pictures)
    for name, counts in shown:  # at first the threshold is the evaluation's
        picture = pictures[name]
        assert counts == "{correct} correct, {false} false, {missed} missed".format(**picture)
    at_first = browser.run(f"{DETECTIONS}.length")
    slide(browser, 0.05)
    everything = browser.run(f"{DETECTIONS}.length")
    found = [box["score"] for picture in pictures.values() for box in picture["detections"]]
    assert everything == sum(score >= 0.05 for score in found) > at_first
    slide(browser, 0.8)
    assert browser.run(f"{DETECTIONS}.length") == sum(score >= 0.8 - 1e-6 for score in found)
    about = browser.run(
        f"(() => {{ const box = {DETECTIONS}[0];"
        "box.dispatchEvent(new MouseEvent('click', { bubbles: true }));"
        "return [box.textContent, box.closest('.shot').querySelector('.about').textContent] })()"
    )
    assert about[0] == about[1] != ""
    slide(browser, 1)
    assert browser.run(f"{DETECTIONS}.length") == 0
    assert browser.problems == []


def test_classes_and_kinds_of_error_are_filtered(browser, made):
    browser.open(made[0])
    slide(browser, 0.05)
    browser.run(
        "const c = document.getElementById('controls');"
        "[...c.querySelectorAll('[name=kind]')].filter((b) => b.value != 'background')"
        ".forEach((b) => b.click())"
    )
    kinds = browser.run(f"[...new Set({VISIBLE}.map((r) => r.classList[0]))]")
    assert kinds == ["background"]
    label = browser.run(
        "(() => { const s = document.getElementById('controls').elements.label;"
        "s.selectedIndex = 1; s.dispatchEvent(new Event('input', { bubbles: true }));"
        "return s.value })()"
    )
    labels = browser.run(f"[...new Set({VISIBLE}.map((r) => r.dataset.label))]")
    assert labels in ([label], []) and browser.problems == []


def test_a_click_on_a_heading_sorts(browser, made):
    browser.open(made[0])
    as_written = column(browser, "#epochs", "step")
    click_heading(browser, "#epochs", "step")
    assert column(browser, "#epochs", "step") == as_written[::-1]  # numbers: largest first
    click_heading(browser, "#epochs", "step")
    assert column(browser, "#epochs", "step") == as_written
    click_heading(browser, "#evaluation", "class")
    names = [entry["name"] for entry in made[1]["classes"]]
    assert column(browser, "#evaluation", "class") == sorted(names)
    click_heading(browser, "#evaluation", "AP")
    ap = {entry["name"]: entry["ap"] for entry in made[1]["classes"]}
    assert column(browser, "#evaluation", "class") == sorted(ap, key=ap.get, reverse=True)
    assert browser.problems == []


def test_the_pointer_shows_a_charts_values(browser, made):
    browser.open(made[0])
    place = browser.run(
        "(() => { const plot = document.querySelector('#epochs .plot');"
        "plot.scrollIntoView({ block: 'center' }); const box = plot.getBoundingClientRect();"
        "return [box.left + box.width / 2, box.top + box.height / 2] })()"
    )
    assert browser.run("document.querySelector('#epochs .pointer-box').hidden")
    browser.move_to(*place)
    shown = browser.run("document.querySelector('#epochs .pointer-box').innerText.split('\\n')")
    epoch = int(shown[shown.index("epoch") + 1])
    ap = shown[shown.index("AP") + 1]
    row = column(browser, "#epochs", "epoch").index(str(epoch))
    assert column(browser, "#epochs", "AP")[row] == f"{float(ap):.3f}"
    browser.move_to(0, 0)
    assert browser.run("document.querySelector('#epochs .pointer-box').hidden")
    assert browser.problems == []
