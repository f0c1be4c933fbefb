# SPDX-License-Identifier: Apache-2.0
"""COCO JSON and TXT annotation files -> image records, with every check on what they say.

Both readers give equal records for equal content. They look at annotation files only; the images
are opened when records are converted (`src.data.mindrecord`), which is also when boxes are
clipped to the real size.
"""

from .coco_annotations import check_coco, like_name, load_coco, read_coco
from .records import AnnotationReport, ImageRecord, clean_boxes, fit_boxes, limit_boxes
from .txt_annotations import read_txt

__all__ = [
    "AnnotationReport",
    "ImageRecord",
    "check_coco",
    "clean_boxes",
    "fit_boxes",
    "like_name",
    "limit_boxes",
    "load_coco",
    "read_coco",
    "read_txt",
]
