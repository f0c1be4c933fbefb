# SPDX-License-Identifier: Apache-2.0
"""The report of a run says what its files say, and stays whole when these do not."""

import json
import os
import shutil
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.commands import report as command
from src.model_utils.config import load_config
from src.pages.page import render_page
from src.report import build, gallery
from src.report.build import try_report, write_report
from src.report.curves import training_charts
from src.report.data_summary import DataSummary
from src.report.evaluation import evaluation_part
from src.report.overview import tiles
from src.report.run_files import read_run
from tests.helpers.jittered_boxes import jittered_results
from tests.helpers.report_runs import EPOCHS, NAMES, Page, config_of, make_run
from tests.helpers.run_records import write_run_record

LOSS_LINE = (
    "epoch: {} step: {}, rpn_loss: 0.20000, rcnn_loss: 0.50000, rpn_cls_loss: 0.05000, "
    "rpn_reg_loss: 0.15000, rcnn_cls_loss: 0.30000, rcnn_reg_loss: 0.20000, total_loss: 0.70000\n"
)
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(made):
    return Page(write_report(load_config([]), made[0]).read_text())


def three(value):
    return "-" if value is None else f"{value:.3f}"


# --------------------------------------------------------------------------- numbers


def test_the_evaluations_of_all_epochs_are_those_of_the_rows(made, page):
    rows = [row for row in made[1] if row["kind"] == "eval"]
    shown = page.table("AP75")  # the first such table
    assert len(shown) == len(rows) == EPOCHS
    for row, cells in zip(rows, shown, strict=True):
        assert cells["epoch"].removesuffix(" (best)") == str(row["epoch"])
        for key, title in (("ap", "AP"), ("ap50", "AP50"), ("ap_small", "AP small")):
            assert cells[title] == three(row[key])
        assert cells["loss total"] == f"{row['val_total_loss']:.4f}"
        assert [cells[name] for name in NAMES] == [three(row["per_class"][n]) for n in NAMES]
        assert "AP large" not in cells  # no evaluation has a number there
    assert shown[-1]["epoch"].endswith("(best)")
    assert page.tiles[""]["Best AP"] == three(rows[-1]["ap"])


def test_the_classes_are_those_of_the_evaluation(made, page):
    evaluation = made[2]
    shown = page.table("best threshold")
    assert [row["class"] for row in shown] == list(NAMES)
    for entry, cells in zip(evaluation["classes"], shown, strict=True):
        assert cells["boxes"] == str(entry["boxes"]["all"])
        assert cells["found"] == str(entry["detections"])
        assert [cells[k] for k in ("AP", "AP50", "AR")] == [
            three(entry[k]) for k in ("ap", "ap50", "ar")
        ]
        assert [cells[k] for k in ("precision", "recall", "F1")] == [
            three(entry["best"][k]) for k in ("precision", "recall", "f1")
        ]
    assert page.tiles["evaluation"]["AP50"] == three(evaluation["summary"]["ap50"])


def test_numbers_of_training_pictures_are_marked_as_such(made, tmp_path, page):
    assert "training pictures, and says little" not in (made[0] / "report.html").read_text()
    run = shutil.copytree(made[0], tmp_path / "run")
    config = load_config(["--config_path", str(run / "config.yaml")])
    config.replace(val_data_type=config.train_data_type).save(str(run / "config.yaml"))
    html = write_report(load_config([]), run).read_text()
    head, _, rest = html.partition("<section")
    assert "WARNING: AP is measured on the training pictures" in head
    assert "epoch 12, measured on the training pictures" in head
    assert "the same for validation" in head
    assert rest.count("WARNING: AP is measured on the training pictures") == 2


def test_the_errors_and_confusions_are_those_of_the_evaluation(made, page):
    evaluation = made[2]
    kinds = {row["kind"]: row for row in page.table("AP50 lost")}
    assert {kind: (row["errors"], row["AP50 lost"]) for kind, row in kinds.items()} == {
        kind: (str(cost["count"]), three(cost["ap"]))
        for kind, cost in evaluation["errors"]["kinds"].items()
    }
    matrix = next(table for table in page.tables if "background" in table[0])
    assert matrix[0][1:] == evaluation["confusion"]["labels"]
    assert [[int(cell or 0) for cell in row[1:]] for row in matrix[1:]] == (
        evaluation["confusion"]["matrix"]
    )


def test_the_data_is_that_of_the_annotations(made, page):
    truth = json.loads((made[0].parent / "data/annotations/instances_val2017.json").read_text())
    split = page.table("boxes a picture")[1]
    assert split["split"] == "validation" and split["pictures"] == str(len(truth["images"]))
    assert split["boxes"] == str(len(truth["annotations"])) and split["crowd regions"] == "1"
    objects = [a["category_id"] for a in truth["annotations"] if not a["iscrowd"]]
    boxes = [row["validation boxes"] for row in page.table("validation boxes")]
    assert boxes == [str(objects.count(11 * n)) for n in (1, 2, 3)]


def test_the_curves_hold_the_rows(made):
    html = (made[0] / "report.html").read_text()
    chart = html[html.index("Total loss</figcaption>") :]
    chart = chart[chart.index('application/json">') :].partition(">")[2].partition("</script>")[0]
    logged = json.loads(chart)["curves"][0]["y"]
    rows = [row for row in made[1] if row["kind"] == "train"]
    assert logged == [f"{row['total_loss']:.5f}" for row in rows]


def test_settings_stand_beside_their_defaults(page):
    changed = {row["key"]: row for row in page.table("this run")}
    assert changed["coco_classes"]["this run"] == "[background, cat, dog, fox]"
    assert changed["coco_root"]["default"] == "(empty)"
    assert not changed.keys() & {"momentum", "roi_layer", "num_classes"}


def test_the_boxes_and_pictures_are_those_of_the_evaluation(made, page):
    pictures = {p["image_id"]: p for group in ("worst", "best") for p in made[2]["pictures"][group]}
    assert len(page.pictures) == len(pictures) and page.pictures[0].startswith("data:image/jpeg")
    truth = [box for picture in pictures.values() for box in picture["truth"]]
    found = [box for picture in pictures.values() for box in picture["detections"]]
    drawn = [rect["class"] for rect in page.rects]
    assert drawn.count("truth") + drawn.count("crowd") == len(truth)
    for verdict in gallery.VERDICTS:
        assert drawn.count(verdict) == sum(
            box["verdict"] == verdict and box["score"] >= 0.05 for box in found
        )


def test_it_names_the_commands_to_go_on_with(made, page):
    assert f"--checkpoint_path {made[0].resolve()}/ckpt_0/best.ckpt" in page.words
    assert f"--config_path {made[0].resolve()}/config.yaml" in page.words
    assert "--resume auto" not in page.words  # the run is complete


def test_it_is_one_small_file(made):
    html = (made[0] / "report.html").read_text()
    assert len(html) < 5_000_000 and "http://" not in html.replace("http://www.w3.org/", "")


# --------------------------------------------------------------------------- less than that


def test_a_folder_of_an_earlier_version(tmp_path):
    """A loss log, and the beginning of checkpoints; neither rows nor an evaluation."""
    lines = [LOSS_LINE.format(epoch, step) for epoch in (1, 2) for step in (5, 10)]
    (tmp_path / "loss_0.log").write_text("".join(lines))
    (tmp_path / "config.yaml").write_text("epoch_size: 3\nsome_old_key: [1]\n")
    (tmp_path / "ckpt_0").mkdir()
    (tmp_path / "ckpt_0/faster_rcnn-2_10.ckpt").touch()
    page = Page(write_report(load_config([]), tmp_path).read_text())
    assert page.tiles[""]["Epochs"] == "2 of 3" and page.tiles[""]["Total loss"] == "0.7000"
    assert {r["key"]: r["default"] for r in page.table("this run")} == {
        "epoch_size": str(load_config([]).epoch_size),
        "some_old_key": "(no key of this version)",
    }
    assert "coco_root is empty" in page.words
    assert "--resume auto" in page.words and "faster_rcnn-2_10.ckpt" in page.words


def test_a_run_of_one_row_has_its_numbers_in_place_of_curves(tmp_path):
    run, _, _ = make_run(tmp_path, images=2)
    rows = write_run_record(run, epochs=1, steps=10, class_names=NAMES)
    page = Page(write_report(load_config([]), run).read_text())
    shown = page.tiles["training"]
    assert shown["Total loss"] == f"{rows[0]['total_loss']:.4f}"
    assert shown["Learning rate"] == f"{rows[0]['learning_rate']:.3g}"
    assert "Its four parts" not in page.words and "Average precision" not in page.words
    assert len(page.table("AP75")) == 1 and "Evaluation in training" in page.words


def test_the_way_on_after_an_early_end(made, tmp_path):
    """Hooks are in no configuration; the record names them, and a name alone is taken from it."""
    run = shutil.copytree(made[0], tmp_path / "a run")
    os.unlink(run / "ckpt_0/faster_rcnn-12_50.ckpt")
    environment = json.loads((run / "environment.json").read_text())
    environment["callbacks"] = ["hooks.Mine", "x; rm -rf /", 3]
    (run / "environment.json").write_text(json.dumps(environment))
    going_on = f"--resume auto --output_dir '{run}' --callbacks hooks.Mine"
    words = Page(write_report(load_config([]), run).read_text()).words
    assert going_on in words and "ended early" not in words and "rm -rf" not in words
    environment["stopped_early"] = "ap was not better"
    (run / "environment.json").write_text(json.dumps(environment))
    page = Page(write_report(load_config([]), run).read_text())
    assert f"{going_on} --early_stopping 0" in page.words
    assert "though it ended early (ap was not better)" in page.words


def test_detections_without_an_evaluation_are_evaluated(tmp_path):
    run, _, evaluation = make_run(tmp_path)
    (run / "evaluation_report.json").unlink()
    truth = json.loads((tmp_path / "data/annotations/instances_val2017.json").read_text())
    (run / "eval").mkdir()
    (run / "eval/results.json").write_text(json.dumps(jittered_results(truth)))
    page = Page(write_report(load_config([]), run).read_text())
    assert page.tiles["evaluation"]["AP"] == three(evaluation["summary"]["ap"])
    assert page.pictures and "results.json" in page.words
    (run / "eval/results.json").write_text('[{"image_id": 1}]')
    page = Page(write_report(load_config([]), run).read_text())
    assert "is not evaluated" in page.words and "evaluation" not in page.tiles


@pytest.mark.parametrize(
    "left", ["config.yaml", "metrics.jsonl", "evaluation_report.json", "ckpt_0"]
)
def test_any_one_file_is_enough(made, tmp_path, left):
    shutil.copytree(made[0], tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "Going on" in Page(write_report(load_config([]), tmp_path / "run").read_text()).words


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing of a training is in it"):
        write_report(load_config([]), tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        write_report(load_config([]), tmp_path / "none")


def test_damaged_files_are_named_and_the_rest_is_shown(made, tmp_path):
    run = shutil.copytree(made[0], tmp_path / "run")
    for name in ("environment.json", "evaluation_report.json", "config.yaml"):
        (run / name).write_text("{")
    (run / "loss_0.log").write_text(LOSS_LINE.format(1, 5))
    page = Page(write_report(load_config([]), run).read_text())
    for name in ("environment.json", "evaluation_report.json", "config.yaml"):
        assert name in page.words
    assert page.tiles[""]["Total loss"] == "0.7000"


@pytest.mark.parametrize("largest", [1e308, 3.4e38])
@pytest.mark.parametrize("name", ["metrics.jsonl", "loss_0.log"])
def test_numbers_of_any_size_give_a_report(tmp_path, name, largest):
    lines = []
    for step, value in enumerate((largest, -largest, 0.5, largest), 1):
        row = {"kind": "train", "step": step, "epoch": 1, "images": 1, "time": value}
        row |= dict.fromkeys(("total_loss", "rpn_cls_loss", "images_per_second"), value)
        log = LOSS_LINE.format(1, step).replace("0.70000", str(value).replace("+", ""))
        lines.append(json.dumps(row) + "\n" if name == "metrics.jsonl" else log)
    (tmp_path / name).write_text("".join(lines))
    run = read_run(tmp_path)
    assert len(run.training) == 4 and not run.notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiles(run, load_config([]), DataSummary())
        assert training_charts(run.training)


# --------------------------------------------------------------------------- foreign folders


def test_names_of_others_are_texts(tmp_path):
    names = (EVIL, "' onload='alert(1)", "&lt;")
    run, _, evaluation = make_run(tmp_path, images=2, names=names)
    evaluation["notes"] = [EVIL]
    (run / "evaluation_report.json").write_text(json.dumps(evaluation))
    page = Page(write_report(load_config([]), run).read_text())
    assert len(page.scripts) - page.scripts.count("") == 4  # theme, tables, charts, gallery
    assert EVIL in page.words and names[1] in page.words
    assert [row["class"] for row in page.table("best threshold")] == list(names)


def test_a_folder_whose_name_is_no_text(made, tmp_path):
    run = shutil.copytree(made[0], tmp_path / os.fsdecode(b"\xff<b>"))
    html = write_report(load_config([]), run).read_text(encoding="utf-8")
    assert "\\udcff&lt;b&gt;" in html


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "", "a\0b", "none.jpg"])
def test_pictures_come_from_their_folder_alone(made, name, tmp_path):
    shutil.copy(made[0].parent / "data/val2017/000.jpg", made[0].parent / "data/secret.png")
    run = shutil.copytree(made[0], tmp_path / "run")
    evaluation = json.loads((run / "evaluation_report.json").read_text())
    for group in ("worst", "best"):
        for picture in evaluation["pictures"][group]:
            picture["file_name"] = name
    (run / "evaluation_report.json").write_text(json.dumps(evaluation))
    page = Page(write_report(load_config([]), run).read_text())
    assert not page.pictures and "cannot be shown" in page.words


def test_no_picture_is_read_when_none_is_wanted(made, tmp_path, monkeypatch):
    run = shutil.copytree(made[0], tmp_path / "run")
    monkeypatch.setattr(gallery, "read_image", None)
    assert not Page(write_report(load_config([]), run, pictures=0).read_text()).pictures


def test_the_page_stays_small_whatever_the_pictures(made, monkeypatch):
    monkeypatch.setattr(gallery, "_MOST_BYTES", 60_000)
    find = f"{made[0].parent}/data/val2017/{{}}".format
    some = gallery.make_gallery(made[2], find, threshold=None, max_pixels=10**7)
    assert 0 < len(some.shots) < 8 and sum(len(s.image.uri) for s in some.shots) <= 60_000
    assert "enough for one page" in some.notes[-1] and some.threshold == 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_an_evaluation_of_any_content_gives_a_page(made, without_charts, data):
    """One value somewhere in the report is another one."""
    evaluation = json.loads(json.dumps(made[2]))
    place = evaluation
    while True:
        keys = range(len(place)) if isinstance(place, list) else sorted(place)
        key = data.draw(st.sampled_from(list(keys)))
        inner = place[key]
        if not isinstance(inner, list | dict) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(JSON)
    part = evaluation_part(evaluation)
    find = f"{made[0].parent}/data/val2017/{{}}".format
    shots = gallery.make_gallery(
        evaluation, find, threshold=None, max_pixels=10**6, most_pictures=1
    )
    assert part is not None
    html = render_page(
        "evaluation.html", {"evaluation": part, "gallery": shots}, folder=made[0].parent
    )
    assert "</footer>" in html


@pytest.fixture(scope="module")
def without_charts(made):
    """A small template, which says what it is given."""
    (made[0].parent / "evaluation.html").write_text(
        '{% extends "page.html" %}{% import "macros.html" as ui %}'
        "{% block title %}{% endblock %}{% block content %}{{ ui.tiles(evaluation.tiles) }}"
        "{{ ui.table(evaluation.classes) }}{% endblock %}"
    )


# --------------------------------------------------------------------------- when it is written


def test_a_report_that_fails_is_one_warning(made, tmp_path, capsys, monkeypatch):
    assert try_report(load_config([]), tmp_path) is None
    monkeypatch.setattr(build, "render_page", lambda *_, **__: 1 / 0)
    assert try_report(load_config([]), made[0]) is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("WARNING: no report.html: ")
    assert lines[1] == "WARNING: no report.html: ZeroDivisionError: division by zero"


def test_the_command(made, page, tmp_path, capsys):
    run = shutil.copytree(made[0], tmp_path / "run")
    assert command.main([str(run), "--pictures", "1"]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert len(Page((run / "report.html").read_text()).pictures) == 1
    moved = tmp_path / "moved"
    shutil.copytree(made[0].parent / "data", moved)
    (run / "config.yaml").write_text("coco_root: /nowhere\n")
    command.main([str(run), "--coco_root", str(moved), "--coco_classes", *NAMES])
    shown = Page((run / "report.html").read_text())
    assert len(shown.pictures) == len(page.pictures) > 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "no run is named"),
        (["--pictures", "3"], "no run is named"),
        (["run", "--pictures", "49"], "--pictures: 49 is not 0 to 48"),
        (["run", "--pictures", "x"], "--pictures: 'x' is not a whole number"),
    ],
)
def test_the_command_refuses(arguments, problem):
    with pytest.raises(UserError, match=problem):
        command.main(arguments)


def test_what_the_settings_of_a_stranger_cannot_do(made, tmp_path):
    """They name neither what is read as code nor where the page goes."""
    run = shutil.copytree(made[0], tmp_path / "run")
    config_of(made[0].parent / "data", *NAMES).replace(output_dir=str(tmp_path / "out")).save(
        str(run / "config.yaml")
    )
    write_report(load_config([]), run)
    assert (run / "report.html").is_file() and not os.path.lexists(tmp_path / "out")
