# SPDX-License-Identifier: Apache-2.0
"""One small data set in the forms in which tools export it, as their documentation shows them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import yaml

from tests.helpers.data_helpers import picture

CLASSES = ("cat", "traffic light")
HEIGHT, WIDTH = 48, 64


class Truth(NamedTuple):
    """A picture: its name without ending, and (class, x1, y1, x2, y2) of its objects."""

    name: str
    boxes: tuple[tuple[int, float, float, float, float], ...]


TRAIN = (
    Truth("a_1", ((0, 4, 8, 36, 40), (1, 32, 0, 64, 24))),
    Truth("a_2", ((1, 8, 12, 24, 36),)),
    Truth("b_1", ((0, 0, 0, 64, 48),)),
    Truth("b_2", ((0, 16, 16, 48, 32), (0, 2, 2, 10, 14))),
)
VAL = (Truth("c_1", ((1, 20, 10, 40, 30),)), Truth("c_2", ((0, 6, 6, 26, 46),)))


def add_picture(folder: Path, name: str, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.jpg"), picture(HEIGHT, WIDTH, seed))


def add_pictures(folder: Path, truths: Sequence[Truth]) -> None:
    for seed, truth in enumerate(truths):
        add_picture(folder, truth.name, seed)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --------------------------------------------------------------------------- COCO


def coco_text(truths: Sequence[Truth], *, first: int = 1, folder: str = "", above: bool = False):
    """A COCO file; `above` puts Roboflow's category without objects first."""
    categories = [{"id": first + i, "name": n, "supercategory": ""} for i, n in enumerate(CLASSES)]
    if above:
        categories = [{**c, "supercategory": "things"} for c in categories]
        categories.insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    images, annotations = [], []
    for number, truth in enumerate(truths):
        name = f"{folder}{truth.name}.jpg"
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for label, x1, y1, x2, y2 in truth.boxes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": first + label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def coco_own(root: Path) -> None:
    for part, truths in (("train2017", TRAIN), ("val2017", VAL)):
        add_pictures(root / part, truths)
        write(root / f"annotations/instances_{part}.json", coco_text(truths))


def coco_roboflow(root: Path) -> None:
    for part, truths in (("train", TRAIN), ("valid", VAL)):
        add_pictures(root / part, truths)
        write(root / part / "_annotations.coco.json", coco_text(truths, above=True))
    write(root / "README.dataset.txt", "")


def coco_cvat(root: Path) -> None:
    """A project with subsets."""
    for part, truths in (("Train", TRAIN), ("Validation", VAL)):
        add_pictures(root / "images" / part, truths)
        write(root / f"annotations/instances_{part}.json", coco_text(truths))


def coco_cvat_task(root: Path) -> None:
    """A task, whose pictures belong to no subset."""
    add_pictures(root / "images", TRAIN)
    write(root / "annotations/instances_default.json", coco_text(TRAIN))


def coco_label_studio(root: Path) -> None:
    add_pictures(root / "images", TRAIN)
    write(root / "result.json", coco_text(TRAIN, first=0, folder="images/"))


# --------------------------------------------------------------------------- VOC


def voc_text(truth: Truth, *, database: str = "Unknown", first: int = 0, difficult: int = 0) -> str:
    """A file of VOC; with `first` 1 the corners are pixels counted from 1."""
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox><xmin>{x1 + first}</xmin>"
        f"<ymin>{y1 + first}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in truth.boxes
    )
    return (
        f"<annotation><folder>images</folder><filename>{truth.name}.jpg</filename>"
        f"<source><database>{database}</database></source>"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>"
    )


def add_voc(folder: Path, truths: Sequence[Truth], **how) -> None:
    for truth in truths:
        write(folder / f"{truth.name}.xml", voc_text(truth, **how))


def voc_own(root: Path) -> None:
    """VOCdevkit, with its lists of the pictures that have a class."""
    year = root / "VOC2007"
    add_pictures(year / "JPEGImages", TRAIN + VAL)
    add_voc(year / "Annotations", TRAIN + VAL, database="The VOC2007 Database", first=1)
    for part, truths in (("train", TRAIN), ("val", VAL), ("trainval", TRAIN + VAL)):
        rows = [truth.name for truth in truths]
        write(year / f"ImageSets/Main/{part}.txt", "\n".join(rows))
        write(year / f"ImageSets/Main/cat_{part}.txt", "".join(f"{row}  1\n" for row in rows))


def voc_label_img(root: Path) -> None:
    """What labelImg writes beside the pictures."""
    add_pictures(root, TRAIN)
    add_voc(root, TRAIN)


def voc_cvat(root: Path) -> None:
    add_pictures(root / "JPEGImages", TRAIN)
    add_voc(root / "Annotations", TRAIN)
    rows = "".join(f"{truth.name}\n" for truth in TRAIN)
    write(root / "ImageSets/Main/default.txt", rows)
    names = "".join(f"{name}:::\n" for name in CLASSES)
    write(root / "labelmap.txt", f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{names}")


def voc_roboflow(root: Path) -> None:
    for part, truths in (("train", TRAIN), ("valid", VAL)):
        add_pictures(root / part, truths)
        add_voc(root / part, truths, database="roboflow.com")


def voc_label_studio(root: Path) -> None:
    add_pictures(root / "images", TRAIN)
    add_voc(root / "Annotations", TRAIN, database="MyDatabase")


# --------------------------------------------------------------------------- YOLO


def yolo_text(truth: Truth) -> str:
    rows = []
    for label, x1, y1, x2, y2 in truth.boxes:
        values = (
            (x1 + x2) / 2 / WIDTH,
            (y1 + y2) / 2 / HEIGHT,
            (x2 - x1) / WIDTH,
            (y2 - y1) / HEIGHT,
        )
        rows.append(f"{label} " + " ".join(f"{value:.6f}" for value in values))
    return "\n".join(rows)


def add_yolo(folder: Path, truths: Sequence[Truth]) -> None:
    for truth in truths:
        write(folder / f"{truth.name}.txt", yolo_text(truth))


def write_yaml(path: Path, content: dict) -> None:
    write(path, yaml.safe_dump(content, sort_keys=False))


def yolo_ultralytics(root: Path) -> None:
    """With names by number, and a `path` that is that of another machine's folder."""
    for part, truths in (("train", TRAIN), ("val", VAL)):
        add_pictures(root / "images" / part, truths)
        add_yolo(root / "labels" / part, truths)
    content = {
        "path": "../datasets/things",
        "train": "images/train",
        "val": "images/val",
        "test": None,
    }
    write_yaml(root / "things.yaml", {**content, "names": dict(enumerate(CLASSES))})


def yolo_lists(root: Path) -> None:
    """Lists of pictures, as CVAT's Ultralytics format has them."""
    for part, truths in (("train", TRAIN), ("val", VAL)):
        add_pictures(root / "images" / part, truths)
        add_yolo(root / "labels" / part, truths)
        rows = [f"data/images/{part}/{truth.name}.jpg" for truth in truths]
        write(root / f"{part}.txt", "\n".join(rows))
    content = {"path": "./", "train": "train.txt", "val": "val.txt"}
    write_yaml(root / "data.yaml", {**content, "names": dict(enumerate(CLASSES))})


def yolo_roboflow(root: Path) -> None:
    for part, truths in (("train", TRAIN), ("valid", VAL)):
        add_pictures(root / part / "images", truths)
        add_yolo(root / part / "labels", truths)
    sources = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    write_yaml(
        root / "data.yaml",
        {**sources, "nc": 2, "names": list(CLASSES), "roboflow": {"license": "CC BY 4.0"}},
    )


def yolo_cvat(root: Path) -> None:
    add_pictures(root / "obj_train_data", TRAIN)
    add_yolo(root / "obj_train_data", TRAIN)
    rows = "".join(f"data/obj_train_data/{truth.name}.jpg\n" for truth in TRAIN)
    write(root / "train.txt", rows)
    write(root / "obj.names", "".join(f"{name}\n" for name in CLASSES))
    write(
        root / "obj.data",
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    )


def yolo_label_studio(root: Path) -> None:
    add_pictures(root / "images", TRAIN)
    add_yolo(root / "labels", TRAIN)
    write(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    write(root / "notes.json", json.dumps({"info": {"contributor": "Label Studio"}}))


def yolo_label_img(root: Path) -> None:
    """What labelImg writes beside the pictures."""
    add_pictures(root, TRAIN)
    add_yolo(root, TRAIN)
    write(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def yolo_darknet_roboflow(root: Path) -> None:
    for part, truths in (("train", TRAIN), ("valid", VAL)):
        add_pictures(root / part, truths)
        add_yolo(root / part, truths)
        write(root / part / "_darknet.labels", "\n".join(CLASSES))


# --------------------------------------------------------------------------- LabelMe


def labelme_text(truth: Truth, folder: str = "", **changes) -> str:
    shapes = [
        {"label": CLASSES[label], "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle"}
        for label, x1, y1, x2, y2 in truth.boxes
    ]
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{folder}{truth.name}.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    return json.dumps({**content, **changes})


def labelme(root: Path) -> None:
    add_pictures(root, TRAIN)
    for truth in TRAIN:
        write(root / f"{truth.name}.json", labelme_text(truth))


class Sample(NamedTuple):
    """A layout: what writes it, its kind, what it is called, and whether it has a part VAL."""

    make: Callable[[Path], None]
    kind: str
    layout: str
    has_val: bool


SAMPLES = {
    sample.make.__name__: sample
    for sample in (
        Sample(coco_own, "coco", "COCO", True),
        Sample(coco_roboflow, "coco", "COCO, as Roboflow exports it", True),
        Sample(coco_cvat, "coco", "COCO, as CVAT exports it", True),
        Sample(coco_cvat_task, "coco", "COCO, as CVAT exports it", False),
        Sample(coco_label_studio, "coco", "COCO, as Label Studio exports it", False),
        Sample(voc_own, "voc", "VOC", True),
        Sample(voc_label_img, "voc", "VOC, XML files beside the pictures", False),
        Sample(voc_cvat, "voc", "VOC, as CVAT exports it", False),
        Sample(voc_roboflow, "voc", "VOC, as Roboflow exports it", True),
        Sample(voc_label_studio, "voc", "VOC, as Label Studio exports it", False),
        Sample(yolo_ultralytics, "yolo", "YOLO, data.yaml", True),
        Sample(yolo_lists, "yolo", "YOLO, data.yaml", True),
        Sample(yolo_roboflow, "yolo", "YOLO, as Roboflow exports it", True),
        Sample(yolo_cvat, "yolo", "YOLO, as CVAT exports it", False),
        Sample(yolo_label_studio, "yolo", "YOLO, as Label Studio exports it", False),
        Sample(yolo_darknet_roboflow, "yolo", "YOLO for Darknet, as Roboflow exports it", True),
        Sample(yolo_label_img, "yolo", "YOLO, text files beside the pictures", False),
        Sample(labelme, "labelme", "LabelMe", False),
    )
}
