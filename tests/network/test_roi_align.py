# SPDX-License-Identifier: Apache-2.0
"""Both RoIAlign Cells against plain loops and against each other."""

import numpy as np
import pytest
from mindspore import nn, ops

import src.FasterRcnn.roi_sampling as roi_sampling
from src.FasterRcnn.roi_align import LEVEL_FORMULAS, LevelChooser, build_roi_align
from src.FasterRcnn.roi_sampling import largest_areas, most_cells
from src.native import build
from src.native.operators import use_native_operators
from tests.helpers.plain_boxes import in_graph

STRIDES = (4, 8)
SIZE, CHANNELS, SCALE = 64, 3, 16
RNG = np.random.default_rng(1)
FEATURES = tuple(
    RNG.standard_normal((2, CHANNELS, SIZE // s, SIZE * 3 // 2 // s)).astype(np.float32)
    for s in STRIDES
)
ROIS = np.array(
    [
        [
            [10, 10, 30, 30],
            [0, 0, 63, 63],
            [3.3, 7.7, 21.1, 60.2],
            [70, 40, 95, 63],
            [-9, -6, 12, 20],
            [90, 50, 110, 80],
            [200, 200, 230, 240],
            [20, 20, 20.5, 20.25],
            [5, 5, 5, 5],
        ],
        [
            [0, 0, 95, 63],
            [-300, -300, 400, 400],
            [31.9, 0, 64.2, 32.4],
            [94, 62, 96, 64],
            [-50, 10, -20, 30],
            [0.5, 0.5, 33, 32],
            [60, 10, 61, 50],
            [40, 40, 71, 71],
            [12, 30, 44, 61],
        ],
    ],
    np.float32,
)
NUMBER = ROIS.shape[1]


LIBRARY = build._try_once()[0]


def _build(kind, offset=0.0, aligned=False, out_size=3, sample_num=2):
    """`kind`: of build_roi_align, or "native": the gather's place taken by our C++ operator."""
    cell = build_roi_align(
        "gather" if kind == "native" else kind,
        strides=STRIDES,
        out_size=out_size,
        sample_num=sample_num,
        finest_scale=SCALE,
        offset=offset,
        aligned=aligned,
        level_formula="mmdetection" if offset else "torchvision",
    )
    if kind == "native":
        assert use_native_operators(cell, LIBRARY) == 1
    return cell


def _cells(canvas):
    """The images' own canvases (B, 2) in cells of each level, as the network passes them."""
    return tuple((canvas / stride).astype(np.float32) for stride in STRIDES)


def _plain_level(roi, offset):
    side = np.sqrt((roi[2] - roi[0] + offset) * (roi[3] - roi[1] + offset)) / SCALE
    return int(np.clip(np.floor(np.log2(max(side, 1e-6))), 0, len(STRIDES) - 1))


def _plain_value(feature, y, x):
    """Bilinear value of a (C, H, W) map; zero more than a cell outside."""
    height, width = feature.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(feature))
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    upper = feature[:, top, left] * (1 - along) + feature[:, top, right] * along
    lower = feature[:, bottom, left] * (1 - along) + feature[:, bottom, right] * along
    return upper * (1 - down) + lower * down


def _plain_samples(start, length, out_size, sample_num):
    """Where the samples of each bin of one axis lie: (out_size, n)."""
    # The published programs round float32 quotients up.
    number = sample_num or max(0, int(np.ceil(np.float32(length) / np.float32(out_size))))
    steps = (np.arange(out_size * number) + 0.5) / (out_size * max(number, 1))
    return (start + length * steps).reshape(out_size, number)


def _plain_roi_align(features, rois, offset, aligned, out_size, sample_num, canvas_hw=None):
    pooled = []
    for image, rows in enumerate(rois.astype(np.float64)):
        for roi in rows:
            level = _plain_level(roi, offset)
            feature, stride = features[level][image].astype(np.float64), STRIDES[level]
            if canvas_hw is not None:
                height, width = canvas_hw[image] // stride
                feature = feature[:, :height, :width]
            start = roi[:2] / stride - 0.5 * aligned
            length = (roi[2:] + offset - roi[:2]) / stride
            length = length if aligned or offset else np.maximum(length, 1.0)
            columns, lines = (
                _plain_samples(start[axis], length[axis], out_size, sample_num) for axis in (0, 1)
            )
            bins = np.zeros((len(feature), out_size, out_size))
            for row, column in np.ndindex(out_size, out_size):
                values = [_plain_value(feature, y, x) for y in lines[row] for x in columns[column]]
                bins[:, row, column] = np.mean(values, 0) if values else 0
            pooled.append(bins)
    return np.stack(pooled)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("out_size, sample_num", [(3, 2), (7, 1), (3, 0), (7, 0)])
def test_gather_agrees_with_the_loops(offset, aligned, out_size, sample_num):
    pooled = in_graph(_build("gather", offset, aligned, out_size, sample_num), FEATURES, ROIS)
    assert pooled.shape == (2 * NUMBER, CHANNELS, out_size, out_size)
    assert pooled.dtype == np.float32
    expected = _plain_roi_align(FEATURES, ROIS, offset, aligned, out_size, sample_num)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


ADAPTIVE = [
    "gather",
    pytest.param("native", marks=pytest.mark.skipif(LIBRARY is None, reason="no C++ compiler")),
]


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("sample_num", [0, 2])
def test_rois_read_no_cells_beyond_their_images_own_canvas(kind, sample_num):
    canvas = np.array([[64, 96], [32, 64]], np.int32)
    pooled = in_graph(_build(kind, 0.0, True, 3, sample_num), FEATURES, ROIS, _cells(canvas))
    expected = _plain_roi_align(FEATURES, ROIS, 0.0, True, 3, sample_num, canvas)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)
    whole = _plain_roi_align(FEATURES, ROIS, 0.0, True, 3, sample_num)
    assert np.abs(pooled - whole)[NUMBER:].max() > 0.1


def test_the_operator_reads_none_beyond_either():
    canvas = np.array([[64, 96], [32, 64]], np.int32)
    rois = np.clip(ROIS, 0, np.tile(canvas[:, ::-1], 2)[:, None]).astype(np.float32)
    features = tuple(f.copy() for f in FEATURES)
    for feature, stride in zip(features, STRIDES, strict=True):
        feature[1, :, 32 // stride :] = feature[1, :, :, 64 // stride :] = 0
    pooled = in_graph(_build("operator", aligned=True), features, rois, _cells(canvas))
    expected = _plain_roi_align(features, rois, 0.0, True, 3, 2, canvas)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("aligned", [False, True])
def test_adaptive_samples_of_narrow_and_long_rois(kind, aligned):
    """Sides of a tenth of a cell to the whole image, in every combination; and their gradients."""
    rng = np.random.default_rng(2)
    sides = np.stack(np.meshgrid([0.4, 4, 27, 28, 28.5, 63], [0.4, 12, 56, 57, 95]), -1)
    sides = sides.reshape(1, -1, 2)[..., ::-1].repeat(2, 0)
    corner = rng.uniform(0, 1, sides.shape) * ([96, 64] - sides)
    rois = np.concatenate([corner, corner + sides], 2).astype(np.float32)
    cell = _build(kind, 0.0, aligned, 7, 0)
    pooled = in_graph(cell, FEATURES, rois)
    expected = _plain_roi_align(FEATURES, rois, 0.0, aligned, 7, 0)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)

    weights = rng.standard_normal(pooled.shape).astype(np.float32)
    gradients = in_graph(_Gradients(cell), *FEATURES, rois, weights)
    other = [rng.standard_normal(f.shape).astype(np.float32) for f in FEATURES]
    total = (_plain_roi_align(other, rois, 0.0, aligned, 7, 0) * weights).sum()
    product = sum((f.astype(np.float64) * g).sum() for f, g in zip(other, gradients, strict=True))
    assert product == pytest.approx(total, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("size", [(64, 96), (200, 336), (13, 1300)])
def test_room_for_the_most_cells_is_enough_and_not_the_whole_map(size):
    areas = largest_areas((4, 8, 16, 32), 56)
    shapes = tuple((-(-size[0] // n), -(-size[1] // n)) for n in (1, 2, 4, 8))
    room = most_cells(shapes, areas, 7)
    rng = np.random.default_rng(0)
    width = np.exp(rng.uniform(np.log(0.1), np.log(size[1]), 5000))
    height = np.minimum(rng.uniform(0, 1, 5000) ** 0.1 * areas[0] / width, size[0])
    most = 0
    for sides in zip(height, width, strict=True):
        cells = 1
        for side, limit in zip(sides, size, strict=True):
            first = rng.uniform(0, limit - side) - 0.5
            step = side / (7 * np.ceil(side / 7))
            low, high = np.clip([first + step / 2, first + side - step / 2], 0, limit - 1)
            cells *= min(np.floor(high) + 1, limit - 1) - np.floor(low) + 1
        most = max(most, cells)
    assert most <= room < 1.5 * max(most, shapes[-1][0] * shapes[-1][1])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_gather_agrees_with_the_operator(offset, aligned):
    one = in_graph(_build("gather", offset, aligned), FEATURES, ROIS)
    other = in_graph(_build("operator", offset, aligned), FEATURES, ROIS)
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ["gather", "operator"])
def test_legacy_rois_may_end_before_they_start(kind):
    """What clipping leaves of legacy boxes can be less than a pixel long: x2 - x1 + 1."""
    corner = np.random.default_rng(5).uniform(2, 50, (2, 5, 2)).astype(np.float32)
    rois = np.concatenate([corner, corner - np.float32([[0.25, 0.75]])], 2)
    pooled = in_graph(_build(kind, 1.0), FEATURES, rois)
    expected = _plain_roi_align(FEATURES, rois, 1.0, False, 3, 2)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


def test_a_roi_outside_gives_zeros_and_one_inside_its_own_image():
    pooled = in_graph(_build("gather"), FEATURES, ROIS)
    assert (pooled[6] == 0).all(), "beyond the right and bottom border"
    assert (pooled[NUMBER + 4] == 0).all(), "beyond the left border"
    constant = tuple(
        np.stack([np.full(f.shape[1:], image + 1, np.float32) for image in range(2)])
        for f in FEATURES
    )
    pooled = in_graph(_build("gather"), constant, ROIS)
    np.testing.assert_allclose(pooled[0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(pooled[NUMBER], 2.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gather", "operator"])
def test_legacy_rois_of_no_width_at_the_left_border_pool_to_zeros(kind):
    """As in the model zoo's network; elsewhere such RoIs are a pixel wide, modern ones are read."""
    rois = np.array([[[0, 0, 0, 0], [0, 9, 0, 40], [9, 9, 9, 40], [0, 9, 1, 40]]] * 2, np.float32)
    for _ in range(2):  # the operator would leave the first call's values in the second's memory
        legacy = in_graph(_build(kind, offset=1.0), FEATURES, rois).any((1, 2, 3))
        modern = in_graph(_build(kind, offset=0.0), FEATURES, rois).any((1, 2, 3))
        assert legacy.tolist() == [False, False, True, True] * 2 and modern.all()


def test_a_ramp_is_sampled_at_bin_centres():
    """Feature value = x in cells: three bins of a 24 px RoI at stride 4, alignment moves half."""
    ramp = np.tile(np.arange(24, dtype=np.float32), (1, 1, 16, 1))
    features = (ramp, np.zeros((1, 1, 8, 12), np.float32))
    rois = np.array([[[16, 8, 40, 32]]], np.float32)
    plain = in_graph(_build("gather"), features, rois)
    np.testing.assert_allclose(plain[0, 0], [[5, 7, 9]] * 3, rtol=1e-5)
    aligned = in_graph(_build("gather", aligned=True), features, rois)
    np.testing.assert_allclose(aligned[0, 0], [[4.5, 6.5, 8.5]] * 3, rtol=1e-5)
    legacy = in_graph(_build("gather", 1.0), features, rois)
    np.testing.assert_allclose(legacy[0, 0, 0], 4 + 6.25 / 3 * np.array([0.5, 1.5, 2.5]), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("formula", LEVEL_FORMULAS)
def test_levels_change_where_the_side_doubles(offset, formula):
    chooser = LevelChooser(4, 56, offset, formula)
    sides = np.array([0, 1, 55, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1, 5000], np.float32)
    rois = np.zeros((len(sides), 4), np.float32)
    rois[:, 2:] = np.maximum(sides, offset)[:, None] - offset
    levels = in_graph(chooser, rois)
    assert levels.dtype == np.int32
    assert levels.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("formula, level", [("mmdetection", 1), ("torchvision", 2)])
def test_the_formula_decides_just_below_the_border(formula, level):
    rois = np.array([[0, 0, 223.9999, 223.9999]], np.float32)
    assert in_graph(LevelChooser(4, 56, 0.0, formula), rois).tolist() == [level]
    with pytest.raises(ValueError, match="'fpn' is none of mmdetection, torchvision"):
        LevelChooser(4, 56, 0.0, "fpn")


def test_level_depends_on_the_area_not_on_the_longer_side():
    rois = np.array([[0, 0, 448, 28], [0, 0, 28, 448], [0, 0, 448, 112]], np.float32)
    assert in_graph(LevelChooser(4, 56, 0.0, "torchvision"), rois).tolist() == [1, 1, 2]


class _Gradients(nn.Cell):
    """Gradients of a weighted sum of the pooled values with respect to both levels."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.gradient = ops.grad(self.total, (0, 1))

    def total(self, fine, coarse, rois, weights):
        return ops.reduce_sum(self.cell((fine, coarse), rois) * weights)

    def construct(self, fine, coarse, rois, weights):
        return self.gradient(fine, coarse, rois, weights)


@pytest.mark.parametrize("offset, aligned", [(0.0, False), (0.0, True), (1.0, False)])
def test_gradients_agree_with_the_operator_s(offset, aligned):
    weights = RNG.standard_normal((2 * NUMBER, CHANNELS, 3, 3)).astype(np.float32)
    outcomes = [
        in_graph(_Gradients(_build(kind, offset, aligned)), *FEATURES, ROIS, weights)
        for kind in ("gather", "operator")
    ]
    for one, other in zip(*outcomes, strict=True):
        assert np.abs(one).max() > 0.5
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ["gather", "operator"])
@pytest.mark.parametrize("offset, aligned", [(0.0, False), (0.0, True), (1.0, False)])
def test_gradients_are_the_transpose_of_the_pooling(kind, offset, aligned):
    """Pooling is linear in the features: <pool(f), w> = <f, gradient(w)> for any f and w."""
    weights = RNG.standard_normal((2 * NUMBER, CHANNELS, 3, 3)).astype(np.float32)
    cell = _build(kind, offset, aligned)
    gradients = in_graph(_Gradients(cell), *FEATURES, ROIS, weights)
    total = (in_graph(cell, FEATURES, ROIS).astype(np.float64) * weights).sum()
    pairs = zip(FEATURES, gradients, strict=True)
    product = sum((f.astype(np.float64) * g).sum() for f, g in pairs)
    np.testing.assert_allclose(total, product, rtol=1e-4)
    assert abs(total) > 1


@pytest.mark.parametrize("offset, aligned", [(0.0, False), (0.0, True), (1.0, False)])
def test_gradients_are_the_finite_differences_of_the_loops(offset, aligned):
    """One cell of a level up and down by a half; pooling is linear, so the difference is exact."""
    weights = RNG.standard_normal((2 * NUMBER, CHANNELS, 3, 3)).astype(np.float32)
    gradients = in_graph(_Gradients(_build("gather", offset, aligned)), *FEATURES, ROIS, weights)
    checked = 0
    for level, gradient in enumerate(gradients):
        strongest = np.argsort(-np.abs(gradient).reshape(-1))[:3]
        for place in (*strongest, 0, gradient.size - 1):
            sums = []
            for step in (0.5, -0.5):
                moved = [f.astype(np.float64) for f in FEATURES]
                moved[level].reshape(-1)[place] += step
                pooled = _plain_roi_align(moved, ROIS, offset, aligned, 3, 2)
                sums.append((pooled * weights).sum())
            assert gradient.reshape(-1)[place] == pytest.approx(sums[0] - sums[1], abs=1e-4)
            checked += abs(gradient.reshape(-1)[place]) > 0.1
    assert checked >= 6


@pytest.mark.parametrize("chunk", [5, 6, NUMBER * 2])
def test_chunks_change_nothing(monkeypatch, chunk):
    whole = in_graph(_build("gather"), FEATURES, ROIS)
    monkeypatch.setattr(roi_sampling, "_CHUNK", chunk)
    np.testing.assert_allclose(in_graph(_build("gather"), FEATURES, ROIS), whole, atol=1e-6)


def test_more_rois_than_the_real_chunk():
    number = roi_sampling._CHUNK // 2 + 3
    rois = RNG.uniform(0, 60, (2, number, 4)).astype(np.float32)
    rois[..., 2:] += rois[..., :2]
    gather = in_graph(_build("gather", out_size=2, sample_num=1), FEATURES, rois)
    operator = in_graph(_build("operator", out_size=2, sample_num=1), FEATURES, rois)
    assert gather.shape[0] == 2 * number > roi_sampling._CHUNK
    np.testing.assert_allclose(gather, operator, atol=1e-4)


def test_half_precision_features_give_float32_results():
    halves = tuple(f.astype(np.float16) for f in FEATURES)
    pooled = in_graph(_build("gather"), halves, ROIS)
    assert pooled.dtype == np.float32
    floats = tuple(f.astype(np.float32) for f in halves)
    np.testing.assert_allclose(pooled, in_graph(_build("gather"), floats, ROIS), atol=1e-5)


def test_unknown_kind():
    with pytest.raises(ValueError, match="'pool' is none of gather, operator"):
        _build("pool")
