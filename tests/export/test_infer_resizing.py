# SPDX-License-Identifier: Apache-2.0
"""The C++ application's choice of a canvas, sizes and pixels: to the bit those of Python."""

import csv
import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.images.geometry import ResizeRule
from src.images.resizing import resize
from tests.helpers.odd_images import picture
from tests.helpers.paths import REPO, RESOURCES

KINDS, LIKES = ("canvas", "short_edge", "stretch"), ("opencv", "torchvision", "detectron2")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The application's sources, compiled with its flags as a library."""
    compiler = shutil.which("c++")
    if not compiler:
        pytest.skip("c++ is not installed")
    sources = REPO / "ascend310_infer/src"
    path = tmp_path_factory.mktemp("resize") / "resize.so"
    command = [compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    command += ["-Wall", "-Wextra", "-Werror", f"-I{sources}", RESOURCES / "resize_rule.cc"]
    command += [sources / "resize_rule.cc", sources / "resizing.cc", "-o", path]
    subprocess.run(list(map(str, command)), check=True, timeout=300)
    return ctypes.CDLL(str(path))


def _ints(values):
    return (ctypes.c_int * len(values))(*values)


def _place(library, rule, height, width):
    """Number of the canvas, and the size there."""
    numbers = [KINDS.index(rule.kind), LIKES.index(rule.like), max(rule.min_sizes), rule.max_size]
    sides = [side for canvas in rule.canvases for side in canvas]
    size = _ints([0, 0])
    values = _ints([*numbers, len(rule.canvases), *sides])
    return library.frcnn_place(values, height, width, size), tuple(size)


def _resized(library, rgb, size, like):
    rgb = np.ascontiguousarray(rgb)
    target = np.empty((*size, 3), np.float32 if like == "torchvision" else np.uint8)
    name = "in_floats" if like == "torchvision" else "by_triangles"
    function = getattr(library, f"frcnn_resize_{name}")
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (rgb, target))
    source, result = pointers
    function(source, _ints([*rgb.shape[:2], *size]), result)
    return target


canvas_sides = st.integers(1, 60).map(lambda number: 32 * number)
rules = st.builds(
    ResizeRule,
    st.sampled_from(KINDS),
    st.lists(st.tuples(canvas_sides, canvas_sides), min_size=1, max_size=5, unique=True).map(tuple),
    st.integers(1, 1500).map(lambda size: (size,)),
    st.integers(1, 2000),
    st.sampled_from(LIKES),
)
usual = st.sampled_from(
    [((800, 1344), (1344, 800)), ((800, 1344), (1344, 800), (1088, 1088)), ((320, 256),)]
).flatmap(
    lambda canvases: st.builds(
        ResizeRule,
        st.sampled_from(KINDS),
        st.just(canvases),
        st.sampled_from([(800,), (640,), (1200,)]),
        st.sampled_from([1333, 1000]),
        st.sampled_from(LIKES),
    )
)
picture_sides = st.one_of(st.integers(1, 1500), st.integers(1, 30000))


@settings(max_examples=500)
@given(st.one_of(usual, rules), picture_sides, picture_sides)
def test_canvas_and_size(library, rule, height, width):
    canvas = rule.canvas_of(height, width)
    expected = canvas, rule.size_on(canvas, height, width)
    assert _place(library, rule, height, width) == expected


def test_sizes_of_the_real_programs(library):
    with open(RESOURCES / "resized_sizes.csv", encoding="ascii") as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        given = row["height"], row["width"]
        for program, like in (("torchvision",) * 2, ("detectron2",) * 2, ("mmdetection", "opencv")):
            size = row[f"{program}_height"], row[f"{program}_width"]
            rule = ResizeRule("short_edge", ((4000, 4000),), (row["min_size"],), row["max_size"])
            rule = ResizeRule(rule.kind, rule.canvases, rule.min_sizes, rule.max_size, like)
            assert _place(library, rule, *given) == (0, size), (given, program)


small = st.integers(1, 40)


@settings(max_examples=200)
@given(small, small, small, small, st.sampled_from(["torchvision", "detectron2"]), st.integers(0))
def test_pixels(library, height, width, new_height, new_width, like, seed):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    if (height, width) == (new_height, new_width):
        new_height += 1
    size = new_height, new_width
    assert np.array_equal(_resized(library, rgb, size, like), resize(rgb, size, like))


@pytest.mark.parametrize("like", ["torchvision", "detectron2"])
@pytest.mark.parametrize("size", [(480, 640), (90, 2000), (3000, 700)])
def test_pixels_of_large_pictures(library, like, size):
    rgb = np.asarray(Image.fromarray(picture(70, 90)).resize(size[::-1]))
    for new in ((800, 1066), (333, 57), (size[0], 411), (411, size[1])):
        assert np.array_equal(_resized(library, rgb, new, like), resize(rgb, new, like))
