# SPDX-License-Identifier: Apache-2.0
"""What is odd in annotations that are written anew, as a training would report it."""

from ...base.errors import UserError
from ..coco_annotations import records_of
from ..coco_file import CocoFile
from .part import Part


def findings_of(part: Part, file: CocoFile) -> list[str]:
    """Return what a training on all classes would report of a part, or refuse it for; a line each.

    Args:
        part: where it comes from.
        file: its annotations.
    """
    try:
        _, report = records_of(
            file,
            part.image_dir,
            file.class_names(),
            keep_empty=True,
            to_learn=False,
            corners=part.corners,
        )
    except UserError as error:
        return [f"note: a training on all of its classes would end: {error}"]
    return report.lines()[1:]
