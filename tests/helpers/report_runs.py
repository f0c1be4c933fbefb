# SPDX-License-Identifier: Apache-2.0
"""Folders of runs to write reports of, and what stands in a report."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

from src.evaluation.analysis.report import analyse, write_report
from src.evaluation.coco import evaluate_results
from src.model_utils.config import load_config
from tests.helpers.jittered_boxes import HEIGHT, WIDTH, drawn_truth, jittered_results
from tests.helpers.run_records import write_run_record

NAMES = ("cat", "dog", "fox")
EPOCHS = 12


def make_run(root, *, images=8, names=NAMES):
    """Write a data set and the folder of a run on it; return the folder, rows and the evaluation.

    Args:
        root: an empty folder.
        images: of the validation split; the training split has two.
        names: of the classes.
    """
    data, run = Path(root, "data"), Path(root, "train")
    truth = drawn_truth(names, images=images, crowds=1)
    _write_split(data, "val2017", truth)
    _write_split(data, "train2017", drawn_truth(names, images=2, seed=1))
    rows = write_run_record(run, epochs=EPOCHS, class_names=names)
    results = jittered_results(truth)
    report = analyse(
        evaluate_results(truth, results, names),
        truth["images"],
        {
            "detector": str(run),
            "epoch": EPOCHS,
            "annotations": str(data / "annotations/instances_val2017.json"),
            "image_folder": str(data / "val2017"),
            "results": None,
        },
    )
    write_report(run, report)
    config_of(data, *names).save(str(run / "config.yaml"))
    (run / "ckpt_0").mkdir()
    for name in ("faster_rcnn-11_50.ckpt", "faster_rcnn-12_50.ckpt", "best.ckpt"):
        (run / "ckpt_0" / name).touch()
    return run, rows, json.loads((run / "evaluation_report.json").read_text())


def config_of(data, *names):
    """The configuration of a run on a data set."""
    classes = ["--coco_classes", json.dumps(["background", *names])]
    return load_config(
        ["--coco_root", str(data), "--epoch_size", str(EPOCHS), "--base_lr", "0.02", *classes]
    )


def _write_split(root, split, truth):
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(truth))
    rng = np.random.default_rng(0)
    for image in truth["images"]:
        small = rng.integers(0, 255, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
        picture = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(os.fspath(root / split / image["file_name"]), picture)


class Page(HTMLParser):
    """What a page says.

    Attributes:
        tables: rows of cells' texts of each table, headings first.
        tiles: label -> value of the numbers in a row, by section; "" for those on top.
        scripts: content of every script that runs.
        pictures: addresses of the pictures.
        rects: attributes of every box.
        words: all that is shown.
    """

    def __init__(self, html):
        super().__init__()
        self.tables, self.scripts, self.pictures, self.rects = [], [], [], []
        self.tiles, self.words = {}, ""
        self._section, self._label, self._open = "", "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in ("meta", "img", "input", "rect", "link", "br"):
            self._open.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"]
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.pictures.append(attributes["src"])
        elif tag == "rect":
            self.rects.append(attributes)
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if "script" in tags:
            if "type" not in self._open[-1][1]:
                self.scripts[-1] += data
            return
        if "style" in tags:
            return
        self.words += data
        if "td" in tags or "th" in tags:
            self.tables[-1][-1][-1] += data.strip()
        if tags[-1:] == ["dt"]:
            self._label = data
        elif tags[-1:] == ["dd"] and "class" not in self._open[-1][1]:
            self.tiles.setdefault(self._section, {})[self._label] = data

    def table(self, heading):
        """The rows of the table that has this heading, each heading -> text."""
        for first, *rows in self.tables:
            if heading in first:
                return [dict(zip(first, row, strict=True)) for row in rows]
        raise AssertionError(f"no table with {heading}")
