# SPDX-License-Identifier: Apache-2.0
"""Tiles through a network with several canvases and test-time augmentation."""

import numpy as np
import pytest

from src.detector import ViewsDetector
from src.images.tiles import tiles_of
from src.inference import Found
from src.predicting.finding import Finder, Tiling
from src.predicting.merging import merged
from tests.helpers.colour_detector import CELL, ColourDetector
from tests.helpers.network_helpers import small_config

SIZE = (64, 96)


class Viewing:
    """A `Detector` around the colour detector, which counts its calls by shape."""

    def __init__(self, **changes):
        config = small_config(
            *SIZE,
            2,
            box_convention="modern",
            pixel_std=[60.0] * 3,
            canvases=["64x96", "96x64"],
            **changes,
        )
        self.shapes = []
        self._detect = ViewsDetector(ColourDetector(2), config, self._run)
        self.views = self._detect.views

    def _run(self, cell, *inputs):
        self.shapes.append(tuple(inputs[0].shape))
        return cell(*inputs)

    def detect_inputs(self, inputs):
        boxes, *others, valid = self._detect(inputs)
        return [Found(*(part[i][valid[i]] for part in (boxes, *others))) for i in range(len(valid))]


@pytest.mark.parametrize("changes", [{}, {"test_flip": True}])
def test_a_tile_is_looked_at_like_a_picture(changes):
    """As each tile alone, moved to its place: a picture's tiles compile nothing of their own."""
    cells = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    rgb = cells.repeat(CELL, 0).repeat(CELL, 1)
    detector = Viewing(**changes)
    tiling = Tiling(size=SIZE, overlap=0.5, match="iou", whole=False)
    ((_, _, found),) = Finder(detector, 2, tiling).find(iter([(0, rgb)]))
    shapes = set(detector.shapes)
    parts = []
    for tile in tiles_of(*rgb.shape[:2], SIZE, 0.5):
        ((_, _, one),) = Finder(detector, 2).find(iter([(0, rgb[tile.part])]))
        parts.append(one._replace(boxes=one.boxes + np.float32([tile.left, tile.top] * 2)))
    assert set(detector.shapes) == shapes and len(parts) == 9
    expected = merged(parts, match="iou", threshold=0.5, per_class=True)
    assert len(found.boxes) > 5 and all(
        np.allclose(ours, theirs) for ours, theirs in zip(found, expected, strict=True)
    )


def test_each_tile_goes_onto_the_canvas_that_fits_it():
    rgb = np.random.default_rng(1).integers(0, 255, (200, 130, 3), np.uint8)
    detector = Viewing()
    list(Finder(detector, 2, Tiling(size=(90, 60), overlap=0.0)).find(iter([(0, rgb)])))
    assert {shape[2:] for shape in detector.shapes} == {(96, 64)}
