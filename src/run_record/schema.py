# SPDX-License-Identifier: Apache-2.0
"""The files of a run's record and the names of its numbers; docs/runs.md explains them."""

from typing import Any

from ..FasterRcnn.names import LOSS_NAMES

METRICS = "metrics.jsonl"  # every row, one JSON object a line
TRAINING_TABLE = "metrics.csv"  # the rows of kind `TRAIN`
EVALUATION_TABLE = "evaluations.csv"  # the rows of kind `EVAL`
ENVIRONMENT = "environment.json"
LOG = "log.txt"
CALLBACKS, STOPPED_EARLY = "callbacks", "stopped_early"  # keys of `ENVIRONMENT`
EVENTS_FOLDER = "tensorboard"
SUMMARY_FOLDER = "summary"
PROFILE_FOLDER = "profile"

Row = dict[str, Any]

KIND, TRAIN, EVAL = "kind", "train", "eval"
# Where in the run a row belongs: steps of the run, epoch from 1, images of the epoch seen by then.
PLACE = ("step", "epoch", "images")

TRAIN_COLUMNS = (
    *PLACE,
    "total_loss",
    *LOSS_NAMES,
    "learning_rate",
    "gradient_norm",
    "loss_scale",
    "seconds",
    "images_per_second",
    "memory_mb",
    "time",
)

NUMBERS_OF_TRAINING = tuple(name for name in TRAIN_COLUMNS if name not in (*PLACE, "time"))

# COCO's twelve numbers, in pycocotools' order.
COCO_METRICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
PER_CLASS = "per_class"
PER_CLASS_SEPARATOR = "/"  # `ap/<class>`: the column of a class's AP, and its name as a metric
VALIDATION_LOSSES = tuple(f"val_{name}" for name in ("total_loss", *LOSS_NAMES))
EVAL_COLUMNS = (
    *PLACE,
    *COCO_METRICS,
    *VALIDATION_LOSSES,
    "num_images",
    "num_detections",
    "seconds",
    "images_per_second",
    "time",
)


def class_column(name: str) -> str:
    """Return the column of a class's AP.

    Args:
        name: the class's.

    >>> class_column("cat")
    'ap/cat'
    """
    return f"{COCO_METRICS[0]}{PER_CLASS_SEPARATOR}{name}"


def lower_is_better(metric: str) -> bool:
    """Say whether a run gets better while a number falls.

    Args:
        metric: its name, as in a row.
    """
    return metric.endswith("loss") or metric in ("seconds", "memory_mb", "gradient_norm")
