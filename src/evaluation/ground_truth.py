# SPDX-License-Identifier: Apache-2.0
"""What detections are judged by: COCO annotations, from a file or made of records.

Files are checked for what judging needs of them. Without MindSpore.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.messages import short_list
from ..data.coco_annotations import like_name
from ..data.coco_file import CocoFile
from ..data.records import ImageRecord


def load_ground_truth(
    source: str | Path | Mapping[str, Any], class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a COCO annotation dict: as it is, or from a file, which is checked.

    A file without `annotations`, as COCO's test sets have, has none. Whole numbers as ids are ints,
    however they are written.

    Args:
        source: the dict, or the file.
        class_names: the classes whose annotations are checked.

    Raises:
        UserError: when there is no such file, it is not JSON, not COCO instances, an image has two
            entries, no annotation is of a listed image, or an entry of one of the `class_names`
            cannot be used (see `CocoFile.check_for_evaluation`).
    """
    if isinstance(source, Mapping):
        return dict(source)
    file = CocoFile.read(str(source), unannotated=True)
    file.check_for_evaluation(class_names)
    return file.content()


def category_ids_of(
    ground_truth: Mapping[str, Any], class_names: Sequence[str], source: str | Path = "annotations"
) -> list[int | str | None]:
    """Return the category id of every class, matched by name; None where the file has none.

    A file without objects of a class often lacks the category, too.

    Args:
        ground_truth: COCO annotation dict.
        class_names: (C,) names without the background.
        source: what to call the file in an error.

    Raises:
        UserError: when the file has no category of any of the names, or lacks one and has another
            that may be the same under another name.
    """
    by_name: dict[str, int | str] = {}
    for category in ground_truth["categories"]:
        if isinstance(category.get("name"), str):  # a dict that is given is not checked
            by_name[category["name"]] = category["id"]
    absent = [name for name in class_names if name not in by_name]
    others = [name for name in by_name if name not in set(class_names)]
    # Objects of another category, or a similar name: the same class, called differently.
    used = {annotation["category_id"] for annotation in ground_truth["annotations"]}
    likely = [name for name in others if by_name[name] in used]
    likely += [near for name in absent if (near := like_name(name, others, 0.8))]
    if absent and (likely or len(absent) == len(class_names)):
        raise UserError(
            f"{source}: no category named {short_list([repr(name) for name in absent])} (it has "
            f"{short_list(list(by_name), 8) or 'none'}); set coco_classes to names of this file, "
            f"or add {_category(absent[0])} to its categories"
        )
    return [by_name.get(name) for name in class_names]


def absent_classes_note(
    category_ids: Sequence[int | str | None], class_names: Sequence[str], source: str | Path
) -> str | None:
    """What to say of classes that the ground truth has no category for; None without any.

    Args:
        category_ids: (C,) as `category_ids_of` gives them, None for a class without a category.
        class_names: (C,) names without the background.
        source: what to call the ground truth.
    """
    names = [name for name, id_ in zip(class_names, category_ids, strict=True) if id_ is None]
    if not names:
        return None
    return (
        f"note: {source} has no category named {short_list([repr(name) for name in names])}: not "
        "judged, and detections of it are not in the results, which have no id for it; if it "
        f"belongs to this data, add {_category(names[0])} to the file's categories"
    )


def _category(name: str) -> str:
    return f'{{"id": ..., "name": "{name}"}}'


def coco_from_records(records: Sequence[ImageRecord], class_names: Sequence[str]) -> dict[str, Any]:
    """Build a COCO annotation dict from image records, for data that has no COCO file.

    Args:
        records: the images, boxes and labels 1..C.
        class_names: (C,); they get the category ids 1..C.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        images.append({"id": record.image_id, "file_name": record.file_name})
        for box, label, crowd in zip(record.boxes, record.labels, record.crowd, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def known_ids(data: Mapping[str, Any]) -> list[int | str]:
    """Return the ids of all images of a COCO annotation dict, in its order.

    Args:
        data: has a list `images`, each with an id.
    """
    return [image["id"] for image in data["images"]]
