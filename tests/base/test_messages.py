# SPDX-License-Identifier: Apache-2.0
"""Lines for the user's eyes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.errors import UserError
from src.base.messages import LINE_LIMIT, counted, in_number, one_line, short, short_list, shown

ANY_TEXT = st.text(st.characters(codec=None))  # halves of surrogate pairs too


@given(ANY_TEXT)
def test_a_line_is_one_and_can_be_printed(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.json: bad\n  line 3\r\nend", "a.json: bad line 3 end"),
        ("two  spaces\tand a tab", "two  spaces and a tab"),
        ("\x1b[31mred\x1b[0m \x07", r"\x1b[31mred\x1b[0m \x07"),
        ("gpj.\u202ecod", r"gpj.\u202ecod"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),
        ("a\u2028b\x0bc", "a b c"),
        *([text] * 2 for text in ("\u732b", "\U0001f469\u200d\U0001f680", "\u0642\u0637\u0629")),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, line):
    assert one_line(text) == line


def test_a_long_line_keeps_its_head_and_its_tail():
    error = UserError(f"a.yaml: key: {'x' * 1_000_000} is wrong; give a number")
    assert len(str(error)) <= LINE_LIMIT
    assert str(error).startswith("a.yaml: key: xxx")
    assert str(error).endswith("xxx is wrong; give a number")


def test_values_are_cut_short():
    endless = []
    endless.append(endless)
    wide = [[["x"] * 1000] * 1000] * 1000
    for value in (endless, wide, "x" * 10**6, 10**5000, 10**4000, {i: i for i in range(10**4)}):
        assert len(short(value)) <= 80
    assert short([1, "a"]) == "[1, 'a']"
    assert short("abcdefghijklmnop", 10) == "'abcdef..."


def test_what_is_shown_is_cut_short_whatever_it_is():
    tree = (1,)
    for _ in range(100):
        tree = (tree, tree)  # a text without an end
    for value in (tree, [tree], {"a": tree}, 10**5000, b"x" * 10**6, "x" * 10**6):
        assert len(shown(value)) <= 80
    assert [shown(value) for value in ("a", ["a", 1], 7, None)] == ["a", "['a', 1]", "7", "None"]


def test_lists_are_cut_short():
    assert short_list(["a", 2]) == "a, 2"
    assert short_list(list("abcde")) == "a, b, c, d, ..."
    assert len(short_list(["x" * 10**6] * 10)) < 400


def test_numbers_and_their_nouns_agree():
    assert [counted(n, "box", "boxes") for n in (0, 1, 1234)] == ["0 boxes", "1 box", "1,234 boxes"]
    assert counted(2, "picture") == "2 pictures"
    text = "[box that leaves its|boxes that leave their] image as [x, y]"
    assert in_number(text, 1) == "box that leaves its image as [x, y]"
    assert in_number(text, 5) == "boxes that leave their image as [x, y]"
