# SPDX-License-Identifier: Apache-2.0
"""Texts on pictures in every alphabet, with and without a font for it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from src.pictures import fonts
from src.pictures.drawing import Boxes, draw_boxes, draw_contact_sheet
from src.pictures.fonts import Lettering, class_labels, printable
from src.pictures.loss_curve import draw_loss_curve

CAT, DOG = "猫", "狗"


def write_font(path, letters):
    """A font file in which every one of `letters` is a black square, and nothing else."""
    builder = FontBuilder(1000, isTTF=True)
    order = [".notdef", *(f"g{ord(letter)}" for letter in letters)]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({ord(letter): f"g{ord(letter)}" for letter in letters})
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 700), (750, 700), (750, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (800, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Sets the fonts that the system has besides matplotlib's own."""

    def has(*letters):
        caches = (fonts._system_fonts, fonts._known_letters, fonts.class_labels, fonts._open)
        for cache in caches:
            cache.cache_clear()
        paths = []
        for number, part in enumerate(letters):
            paths.append(str(tmp_path / f"font{number}.ttf"))
            write_font(paths[-1], part)
        (tmp_path / "broken.ttf").write_bytes(b"no font")
        monkeypatch.setattr(fonts, "_system_fonts", lambda: (str(tmp_path / "broken.ttf"), *paths))

    yield has
    fonts._known_letters.cache_clear()
    fonts.class_labels.cache_clear()


def ink(text, size=40):
    picture = Image.new("RGB", (600, 80), "white")
    Lettering(size).draw(ImageDraw.Draw(picture), (5, 5), text, "#000000")
    return np.asarray(picture)[..., 0] < 128


def test_letters_come_from_the_first_font_that_has_them(system, capsys):
    system(CAT, DOG)
    assert class_labels((CAT, "cat", f"{DOG} a")) == {
        CAT: CAT,
        "cat": "cat",
        f"{DOG} a": f"{DOG} a",
    }
    assert capsys.readouterr().out == ""
    square = ink(CAT)
    rows, columns = square.any(1).nonzero()[0], square.any(0).nonzero()[0]
    assert abs(len(rows) - len(columns)) <= 2 and square[rows[0] : rows[-1], columns[0]].all()
    assert ink(f"{CAT}{DOG}").sum() > 1.9 * square.sum()
    assert ink(f"x {CAT} 0.5").sum() > square.sum() + ink("x 0.5").sum() * 0.9


def test_without_a_font_the_number_is_drawn_and_said_once(system, capsys):
    system()
    names = ("cat", CAT, DOG)
    labels = class_labels(names)
    assert labels == {"cat": "cat", CAT: "class 2 (U+732B)", DOG: "class 3 (U+72D7)"}
    class_labels(names)
    (line,) = capsys.readouterr().out.splitlines()
    assert f"class 2 (U+732B) is {CAT}" in line and "Noto Sans CJK" in line
    assert (ink(CAT) == ink("?")).all()  # in a text that is no class name


def test_two_classes_never_look_the_same(system, tmp_path):
    system()
    rgb = np.full((80, 120, 3), 90, np.uint8)
    pictures = []
    for name in (CAT, DOG):
        boxes = Boxes(np.array([[10.0, 40, 60, 70]]), [name], [0.9])
        pictures.append(np.asarray(draw_boxes(rgb, boxes, labels=class_labels((name,)), scale=4)))
        draw_contact_sheet([(rgb, boxes, None, name)], tmp_path / "s.png", class_names=[name])
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    [
        "قطة",
        "חתול",
        "кот",
        "$x^2$",
        "$",
        "two\nlines",
        "tab\t\x1b[31m",
        "\u202eright to left",
        "\ud800",
        "a" * 5000,
        "e\u0301" * 40,
        "می\u200cخواهم",
        "",
        " ",
        "\u200d",
    ],
)
def test_every_name_is_drawn_on_one_line(name, system):
    system()
    (label,) = class_labels((name,)).values()
    assert "\n" not in label and len(label) <= 80
    boxes = Boxes(np.array([[5.0, 30, 60, 70]]), [name], [0.9])
    picture = draw_boxes(np.zeros((80, 120, 3), np.uint8), boxes, labels={name: label})
    assert picture.size == (120, 80)
    draw_boxes(np.zeros((80, 120, 3), np.uint8), boxes)  # without labels, too


def test_control_characters_are_question_marks():
    assert printable("a\nb\u202ec\x1b") == "a?b?c?"
    assert len(printable("x" * 100)) == 80 and printable("می\u200cخ") == "می\u200cخ"


def test_letters_are_no_larger_than_the_memory_is(tmp_path):
    """A strip of a picture would ask for letters of 27,000 pixels."""
    boxes = Boxes(np.array([[0.0, 0, 500, 3]]), ["cat"], [0.9])
    assert draw_boxes(np.zeros((3, 1 << 20, 3), np.uint8), boxes).size == (1 << 20, 3)


def test_a_title_is_no_formula(tmp_path):
    log = tmp_path / "l.log"
    log.write_text("epoch: 1 step: 1, total_loss: 0.5\n")
    draw_loss_curve(log, tmp_path / "c.png", title=r"$\nothing $5 {")
    assert (tmp_path / "c.png").is_file()


def test_no_home_gets_no_cache(tmp_path, repo_root):
    """matplotlib would make one in the root folder, or say on every start that it has not."""
    code = (
        "import os, src.base.plots as f; f.home_folder = lambda: None\n"
        "f.import_matplotlib(); from matplotlib import font_manager\n"
        "print(os.environ['MPLCONFIGDIR'])"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "PYTHONPATH": str(repo_root)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert not os.path.exists(done.stdout.strip()) and not list(tmp_path.iterdir())
