# SPDX-License-Identifier: Apache-2.0
"""What evaluation_report.json says of single pictures; the rest of it is in `schema`."""

from typing import Literal, TypedDict

FalseKind = Literal["classification", "localisation", "both", "duplicate", "background"]
FALSE_KINDS: tuple[FalseKind, ...] = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
)
Verdict = Literal["correct", "ignored"] | FalseKind


class TrueBox(TypedDict):
    """A true box of a picture in the gallery.

    Attributes:
        bbox: x, y, width, height in pixels.
        label: its class' name.
        crowd: whether it is marked as a crowd.
        found_at: the score of the detection that it was matched with; None when there is none.
        error: "missed" when there is none, nor one that only had the wrong class or place.
    """

    bbox: list[float]
    label: str
    crowd: bool
    found_at: float | None
    error: Literal["missed"] | None


class DetectedBox(TypedDict):
    """A detection of a picture in the gallery.

    Attributes:
        bbox: x, y, width, height in pixels.
        label: its class' name.
        score: its score.
        verdict: "correct", "ignored", or its kind of error.
        iou: the highest with a true box of its class, or of any where the kind is classification
            or both.
        truth: the class' name of that box; None when it lies on none.
    """

    bbox: list[float]
    label: str
    score: float
    verdict: Verdict
    iou: float
    truth: str | None


class Picture(TypedDict):
    """A picture, with truth and detections; the counts are at `overall.best.threshold`.

    Attributes:
        image_id: as in the annotations.
        file_name: as in the annotations; None where they do not say.
        width, height: in pixels, as in the annotations; None where they do not say.
        f1: 2 correct / (2 correct + false + missed).
        correct, false, missed: detections, detections, true boxes.
        truth: all true boxes.
        detections: all of them, best score first.
    """

    image_id: int | str
    file_name: str | None
    width: int | None
    height: int | None
    f1: float
    correct: int
    false: int
    missed: int
    truth: list[TrueBox]
    detections: list[DetectedBox]


class PictureTable(TypedDict):
    """Every evaluated picture, one entry a list; counts as in `Picture`."""

    image_id: list[int | str]
    correct: list[int]
    false: list[int]
    missed: list[int]


class Pictures(TypedDict):
    """How the pictures did.

    Attributes:
        flawless: without false detections and missed boxes at the common threshold.
        with_false, with_missed: with at least one. (A picture may have both.)
        empty: without true boxes and without detections; not among the others.
        worst: lowest F1 first, then most errors; none that is flawless.
        best: highest F1 first, then most correct detections.
        table: all pictures in the order of the annotations.
    """

    flawless: int
    with_false: int
    with_missed: int
    empty: int
    worst: list[Picture]
    best: list[Picture]
    table: PictureTable
