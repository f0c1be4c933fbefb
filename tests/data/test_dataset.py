# SPDX-License-Identifier: Apache-2.0
"""Batches: the right content, and the same content however the work is divided."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from src import dataset
from src.base.errors import UserError
from src.data.epoch_plan import epoch_order
from src.data.epoch_sampling import build_sampler
from src.data.mindrecord import ensure_mindrecord
from src.data.train_sample import Augmentation, make_train_sample
from src.dataset import (
    EVAL_COLUMNS,
    TRAIN_COLUMNS,
    create_eval_dataset,
    create_train_dataset,
    iterate,
    steps_per_epoch,
)
from src.images import augmentation
from src.images.ops import expand_image, normalize_and_pad, preprocess_image
from src.images.reading import read_image
from src.images.views import views_of
from tests.helpers.data_helpers import (
    canvas_format,
    edit_json,
    make_coco_root,
    make_config,
    picture,
)
from tests.helpers.paths import importing


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_coco_root(tmp_path_factory.mktemp("data"), num_images=11)
    return make_coco_root(root, num_images=11, split="val2017")


@pytest.fixture(scope="module")
def train_set(root):
    return ensure_mindrecord(make_config(root), "train")


@pytest.fixture(scope="module")
def val_set(root):
    return ensure_mindrecord(make_config(root), "val")


def train_batches(config, train_set, **options):
    batches = create_train_dataset(config, train_set, **{"epoch": 1, **options})
    return list(iterate(batches, output_numpy=True))


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for column, x, y in zip(TRAIN_COLUMNS, a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=column)


# ------------------------------------------------------------------ training batches


def test_columns(train_set):
    config = make_config(num_gts=5, batch_size=3)
    batches = create_train_dataset(config, train_set, epoch=1)
    assert tuple(batches.get_col_names()) == TRAIN_COLUMNS
    expected = {
        "image": ((3, 3, 64, 96), np.float32),
        "image_meta": ((3, 4), np.float32),
        "gt_boxes": ((3, 5, 4), np.float32),
        "gt_labels": ((3, 5), np.int32),
        "gt_valid": ((3, 5), np.bool_),
        "gt_crowd": ((3, 5), np.bool_),
        "sampling_key": ((3,), np.int32),
        "image_index": ((3,), np.int32),
    }
    batches = list(iterate(batches, output_numpy=True))
    assert len(batches) == steps_per_epoch(config, train_set, 1) == 3  # 11 images, the rest dropped
    for batch in batches:
        for (name, (shape, kind)), value in zip(expected.items(), batch, strict=True):
            assert value.shape == shape and value.dtype == kind, name


@pytest.mark.parametrize("convention", ["modern", "legacy"])
def test_ground_truth_without_augmentation(root, train_set, convention):
    config = make_config(flip_ratio=0.0, box_convention=convention)
    last = 1 if convention == "legacy" else 0
    seen = []
    for batch in train_batches(config, train_set):
        for image, meta, boxes, labels, valid, crowd, _, index in zip(*batch, strict=True):
            record = train_set.records[index]
            expected, expected_meta = preprocess_image(read_image(record.image_path), config)
            np.testing.assert_array_equal(image, expected)
            np.testing.assert_array_equal(meta, expected_meta)
            count = len(record.labels)
            edge = [meta[1] - last, meta[0] - last] * 2
            scaled = np.minimum(record.boxes * meta[[3, 2, 3, 2]], edge)
            np.testing.assert_allclose(boxes[:count], scaled, rtol=1e-6)
            np.testing.assert_array_equal(labels[:count], record.labels)
            np.testing.assert_array_equal(valid[:count], ~record.crowd)
            np.testing.assert_array_equal(crowd[:count], record.crowd)
            for padded in (boxes, labels, valid, crowd):
                assert not padded[count:].any()
            seen.append(int(index))
    assert len(set(seen)) == len(seen) == 10
    assert any(record.crowd.any() for record in train_set.records)


def test_flips_are_of_image_and_boxes(train_set):
    plain = train_batches(make_config(flip_ratio=0.0), train_set)
    flipped = train_batches(make_config(flip_ratio=1.0), train_set)
    mixed = train_batches(make_config(flip_ratio=0.5), train_set)
    kinds = set()
    for a, b, c in zip(plain, flipped, mixed, strict=True):
        for i in range(2):
            width = int(a[1][i, 1])
            np.testing.assert_array_equal(a[0][i, :, :, :width][..., ::-1], b[0][i, :, :, :width])
            np.testing.assert_array_equal(a[0][i, :, :, width:], b[0][i, :, :, width:])
            used = a[3][i] > 0
            np.testing.assert_allclose(
                b[2][i][used][:, [2, 1, 0, 3]],
                np.where([True, False] * 2, width - a[2][i][used], a[2][i][used]),
                rtol=1e-5,
            )
            turned = np.array_equal(c[0][i], b[0][i])
            assert turned or np.array_equal(c[0][i], a[0][i])
            kinds.add(turned)
    assert kinds == {True, False}


def test_workers_do_not_matter(train_set):
    config = make_config(expand_ratio=2.0, photometric=True)
    one = train_batches(make_config(**{**vars(config), "num_parallel_workers": 1}), train_set)
    many = train_batches(make_config(**{**vars(config), "num_parallel_workers": 64}), train_set)
    assert_equal(one, many)


def test_two_ranks_share_the_batch_of_one(train_set):
    together = train_batches(make_config(batch_size=4), train_set)
    ranks = [train_batches(make_config(), train_set, rank=r, world_size=2) for r in (0, 1)]
    assert len(together) == len(ranks[0]) == len(ranks[1]) == 2
    for whole, first, second in zip(together, *ranks, strict=True):
        for column, (a, b, c) in enumerate(zip(whole, first, second, strict=True)):
            joined = np.stack([b, c], axis=1).reshape(a.shape)
            np.testing.assert_array_equal(a, joined, err_msg=TRAIN_COLUMNS[column])


def test_skipped_steps_leave_the_rest_alone(train_set):
    config = make_config(expand_ratio=1.5)
    whole = train_batches(config, train_set)
    assert_equal(whole[3:], train_batches(config, train_set, skip_steps=3))
    with pytest.raises(UserError, match="no batch is left of epoch 1 after skipping 5 of 5"):
        create_train_dataset(config, train_set, epoch=1, skip_steps=5)


def test_epochs_and_seeds_differ_and_repeat(train_set):
    first = train_batches(make_config(), train_set)
    assert_equal(first, train_batches(make_config(), train_set))
    for other in (
        train_batches(make_config(), train_set, epoch=2),
        train_batches(make_config(seed=2), train_set),
    ):
        assert [b[7].tolist() for b in other] != [b[7].tolist() for b in first]
        keys = {key for batch in first + other for key in batch[6].tolist()}
        assert len(keys) == 20


def test_order_is_a_permutation():
    orders = [epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize("sampler", ["repeat_factor", "class_balanced"])
def test_repeated_pictures_in_batches(train_set, sampler):
    """Skipping steps and dividing among ranks change nothing, and no repetition looks the same."""
    options = {"train_sampler": sampler, "repeat_threshold": 1.0, "canvases": ("64x96", "96x64")}
    config = make_config(**options)
    whole = train_batches(config, train_set)
    sampled = build_sampler(config, train_set.records)
    order = sampled.order(1, 1)
    assert len(whole) == steps_per_epoch(config, train_set) == len(order) // 2
    assert len(set(order)) < len(order)
    seen = np.concatenate([batch[7] for batch in whole])
    assert (np.bincount(seen, minlength=11) <= np.bincount(order, minlength=11)).all()
    keys = np.concatenate([batch[6] for batch in whole])
    assert len(set(keys.tolist())) == len(keys)
    assert_equal(whole[2:], train_batches(config, train_set, skip_steps=2))
    together = train_batches(make_config(batch_size=4, **options), train_set)
    ranks = [train_batches(config, train_set, rank=rank, world_size=2) for rank in (0, 1)]
    for four, first, second in zip(together, *ranks, strict=True):
        for column, (a, b, c) in enumerate(zip(four, first, second, strict=True)):
            joined = np.stack([b, c], axis=1).reshape(a.shape)
            np.testing.assert_array_equal(a, joined, err_msg=TRAIN_COLUMNS[column])


def test_step_limit(train_set):
    config = make_config(steps_per_epoch_limit=2)
    assert steps_per_epoch(config, train_set, 1) == 2
    assert_equal(train_batches(make_config(), train_set)[:2], train_batches(config, train_set))


def test_too_few_images(train_set):
    with pytest.raises(UserError, match="has 11 usable training images, fewer than one batch of 6"):
        create_train_dataset(make_config(batch_size=6), train_set, epoch=1, world_size=2)


def test_images_without_boxes_in_training(root):
    path = root / "annotations" / "instances_empty.json"
    path.write_text((root / "annotations" / "instances_train2017.json").read_text())
    edit_json(path, lambda content: content.update(annotations=content["annotations"][:1]))
    (root / "empty").symlink_to(root / "train2017")
    config = make_config(root, train_data_type="empty", skip_empty_images=False)
    batches = train_batches(config, ensure_mindrecord(config, "train"))
    counts = np.concatenate([batch[4].sum(axis=1) for batch in batches])
    assert len(counts) == 10 and counts.sum() <= 1
    assert not any(batch[2][batch[3] == 0].any() for batch in batches)


# ------------------------------------------------------------------ several canvases

CANVASES = {"resize": "short_edge", "min_size": (48, 64), "max_size": 96}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Record sets of 11 training and 11 validation images, four of each upright."""
    root = make_coco_root(tmp_path_factory.mktemp("mixed"), num_images=11, portraits=4)
    make_coco_root(root, num_images=11, split="val2017", portraits=4)
    return [ensure_mindrecord(make_config(root), split) for split in ("train", "val")]


def test_sizes_are_as_they_are_decoded(mixed):
    for records in mixed:
        sizes = [read_image(path).shape[:2] for path in records.image_paths]
        assert records.sizes.tolist() == [list(size) for size in sizes]


def test_a_batch_is_on_one_canvas(mixed):
    train_set, _ = mixed
    config = make_config(flip_ratio=0.0, **CANVASES)
    seen, shapes = [], set()
    for batch in train_batches(config, train_set):
        shapes.add(batch[0].shape[2:])
        height, width = batch[0].shape[2:]
        upright = [train_set.sizes[i][0] > train_set.sizes[i][1] for i in batch[7]]
        assert (height > width) in upright  # of what was left in the end, most are
        assert (batch[1][:, :2] <= (height, width)).all()
        seen.extend(batch[7].tolist())
    assert shapes == {(64, 96), (96, 64)} and len(set(seen)) == len(seen) == 10


def test_two_ranks_share_the_batch_of_one_on_each_canvas(mixed):
    train_set, _ = mixed
    together = train_batches(make_config(batch_size=4, **CANVASES), train_set)
    config = make_config(**CANVASES)
    ranks = [train_batches(config, train_set, rank=r, world_size=2) for r in (0, 1)]
    assert len(together) == 2
    for whole, first, second in zip(together, *ranks, strict=True):
        for column, (a, b, c) in enumerate(zip(whole, first, second, strict=True)):
            joined = np.stack([b, c], axis=1).reshape(a.shape)
            np.testing.assert_array_equal(a, joined, err_msg=TRAIN_COLUMNS[column])


def test_skipped_steps_leave_the_rest_alone_on_each_canvas(mixed):
    train_set, _ = mixed
    config = make_config(**CANVASES)
    whole = train_batches(config, train_set)
    for skipped in range(1, 5):
        assert_equal(whole[skipped:], train_batches(config, train_set, skip_steps=skipped))


def test_no_image_comes_again_after_other_numbers_of_processes(mixed):
    train_set, _ = mixed
    config = make_config(**CANVASES)
    place = {"rank": 0, "world_size": 1}
    seen = [i for batch in train_batches(config, train_set, **place)[:1] for i in batch[7]]
    for rank in (0, 1):  # a step of 4, which is the second
        place = {"rank": rank, "world_size": 2, "skip_steps": 1, "parts": [(2, 1)]}
        seen += [i for batch in train_batches(config, train_set, **place) for i in batch[7]]
    assert len(set(seen)) == len(seen) == 6


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_on_canvases(mixed, world_size):
    _, val_set = mixed
    config = make_config(**CANVASES)
    ranks = [
        eval_batches(config, val_set, rank=r, world_size=world_size) for r in range(world_size)
    ]
    for step in zip(*ranks, strict=True):
        assert len({batch[0].shape for batch in step}) == 1
    found = []
    for image, meta, index in (batch for batches in ranks for batch in batches):
        for own, size, i in zip(image, meta, index, strict=True):
            if i >= 0:
                expected = preprocess_image(read_image(val_set.image_paths[i]), config)
                np.testing.assert_array_equal(own, expected[0])
                np.testing.assert_array_equal(size, expected[1])
                found.append(int(i))
    assert sorted(found) == list(range(11))
    limited = eval_batches(make_config(max_val_images=5, **CANVASES), val_set)
    assert [batch[2].tolist() for batch in limited] == [[4, -1], [0, 1], [2, 3]]


# ------------------------------------------------------------------ one sample


def sample(rgb, boxes, image_index=0, **changes):
    settings = Augmentation(
        flip_ratio=0.5,
        expand_ratio=1.0,
        photometric=False,
        box_convention="modern",
        max_boxes=4,
        seed=3,
        epoch=1,
    )
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels, crowd = np.ones(len(boxes), np.int32), np.zeros(len(boxes), np.int32)
    target = canvas_format(64, 96)
    settings = replace(settings, **changes)
    return make_train_sample(rgb, boxes, labels, crowd, image_index, target, settings)


def test_of_too_many_boxes_the_largest_are_learned():
    """As they are of training pictures, whose records have no more than fit."""
    sides = [3, 20, 5, 30, 4, 10]
    boxes = [[0, 0, side, side] for side in sides]
    made = sample(np.zeros((64, 96, 3), np.uint8), boxes, flip_ratio=0.0)
    assert made[2][:, 2].tolist() == [20, 5, 30, 10]


@pytest.mark.parametrize("expand_ratio", [1.0, 3.0])
def test_the_box_follows_the_object(expand_ratio):
    """A white rectangle on black: whatever is drawn, its box is around it in the result."""
    rgb = np.zeros((80, 100, 3), np.uint8)
    rgb[20:60, 10:40] = 255
    boxes, places = [[10, 20, 40, 60]], set()
    for index in range(40):
        image, meta, gt_boxes, *_ = sample(rgb, boxes, index, expand_ratio=expand_ratio)
        white = image[1] > 2.0
        ys, xs = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
        found = [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]
        np.testing.assert_allclose(gt_boxes[0], found, atol=1.01)
        assert (gt_boxes[0, 2:] <= meta[1::-1]).all()
        places.add(tuple(found))
    assert len(places) == 2 if expand_ratio == 1.0 else len(places) > 10


def test_boxes_that_vanish_are_dropped():
    rgb = picture(50, 75)
    _, _, boxes, labels, valid, *_ = sample(rgb, [[80, 10, 90, 20], [5, 5, 9, 9]], flip_ratio=0.0)
    assert valid.tolist() == [True, False, False, False] and labels.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(boxes[0], np.array([5, 5, 9, 9]) * 1.28, rtol=1e-5)


def test_one_augmentation_leaves_the_others_alone():
    rgb, boxes = picture(64, 96), [[1, 2, 30, 40]]
    for index in range(10):
        plain, coloured = sample(rgb, boxes, index), sample(rgb, boxes, index, photometric=True)
        np.testing.assert_array_equal(plain[2], coloured[2])  # flipped alike
        assert plain[6] == coloured[6]


def test_the_expanded_canvas_has_the_mean_colour():
    rgb = np.zeros((80, 100, 3), np.uint8)
    values = np.concatenate([sample(rgb, [], i, expand_ratio=2.0)[0].ravel() for i in range(20)])
    black = normalize_and_pad(rgb[:1, :1], canvas_format(1, 1), (1, 1)).ravel()
    canvas = np.abs(values) < 0.01
    assert 0.2 < canvas.mean() < 0.9
    assert np.isin(np.round(values, 3), np.round(black, 3)).mean() > 0.1


def test_a_large_picture_grows_no_larger_than_the_limit(monkeypatch):
    grown = []

    def expand(rgb, ratio, *rest):
        grown.append(expand_image(rgb, ratio, *rest))
        return grown[-1]

    monkeypatch.setattr(augmentation, "expand_image", expand)
    rgb = np.zeros((80, 100, 3), np.uint8)
    for index in range(20):
        sample(rgb, [], index, expand_ratio=4.0, max_pixels=20_000)
    pixels = [canvas.shape[0] * canvas.shape[1] for canvas in grown]
    assert len(pixels) > 3 and 15_000 < max(pixels) <= 20_000


# ------------------------------------------------------------------ evaluation batches


def eval_batches(config, val_set, **options):
    batches = create_eval_dataset(config, val_set, **options)
    assert tuple(batches.get_col_names()) == EVAL_COLUMNS
    return list(iterate(batches, output_numpy=True))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 11, 16])
def test_evaluation_sees_every_image_once(val_set, batch_size):
    config = make_config(test_batch_size=batch_size)
    batches = eval_batches(config, val_set)
    index = np.concatenate([batch[2] for batch in batches])
    assert index.dtype == np.int32 and index[index >= 0].tolist() == list(range(11))
    assert len(index) == -(-11 // batch_size) * batch_size and (index[11:] == -1).all()
    assert all(batch[0].shape == (batch_size, 3, 64, 96) for batch in batches)
    for image, meta, i in zip(
        *(np.concatenate(c) for c in zip(*batches, strict=True)), strict=True
    ):
        expected, expected_meta = preprocess_image(
            read_image(val_set.image_paths[i if i >= 0 else 0]), config
        )
        if i >= 0:
            np.testing.assert_array_equal(image, expected)
            np.testing.assert_array_equal(meta, expected_meta)
        else:
            assert np.isfinite(image).all() and (meta > 0).all()


def test_views_of_test_time_augmentation_are_columns(val_set):
    config = make_config(test_batch_size=2, test_flip=True, test_scales=(1.0, 0.5))
    first, *_ = iterate(create_eval_dataset(config, val_set), output_numpy=True)
    assert len(first) == 9 and first[-1].tolist() == [0, 1]
    rgb = read_image(val_set.image_paths[0])
    views = views_of(config)
    assert len(views) == 4
    for view, image, meta in zip(views, first[:-1:2], first[1:-1:2], strict=True):
        expected, expected_meta = view.prepare(rgb, 0)
        np.testing.assert_array_equal(image[0], expected)
        np.testing.assert_array_equal(meta[0], expected_meta)


@pytest.mark.parametrize("world_size", [2, 3])
def test_evaluation_on_ranks(val_set, world_size):
    ranks = [
        eval_batches(make_config(), val_set, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    index = np.concatenate([batch[2] for batches in ranks for batch in batches])
    assert sorted(index[index >= 0].tolist()) == list(range(11))


def test_evaluation_of_the_first_images(val_set):
    batches = eval_batches(make_config(max_val_images=3), val_set)
    assert [batch[2].tolist() for batch in batches] == [[0, 1], [2, -1]]
    batches = eval_batches(make_config(max_val_images=100), val_set)
    assert len(batches) == 6


# ------------------------------------------------------------------ errors and ending


def test_a_user_error_in_a_worker_comes_out_as_one(train_set, monkeypatch):
    def fail(*_):
        raise UserError("image x.jpg cannot be decoded; replace it")

    monkeypatch.setattr(dataset, "decode_image", fail)
    with pytest.raises(UserError, match="^image x.jpg cannot be decoded; replace it; its record"):
        train_batches(make_config(), train_set)


def test_the_limit_of_pixels_holds_in_the_workers(train_set, val_set):
    config = make_config(max_image_pixels=100)
    for batches in (train_batches, eval_batches):
        with pytest.raises(UserError, match="pixels, more than max_image_pixels 100"):
            batches(config, train_set if batches is train_batches else val_set)


def test_other_errors_in_a_worker_keep_their_text(train_set, monkeypatch):
    def fail(*_):
        raise ValueError("a defect")

    monkeypatch.setattr(dataset, "decode_image", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        train_batches(make_config(), train_set)


def test_replaced_records_are_noticed(tmp_path):
    root = make_coco_root(tmp_path)
    config = make_config(root)
    old = ensure_mindrecord(config, "train")
    path = root / "annotations" / "instances_train2017.json"
    edit_json(path, lambda content: content["images"].reverse())
    ensure_mindrecord(config, "train")
    with pytest.raises(UserError, match="were replaced or removed while they were in use"):
        create_train_dataset(config, old, epoch=1)


def test_leaving_in_the_middle_ends_the_process(root):
    """No thread of the pipeline keeps a process alive that stops reading."""
    program = textwrap.dedent(f"""
        import sys
        from tests.helpers.data_helpers import make_config
        from src.dataset import create_train_dataset, iterate
        from src.data.mindrecord import ensure_mindrecord

        config = make_config({str(root)!r})
        record_set = ensure_mindrecord(config, "train")
        for epoch in range(30):
            for batch in iterate(create_train_dataset(config, record_set, epoch=epoch)):
                break
        print("left")
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=importing(ONEDNN_MAX_CPU_ISA="AVX2"),
    )
    assert done.returncode == 0 and done.stdout.endswith("left\n"), done.stderr
