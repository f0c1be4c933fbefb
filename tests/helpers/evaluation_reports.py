# SPDX-License-Identifier: Apache-2.0
"""An evaluation_report.json, made of drawn boxes, as `src.evaluation.analysis.schema` has it."""

from src.evaluation.analysis import schema
from src.evaluation.analysis.report import analyse
from src.evaluation.coco import evaluate_results
from tests.helpers.jittered_boxes import drawn_truth, jittered_results

NAMES = ("RBC", "WBC", "Platelets")


def sample_evaluation_report(
    names: tuple[str, ...] = NAMES, *, images: int = 30, speed: bool = True
) -> schema.EvaluationReport:
    """Return a report of `images` pictures; the last class has neither boxes nor detections.

    Args:
        names: the classes, and "unseen" comes after them.
        images: evaluated ones.
        speed: False leaves it out, as a report of result files does.
    """
    data = drawn_truth(names, images=images, crowds=2)
    results = jittered_results(data)
    data["categories"].append({"id": 1, "name": "unseen"})
    return analyse(
        evaluate_results(data, results, [*names, "unseen"]),
        data["images"],
        {
            "detector": "runs/bccd/ckpt_0/best.ckpt",
            "epoch": 12,
            "annotations": "bccd/annotations/instances_val2017.json",
            "image_folder": "bccd/val2017",
            "results": "runs/bccd/results.json",
        },
        lowest_score=0.05,
        speed={
            "images_per_second": 4.2,
            "seconds_per_image": 1 / 4.2,
            "processes": 1,
            "batch_size": 2,
            "device_target": "CPU",
            "mindspore": "2.10.0",
        }
        if speed
        else None,
    )
