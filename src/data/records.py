# SPDX-License-Identifier: Apache-2.0
"""One annotated image as the program sees it, the cleaning of its boxes, and the report of that."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..base.errors import UserError
from ..base.messages import counted, in_number, one_line

_EXAMPLE_LIMIT = 160  # characters
EXAMPLES_PER_FINDING = 3
# Each of these has to be mended before a training: they are listed, a line each.
_LISTED, _MOST_LISTED, _LISTED_LIMIT = ("broken_file", "broken_row"), 20, 400
_FEW = 2  # of them in an error, which is one line
# What can be found in annotations and images, in the order of the report, and how it reads there
# behind its number (see `in_number`). None of these stops a run while something usable is left.
FINDINGS = {
    "broken_file": (
        "annotation [file|files] that cannot be used, left out here with [its picture|their "
        "pictures]; a training ends at [it|the first of them]"
    ),
    "broken_row": (
        "[row or entry|rows or entries] of the annotations that cannot be used, left out here; a "
        "training ends at [it|the first of them]"
    ),
    "missing_class": (
        "[class|classes] without a category in the file: none of [its|their] objects is known here"
    ),
    "mixed_ids": (
        "[annotation that names its|annotations that name their] image by a text where the image's "
        "id is a number, or the other way round, ignored: write both alike"
    ),
    "unknown_image": (
        "[annotation of an image|annotations of images] that the file does not list, ignored"
    ),
    "other_class": "[box of a class|boxes of classes] outside the configured list, ignored",
    "unlabelled": (
        "[picture|pictures] without annotations, left out: nobody says that [it holds|they hold] "
        "no object"
    ),
    "no_labels": (
        "[picture|pictures] without a file of annotations, taken for [one|pictures] without objects"
    ),
    "crowd_lost": "crowd [region|regions], for which YOLO's files have no place, left out",
    "other_shape": "[point or line, which has|points and lines, which have] no area, left out",
    "same_picture": (
        "[image|images] whose file has another id too, each with a part of its boxes at best: give "
        "a picture one id"
    ),
    "outside_folder": "[image|images] outside the image folder, by an absolute name or ..",
    "ignore": (
        "[annotation|annotations] with ignore 1, which has no effect here (as in pycocotools): set "
        "iscrowd to 1 where objects shall neither be learned nor counted"
    ),
    "non_finite": "[box|boxes] with NaN or infinite coordinates, dropped",
    "degenerate": "[box|boxes] without a positive width and height, dropped",
    "fractions": (
        "[box|boxes] within the first pixel of [its|their] image, which [looks|look] like "
        "fractions of its size: coordinates are pixels here, multiply x by the image's width and y "
        "by its height"
    ),
    "width_height": (
        "[box|boxes] whose xmax is below xmin or ymax below ymin, which [looks|look] like "
        "x,y,width,height: boxes here are xmin,ymin,xmax,ymax"
    ),
    "corners": (
        "[box that leaves its|boxes that leave their] image as [x, y, width, height] and "
        "[fits|fit] as [xmin, ymin, xmax, ymax]: COCO's bbox is the former"
    ),
    "turned": (
        "[image|images] whose boxes fit the picture as it is stored, not as its EXIF rotation "
        "shows it: turn the boxes, or take the rotation out of the pictures (exiftool "
        "-Orientation= FILE)"
    ),
    "bad_image": "missing or undecodable [image|images], skipped",
    "narrow": (
        "[image|images] of 16 bits that [uses|use] far fewer, which makes [it|them] (nearly) "
        "black: stretch the values to 16 bits, or save them with 8"
    ),
    "zero_end": (
        "uncompressed [image that ends|images that end] in zeros: a black border, or a copy that "
        "was interrupted"
    ),
    "size_mismatch": "[image|images] whose real size differs from the stated one, real size used",
    "outside": "[box|boxes] entirely outside [its|their] image, dropped",
    "clipped": "[box|boxes] partly outside [its|their] image, clipped",
    "empty_image": "[image|images] without a usable box, left out",
    "too_many": (
        "[box|boxes] beyond the {max_boxes} largest of an image, dropped: what is there is learned "
        "as background; set num_gts to {most_boxes} to keep all"
    ),
}

_SPOILS = ("bad_image", "broken_file", "broken_row")  # what explains that nothing is left


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image with its boxes.

    Attributes:
        image_id: the id in the annotation file; results are keyed by it.
        file_name: the name as written in the annotation file, folders included.
        image_path: absolute path of the image.
        boxes: (N, 4) float32, xyxy in pixels of the image as a viewer shows it; x2 = x + width.
        labels: (N,) int32, 1..C in the order of the configured classes.
        crowd: (N,) bool, True for a region that holds a crowd of objects.
        stated_size: (height, width) that the annotation file gives, None where it gives none. Files
            are often wrong here (pictures turned by EXIF above all), so boxes are clipped to the
            real size alone.
    """

    image_id: int | str
    file_name: str
    image_path: str
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    stated_size: tuple[int, int] | None = None

    def select(self, index: np.ndarray) -> "ImageRecord":
        """Return this record with some of its boxes.

        Args:
            index: of the boxes that stay: (N,) bool mask, or (M,) positions in their new order.
        """
        if index.dtype == bool and index.all():
            return self
        return replace(
            self, boxes=self.boxes[index], labels=self.labels[index], crowd=self.crowd[index]
        )

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to learn from: no box, or only crowd regions."""
        return not bool((~self.crowd).any())


@dataclass
class AnnotationReport:
    """What reading annotations and converting images found: totals, and counts with the first
    examples.

    Attributes:
        source: the annotation file, for the report's heading.
        num_images: images kept.
        num_boxes: boxes kept, crowd regions included.
        num_crowd: crowd regions kept.
        num_read: boxes of the configured classes on listed images, before any was dropped.
        max_boxes: most boxes kept of an image; 0 = all.
        most_boxes: of an image, before boxes were dropped for being too many.
        counts: finding (a key of FINDINGS) -> how many.
        examples: finding -> the first few, in words.
    """

    source: str = ""
    num_images: int = 0
    num_boxes: int = 0
    num_crowd: int = 0
    num_read: int = 0
    max_boxes: int = 0
    most_boxes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, finding: str, example: str = "", count: int = 1) -> None:
        """Count a finding.

        Args:
            finding: a key of FINDINGS.
            example: one of them in words, kept if it is among the first.
            count: how many there are; nothing happens below 1.

        Raises:
            KeyError: there is no such finding.
        """
        if finding not in FINDINGS:
            raise KeyError(finding)
        if count <= 0:
            return
        self.counts[finding] = self.counts.get(finding, 0) + count
        shown = self.examples.setdefault(finding, [])
        is_listed = finding in _LISTED
        if example and len(shown) < (_MOST_LISTED if is_listed else EXAMPLES_PER_FINDING):
            shown.append(one_line(example, _LISTED_LIMIT if is_listed else _EXAMPLE_LIMIT))

    def discard(self, finding: str) -> None:
        """Forget a finding.

        Args:
            finding: a key of FINDINGS, reported or not.
        """
        self.counts.pop(finding, None)
        self.examples.pop(finding, None)

    @property
    def broken(self) -> str:
        """What of the annotations cannot be used at all, in words; empty for nothing."""
        files, rows = (self.counts.get(name, 0) for name in _LISTED)
        parts = [counted(files, "annotation file")] if files else []
        return ", ".join([*parts, counted(rows, "row")] if rows else parts)

    def set_totals(self, records: Sequence[ImageRecord]) -> None:
        """Take the totals from the records that were kept.

        Args:
            records: the ones that are kept.
        """
        self.num_images = len(records)
        self.num_boxes = sum(len(record.labels) for record in records)
        self.num_crowd = sum(int(record.crowd.sum()) for record in records)

    def require_usable(self, records: Sequence[ImageRecord]) -> None:
        """Take the totals, and refuse what nothing can be learned from or compared with.

        Args:
            records: the ones that are kept.

        Raises:
            UserError: no image is left, or there were boxes and none is left.
        """
        self.set_totals(records)
        if records and (self.num_boxes or not self.num_read):  # a test set has no boxes
            return
        if records or self.counts.keys() & {"outside", *_SPOILS}:
            raise self.unusable(f"no usable {'box' if records else 'image'} is left")
        raise self.unusable("none of its images has a usable box")

    def unusable(self, what: str) -> UserError:
        """Return the error for data that cannot be used, with all that was found as its reasons.

        Args:
            what: is wrong, before the reasons.
        """
        reasons = [line.strip() for line in self.lines(most_listed=_FEW)[1:]]
        if not self.num_read and not self.counts.keys() & set(_SPOILS):
            reasons.insert(
                0,
                "it has no box of the configured classes; check coco_classes against the file, or "
                "set skip_empty_images to False",
            )
        return UserError(f"{self.source}: {'; '.join([what, *reasons])}")

    def lines(self, *, most_listed: int | None = None) -> list[str]:
        """The report in words: one heading, then one line a finding with its first examples.

        Args:
            most_listed: examples of what cannot be used at all; default: all that were kept.
        """
        kind = in_number("[a crowd region|crowd regions]", self.num_crowd)
        crowd = f" ({self.num_crowd} of them {kind})" if self.num_crowd else ""
        boxes = counted(self.num_boxes, "box", "boxes")
        heading = f"{counted(self.num_images, 'image')}, {boxes}{crowd}"
        result = [f"{self.source}: {heading}" if self.source else heading]
        for finding in FINDINGS:
            count = self.counts.get(finding, 0)
            if not count:
                continue
            shown = self.examples.get(finding, [])
            if finding in _LISTED:
                shown = shown[:most_listed]
                result.append(f"  {count} {self.meaning(finding)}")
                result += [f"    - {example}" for example in shown]
                result += [f"    - and {count - len(shown)} more"] if count > len(shown) else []
                continue
            rest = ", ..." if count > len(shown) and shown else ""
            examples = f": {'; '.join(shown)}{rest}" if shown else ""
            result.append(f"  {count} {self.meaning(finding)}{examples}")
        return result

    def meaning(self, finding: str) -> str:
        """Return what was found, as it reads behind its number.

        Args:
            finding: a key of FINDINGS.
        """
        text = in_number(FINDINGS[finding], self.counts.get(finding, 0))
        return text.format(max_boxes=self.max_boxes, most_boxes=self.most_boxes)


def clean_boxes(record: ImageRecord, report: AnnotationReport) -> ImageRecord:
    """Drop boxes that are no rectangles at all (non-finite, or without positive width and height).

    Args:
        record: boxes may still be of any floating type, so that overflow to infinity is seen here.
        report: gets the counts and the first examples.

    Returns:
        The record with boxes as float32.
    """
    with np.errstate(over="ignore"):
        boxes = np.asarray(record.boxes, np.float64).reshape(-1, 4).astype(np.float32)
    finite = np.isfinite(boxes).all(axis=1)
    positive = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    for finding, hit in (("non_finite", ~finite), ("degenerate", finite & ~positive)):
        for index in np.flatnonzero(hit):
            report.add(finding, f"{record.file_name} {box_text(record.boxes[index])}")
    return replace(record, boxes=boxes).select(positive)


def fit_boxes(
    record: ImageRecord, height: int, width: int, report: AnnotationReport
) -> ImageRecord:
    """Clip boxes to the real image, drop those that lie outside it.

    Args:
        record: with cleaned boxes.
        height, width: of the image as a viewer shows it, pixels.
        report: gets the counts and the first examples.
    """
    limits = np.array([width, height, width, height], np.float32)
    if (record.boxes >= 0).all() and (record.boxes <= limits).all():
        return record
    clipped = np.clip(record.boxes, 0, limits)
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    changed = inside & (clipped != record.boxes).any(axis=1)
    for finding, hit in (("outside", ~inside), ("clipped", changed)):
        for index in np.flatnonzero(hit):
            report.add(
                finding, f"{record.file_name} ({width}x{height}) {box_text(record.boxes[index])}"
            )
    return replace(record, boxes=clipped).select(inside)


def limit_boxes(record: ImageRecord, max_boxes: int, report: AnnotationReport) -> ImageRecord:
    """Keep the `max_boxes` largest boxes, in their original order; 0 = no limit.

    Crowd regions are large and teach nothing: they give way to objects first.

    Args:
        record: an image with its boxes.
        max_boxes: how many may stay.
        report: gets the count and the first examples.
    """
    report.max_boxes = max_boxes
    report.most_boxes = max(report.most_boxes, len(record.labels))
    surplus = len(record.labels) - max_boxes
    if max_boxes <= 0 or surplus <= 0:
        return record
    boxes = counted(len(record.labels), "box", "boxes")
    report.add("too_many", f"{record.file_name} has {boxes}", surplus)
    return record.select(largest_boxes(record.boxes, record.crowd, max_boxes))


def largest_boxes(boxes: np.ndarray, crowd: np.ndarray, most: int) -> np.ndarray:
    """Return the positions of the largest boxes, rising; objects go before crowd regions.

    Args:
        boxes: (N, 4) xyxy.
        crowd: (N,) bool.
        most: how many.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides[:, 0].astype(np.float64) * sides[:, 1]
    return np.sort(np.lexsort((-area, crowd))[:most])


def box_text(box: np.ndarray) -> str:
    """A box as it reads in a report.

    Args:
        box: (4,) numbers.
    """
    return "[" + ", ".join(f"{float(value):g}" for value in box) + "]"
