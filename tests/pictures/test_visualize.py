# SPDX-License-Identifier: Apache-2.0
"""Loss curves and drawn boxes: what is read, what is drawn where, and what is refused."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from src.base.errors import UserError
from src.base.files import save_whole
from src.pictures.drawing import Boxes, class_color, draw_boxes, draw_contact_sheet
from src.pictures.loss_curve import draw_loss_curve, global_steps, read_loss_log, smooth
from src.pictures.visualize import draw_detections, main

NAMES = (
    "rpn_loss",
    "rcnn_loss",
    "rpn_cls_loss",
    "rpn_reg_loss",
    "rcnn_cls_loss",
    "rcnn_reg_loss",
    "total_loss",
)


def log_line(epoch, step, value):
    return f"epoch: {epoch} step: {step}, " + ", ".join(f"{n}: {value:.5f}" for n in NAMES)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "loss_0.log"
    lines = [log_line(e, s, 3.0 / e + s / 100) for e in (1, 2, 3) for s in (5, 10)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_documented_line_is_read(tmp_path):
    path = tmp_path / "l.log"
    path.write_text(
        "epoch: 1 step: 7393, rpn_loss: 0.12054, rcnn_loss: 0.40601, rpn_cls_loss: 0.04025, "
        "rpn_reg_loss: 0.08032, rcnn_cls_loss: 0.25854, rcnn_reg_loss: 0.14746, "
        "total_loss: 0.52655\n"
    )
    (line,) = read_loss_log(path)
    assert (line.epoch, line.step) == (1, 7393)
    values = (0.12054, 0.40601, 0.04025, 0.08032, 0.25854, 0.14746, 0.52655)
    assert line.losses == dict(zip(NAMES, values, strict=True))


def test_other_lines_are_skipped_and_a_repeated_step_counts_once(tmp_path):
    path = tmp_path / "l.log"
    parts = [log_line(1, 10, 2.0), "resumed", log_line(2, 5, 1.0), log_line(1, 10, 1.5), "epoch: x"]
    path.write_text("\n".join(parts))
    lines = read_loss_log(path)
    assert [(x.epoch, x.step, x.losses["total_loss"]) for x in lines] == [(1, 10, 1.5), (2, 5, 1.0)]


def test_steps_go_on_over_epochs(log):
    steps, per_epoch = global_steps(read_loss_log(log))
    assert steps.tolist() == [5, 10, 15, 20, 25, 30]
    assert per_epoch == 10


def test_smooth_averages_inside_and_at_the_ends():
    assert smooth(np.array([0.0, 3.0, 6.0, 9.0]), 3).tolist() == [1.5, 3.0, 6.0, 7.5]
    assert smooth(np.array([1.0, 2.0]), 1).tolist() == [1.0, 2.0]


def test_loss_curve_is_a_picture_with_lines(log, tmp_path):
    draw_loss_curve(log, tmp_path / "new/curve.png")
    picture = np.asarray(Image.open(tmp_path / "new/curve.png").convert("RGB"))
    assert picture.shape == (700, 1600, 3)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        on_line = np.abs(picture.astype(int) - color).sum(axis=2) < 12
        assert not on_line[:, :800].any(), "a part's curve in the left half"
        # The parts are equal in this log: the last one lies on top, the others are in the legend.
        assert on_line[:, 800:].sum() > 30


@pytest.mark.parametrize("content", [None, "", "nothing of the kind\n"])
def test_a_log_without_losses_is_refused(tmp_path, content):
    path = tmp_path / "l.log"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="l.log"):
        draw_loss_curve(path, tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_class_colors_are_distinct():
    colors = [class_color(i) for i in range(40)]
    assert len(set(colors)) == 40
    assert all(len(c) == 7 and int(c[1:], 16) >= 0 for c in colors)


def pixel(picture, x, y):
    return "#{:02X}{:02X}{:02X}".format(*picture.getpixel((round(x), round(y))))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_predicted_box_is_drawn_at_its_place_in_its_color(scale):
    rgb = np.full((100, 160, 3), 128, np.uint8)
    boxes = Boxes(np.array([[40.0, 30.0, 120.0, 80.0]]), ["cell"], [0.91])
    picture = draw_boxes(rgb, boxes, colors={"cell": "#0072B2"}, scale=scale)
    assert picture.size == (round(160 * scale), round(100 * scale))
    for x, y in ((80, 80), (40, 60), (120, 60)):
        assert pixel(picture, x * scale, y * scale) == "#0072B2"
    assert pixel(picture, 80 * scale, 55 * scale) == "#808080"
    assert pixel(picture, 20 * scale, 60 * scale) == "#808080"


def test_a_true_box_is_dashed_in_light_and_dark():
    rgb = np.full((100, 160, 3), 128, np.uint8)
    picture = draw_boxes(rgb, Boxes(), Boxes(np.array([[20.0, 20.0, 140.0, 80.0]]), ["cell"]))
    along = {pixel(picture, x, 80) for x in range(22, 138)}
    assert along == {"#FFFFFF", "#222222"}


def test_boxes_outside_the_image_and_long_names_do_no_harm():
    rgb = np.zeros((40, 60, 3), np.uint8)
    boxes = Boxes(
        np.array([[-10.0, -5.0, 80.0, 50.0], [50.0, 30.0, 50.0, 30.0]]),
        ["a name that is much longer than the image is wide", "细胞"],
        [0.5, 1.0],
    )
    assert draw_boxes(rgb, boxes, boxes).size == (60, 40)


@pytest.fixture
def detections(tmp_path):
    """Three images; results for the first alone, one of its two detections with a low score."""
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (80, 60), (90, 120, 90)).save(tmp_path / name)
    images = [
        {"id": i, "file_name": n, "width": 80, "height": 60}
        for i, n in (("x", "a.png"), ("y", "b.png"), ("z", "c.png"))
    ]
    box = {"image_id": "x", "category_id": 7, "bbox": [10, 10, 30, 20]}
    truth = {
        "images": images,
        "annotations": [{**box, "id": 1, "area": 600, "iscrowd": 0}],
        "categories": [{"id": 7, "name": "cell"}],
    }
    results = [{**box, "score": 0.9}, {**box, "bbox": [40, 30, 20, 20], "score": 0.3}]
    (tmp_path / "anno.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def sheet_colors(path):
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    values, counts = np.unique(picture, axis=0, return_counts=True)
    return {tuple(v): c for v, c in zip(values.tolist(), counts.tolist(), strict=True)}


def test_sheet_shows_images_with_and_without_detections(detections):
    png = detections / "sheet.png"
    arguments = (detections / "results.json", detections / "anno.json", detections, png)
    draw_detections(*arguments)
    background = sheet_colors(png)[90, 120, 90]
    assert background > 3 * 0.7 * 440 * 330
    orange = (0xE6, 0x9F, 0x00)
    only_sure = sheet_colors(png)[orange]
    draw_detections(*arguments, min_score=0.2)
    assert sheet_colors(png)[orange] > only_sure + 200
    draw_detections(*arguments, max_images=1)
    assert Image.open(png).width == 440 + 24
    draw_detections([], json.loads((detections / "anno.json").read_text()), detections, png)
    # Only the class's swatch in the legend is left.
    assert sheet_colors(png)[orange] < only_sure


def test_sheet_of_real_images(coco128_root, tmp_path):
    anno = coco128_root / "annotations/instances_val2017.json"
    truth = json.loads(anno.read_text())
    results = [{**a, "score": 0.9} for a in truth["annotations"]]
    draw_detections(results, truth, coco128_root / "val2017", tmp_path / "s.png", max_images=5)
    assert Image.open(tmp_path / "s.png").width == 4 * (440 + 12) + 12


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("{", "not JSON"),
        ("[" * 10**5, "not JSON: nested too deeply"),
        ("{}", "not a COCO results list"),
        ('[{"image_id": "x", "bbox": [0, 0, 1, 1]}]', "not a COCO results list"),
        (
            '[{"image_id": "x", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]',
            "unknown category ids",
        ),
        (None, "cannot be read"),
    ],
)
def test_results_that_cannot_be_drawn(detections, content, complaint):
    path = detections / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=complaint):
        draw_detections(path, detections / "anno.json", detections, detections / "s.png")
    assert not (detections / "s.png").exists()


BAD_ENTRIES = [
    ("images", 3, "not an object"),
    ("images", {"file_name": "a.png"}, 'no "id"'),
    ("images", {"id": 1}, 'no "file_name"'),
    ("images", {"id": ["x"], "file_name": "a.png"}, '"id" is'),
    ("images", {"id": 1, "file_name": 7}, '"file_name" is 7'),
    ("images", {"id": 1, "file_name": "a\0.png"}, '"file_name" is'),
    ("categories", {"id": 7}, 'no "name"'),
    ("categories", {"name": "cell"}, 'no "id"'),
    ("categories", {"id": {}, "name": "cell"}, '"id" is'),
    ("annotations", {"image_id": "x", "category_id": 7}, 'no "bbox"'),
    ("annotations", {"category_id": 7, "bbox": [0, 0, 1, 1]}, 'no "image_id"'),
    ("annotations", {"image_id": "x", "category_id": 7, "bbox": [0, 0, 1]}, '"bbox" is'),
    ("annotations", {"image_id": "x", "category_id": 7, "bbox": [0, 0, 1, "1"]}, '"bbox" is'),
    ("annotations", {"image_id": "x", "category_id": 7, "bbox": [0, 0, 1, 10**400]}, '"bbox" is'),
    ("results", None, "not an object"),
    ("results", {"score": "high"}, '"score" is'),
    ("results", {"score": float("nan")}, '"score" is'),
    ("results", {"image_id": []}, '"image_id" is'),
    ("results", {"category_id": {"a": 1}}, '"category_id" is'),
    ("results", {"bbox": [0, 0, float("nan"), 1]}, '"bbox" is'),
    ("results", {"bbox": "0 0 1 1"}, '"bbox" is'),
]


def test_a_pipe_is_no_results_file(tmp_path, detections):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="a pipe, socket or device"):
        draw_detections(
            tmp_path / "pipe.json", detections / "anno.json", detections, tmp_path / "s.png"
        )


@pytest.mark.parametrize("kind, entry, complaint", BAD_ENTRIES)
def test_malformed_entries_are_named(detections, kind, entry, complaint):
    truth = json.loads((detections / "anno.json").read_text())
    results = json.loads((detections / "results.json").read_text())
    if kind == "results":
        results.append({**results[0], **entry} if entry else entry)
    else:
        truth[kind].append(entry)
    (detections / "anno.json").write_text(json.dumps(truth))
    (detections / "results.json").write_text(json.dumps(results))
    arguments = (detections / "results.json", detections / "anno.json", detections)
    with pytest.raises(UserError) as caught:
        draw_detections(*arguments, detections / "s.png")
    assert complaint in str(caught.value) and f"{kind}[" in str(caught.value)
    assert "anno.json" in str(caught.value) or "results.json" in str(caught.value)


@pytest.mark.parametrize("name", ["anno.json", "results.json"])
def test_deeply_nested_json_is_refused(detections, name):
    (detections / name).write_text("[" * 100_000)
    arguments = (detections / "results.json", detections / "anno.json", detections)
    with pytest.raises(UserError, match=name):
        draw_detections(*arguments, detections / "s.png")


@pytest.mark.filterwarnings("error")
def test_endless_boxes_and_strange_names_are_drawn(detections):
    truth = json.loads((detections / "anno.json").read_text())
    truth["categories"][0]["name"] = "two\nlines \ud800 " + "long " * 1000
    for bbox in ([0, 0, 1e7, 1e7], [-1e300, 5, 1e308, 1e308], [1e308, 0, 1e308, 1], [9, 9, -5, 0]):
        truth["annotations"].append({**truth["annotations"][0], "bbox": bbox})
    results = [{**a, "score": 0.9} for a in truth["annotations"]]
    draw_detections(results, truth, detections, detections / "s.png")
    assert (detections / "s.png").is_file()


def test_a_picture_that_cannot_be_read_is_one_line(detections):
    (detections / "b.png").write_text("no picture")
    arguments = (detections / "results.json", detections / "anno.json", detections)
    with pytest.raises(UserError, match="b.png .* is no picture") as caught:
        draw_detections(*arguments, detections / "s.png")
    assert "skip_bad_images" not in str(caught.value)


def test_no_image_no_sheet(tmp_path):
    with pytest.raises(UserError, match="no image"):
        draw_contact_sheet([], tmp_path / "s.png", class_names=[])


def test_a_failed_write_keeps_the_old_picture(tmp_path):
    path = tmp_path / "p.png"
    path.write_text("old")

    def fail(name):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        save_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"] and path.read_text() == "old"


def test_a_write_that_fails_is_the_users_to_mend(tmp_path):
    def full(name):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="p.png cannot be written: No space left"):
        save_whole(tmp_path / "p.png", full)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written"):
        save_whole(tmp_path / "folder", lambda name: None)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_command_line_draws_both(detections, log, capsys):
    arguments = ["--log", str(log), "--results", str(detections / "results.json")]
    arguments += ["--anno", str(detections / "anno.json"), "--image_dir", str(detections)]
    assert main([*arguments, "--output_dir", str(detections / "out")]) == 0
    assert {p.name for p in (detections / "out").iterdir()} == {"loss_curve.png", "detections.png"}
    assert "loss_curve.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "nothing to draw"),
        (["--results", "r.json"], "--anno"),
        (["--log", "x", "--max_images", "0"], "--max_images"),
        (["--log", "x", "--max_images", "many"], "command line: argument --max_images"),
        (["--log", "x", "--min_score", "nan"], "--min_score is nan"),
        (["--log", "x", "--unknown"], "command line: unrecognized"),
    ],
)
def test_command_line_mistakes(arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        main(arguments)
