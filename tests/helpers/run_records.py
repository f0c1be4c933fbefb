# SPDX-License-Identifier: Apache-2.0
"""The record of a run that never was, for tests of what reads records."""

import csv
import json
import math
from pathlib import Path

from src.FasterRcnn.names import LOSS_NAMES
from src.run_record.schema import (
    COCO_METRICS,
    ENVIRONMENT,
    EVAL,
    EVAL_COLUMNS,
    EVALUATION_TABLE,
    KIND,
    LOG,
    METRICS,
    PER_CLASS,
    TRAIN,
    TRAIN_COLUMNS,
    TRAINING_TABLE,
    VALIDATION_LOSSES,
    class_column,
)

CLASS_NAMES = ("cat", "dog", "fox")
FIRST_TIME = 1_760_000_000.0  # seconds since 1970


def write_run_record(
    folder, *, epochs=3, steps=50, interval=10, class_names=CLASS_NAMES, batch=4, evaluate=True
):
    """Write metrics.jsonl, its two tables, environment.json and log.txt; return the rows.

    Losses fall, APs rise, the second half of the classes has no ground truth in the first epoch.

    Args:
        folder: of the run; made when missing.
        epochs, steps, interval, batch: of the run; steps an epoch.
        evaluate: whether there are evaluations, with validation losses, after every epoch.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for epoch in range(1, epochs + 1):
        done = range(interval, steps + 1, interval)
        rows += [_training_row(epoch, step, steps, batch) for step in done]
        if evaluate:
            rows.append(_evaluation_row(epoch, epochs, steps, batch, class_names))
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / METRICS).write_text("".join(lines), encoding="utf-8")
    classes = [class_column(name) for name in class_names]
    _write_table(folder / TRAINING_TABLE, TRAIN_COLUMNS, rows, TRAIN)
    _write_table(folder / EVALUATION_TABLE, [*EVAL_COLUMNS, *classes], rows, EVAL)
    (folder / ENVIRONMENT).write_text(json.dumps(environment(), indent=1), encoding="utf-8")
    (folder / LOG).write_text("training on 200 images\ndone\n", encoding="utf-8")
    return rows


def _training_row(epoch, step, steps, batch):
    done = (epoch - 1) * steps + step
    losses = [0.02 + math.exp(-done / (40 + 10 * i)) / (i + 1) for i in range(len(LOSS_NAMES))]
    return {
        KIND: TRAIN,
        "step": done,
        "epoch": epoch,
        "images": step * batch,
        "total_loss": losses[0] + losses[1],
        **dict(zip(LOSS_NAMES, losses, strict=True)),
        "learning_rate": 0.02 * min(1.0, done / 30),
        "gradient_norm": 3.0 + math.sin(done / 7),
        "loss_scale": 256.0,
        "seconds": None if done <= 10 else 0.5 + 0.01 * math.cos(done),
        "images_per_second": None if done <= 10 else batch / 0.5,
        "memory_mb": 1500.0 + done / 10,
        "time": FIRST_TIME + 0.5 * done,
    }


def _evaluation_row(epoch, epochs, steps, batch, class_names):
    ap = 0.6 * epoch / epochs
    numbers = {name: max(0.0, ap - 0.03 * i) for i, name in enumerate(COCO_METRICS)}
    numbers["ap_large"] = numbers["ar_large"] = None  # no object of that size
    absent = class_names[len(class_names) // 2 :] if epoch == 1 else ()
    return {
        KIND: EVAL,
        "step": epoch * steps,
        "epoch": epoch,
        "images": steps * batch,
        **numbers,
        PER_CLASS: {
            name: None if name in absent else ap - 0.02 * i for i, name in enumerate(class_names)
        },
        **{name: 1.0 / (epoch + i) for i, name in enumerate(VALIDATION_LOSSES)},
        "num_images": 72,
        "num_detections": 900,
        "seconds": 12.5,
        "images_per_second": 6.1,
        "time": FIRST_TIME + 0.5 * epoch * steps + 12.5,
    }


def _write_table(path, columns, rows, kind):
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for row in rows:
            if row[KIND] == kind:
                classes = {class_column(k): v for k, v in row.get(PER_CLASS, {}).items()}
                table.writerow({**row, **classes})


def environment():
    """Return the content of an environment.json."""
    return {
        "started": "2026-01-02T03:04:05+00:00",
        "step": 0,
        "epoch": 1,
        "command": ["train.py", "--coco_root", "data", "--device_target", "CPU"],
        "python": "3.11.2",
        "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
        "packages": {"mindspore": "2.10.0", "numpy": "1.26.4"},
        "version": "20.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "device_target": "CPU",
        "device": "AMD EPYC 9355",
        "processes": 1,
        "processors": 2,
        "processor": "AMD EPYC 9355",
        "memory_mb": 24000.0,
        "variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "callbacks": [],
        "earlier": [],
    }
