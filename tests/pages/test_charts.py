# SPDX-License-Identifier: Apache-2.0
"""Charts: what is drawn, where, and what the pointer says of it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from src.pages.charts import Curve, line_chart

NAN = float("nan")


def test_the_pointer_says_the_values_that_were_given():
    curves = [Curve("a", [0.5, NAN, 0.25], 1), Curve("b <b>", [1.0, 2.0, 3.0], 2, "dashed")]
    chart = line_chart("T", [1, 2, 30], curves, x_label="step", digits=2)
    assert chart.hover["x"] == ["1", "2", "30"]
    assert [curve["y"] for curve in chart.hover["curves"]] == [
        ["0.50", "", "0.25"],
        ["1.00", "2.00", "3.00"],
    ]
    assert chart.legend == [("a", "var(--curve-1)", "solid"), ("b <b>", "var(--curve-2)", "dashed")]


def test_values_lie_where_the_pointer_finds_them():
    chart = line_chart("T", [0, 5, 10], [Curve("a", [1, 2, 3])], x_label="x")
    left, _, right, _ = chart.hover["frame"]
    assert chart.hover["at"] == pytest.approx([left, (left + right) / 2, right], abs=0.1)
    svg = ElementTree.fromstring(str(chart.svg))
    assert svg.get("viewBox").split()[2] == str(chart.hover["width"])
    path = max((p.get("d") for p in svg.iter() if p.get("d")), key=lambda d: d.count("L"))
    drawn = [float(x) for x in re.findall(r"[ML] (\S+)", path)]
    assert drawn == pytest.approx(chart.hover["at"], abs=0.1)


def test_the_drawing_follows_the_page():
    curves = [Curve("<script>", [1, 2], 1), Curve("other", [2, 1])]
    svg = str(line_chart("<title>", [1, 2], curves, x_label="step").svg)
    assert "var(--curve-1)" in svg and "var(--ink)" in svg and "var(--faint)" in svg
    assert "#0" not in svg and "<style" not in svg  # no colour of its own, nothing for the page
    assert "<script" not in svg and "<title" not in svg
    assert svg == str(line_chart("<title>", [1, 2], curves, x_label="step").svg)  # repeatable


@pytest.mark.parametrize("length", [1, 499, 500, 501, 100_000])
def test_of_many_values_a_part_is_drawn_and_the_last_one(length):
    values = np.arange(length, dtype=float)
    chart = line_chart("T", values, [Curve("a", values)], x_label="x", digits=0)
    assert min(length, 250) <= len(chart.hover["x"]) <= 500
    assert chart.hover["x"] == chart.hover["curves"][0]["y"]
    assert chart.hover["x"][-1] == f"{length - 1:,}"
    assert len(chart.svg) < 60_000


@pytest.mark.parametrize("y", [[], [NAN, NAN]])
def test_nothing_is_drawn_without_a_value(y):
    assert line_chart("T", range(len(y)), [Curve("a", y)], x_label="x") is None
