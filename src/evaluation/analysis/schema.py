# SPDX-License-Identifier: Apache-2.0
"""What evaluation_report.json holds: plain JSON values, documented key by key.

Shares, AP and scores are floats of 0 to 1, rounded to six decimals; None (null) stands where
nothing can be said, such as the AP of a class without boxes. Boxes are COCO's: x, y, width, height
in pixels of the picture. A detection is correct when COCO's matching at IoU 0.5 gives it a true box
of its class; otherwise it is false, or ignored when it lies on a crowd. C is the number of classes.
"""

from typing import Literal, TypedDict

from .picture_schema import FALSE_KINDS, FalseKind, Pictures

VERSION = 1
REPORT_NAME = "evaluation_report.json"

IOU = 0.5  # from which on a detection is on an object
BACKGROUND_IOU = 0.1  # up to which it is on nothing (TIDE's)
POINTS = 101  # of recall and of score threshold: 0.00, 0.01, ..., 1.00
SCORE_BINS = 20  # of the scores' histograms
CALIBRATION_BINS = 10
GALLERY = 24  # worst pictures, and as many best ones
BACKGROUND = "background"  # the last row and column of the confusion matrix

ErrorKind = FalseKind | Literal["missed"]
ERROR_KINDS: tuple[ErrorKind, ...] = (*FALSE_KINDS, "missed")
BySize = dict[Literal["all", "small", "medium", "large"], int]


class OperatingPoint(TypedDict):
    """What comes of showing only detections whose score is at least `threshold`.

    Attributes:
        threshold: of the score, exact; None when there is no detection to choose one by.
        precision: correct / (correct + false); None without detections.
        recall: correct / (correct + missed); None without true boxes.
        f1: of the two, 2 correct / (2 correct + false + missed); None without true boxes.
        correct, false: detections.
        missed: true boxes.
    """

    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    correct: int
    false: int
    missed: int


class ThresholdCurves(TypedDict):
    """What `OperatingPoint` says at each of `score_thresholds`; each list has 101 entries."""

    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]


class PrecisionCurves(TypedDict):
    """Precision at each of `recall_points`, 101 entries each; COCO's own interpolated curves.

    Attributes:
        iou50, iou75: at that IoU.
        mean: over the IoUs 0.50, 0.55, ... 0.95: its mean is the class' AP.
    """

    iou50: list[float]
    iou75: list[float]
    mean: list[float]


class ScoreDistribution(TypedDict):
    """Scores of some detections.

    Attributes:
        count: of detections.
        mean, min, max: of their scores; None without any.
        above_99, above_99_9: the score that 99 and 99.9 % of them reach.
        histogram: how many fall in each of the bins between `score_edges` (20).
    """

    count: int
    mean: float | None
    min: float | None
    max: float | None
    above_99: float | None
    above_99_9: float | None
    histogram: list[int]


class ErrorCost(TypedDict):
    """One kind of error.

    Attributes:
        count: errors of the kind.
        ap: what AP at IoU 0.5 gains when they alone are put right. Of a class it may be negative.
    """

    count: int
    ap: float | None


class ClassNumbers(TypedDict):
    """COCO's numbers of one class.

    Attributes:
        ap, ap50, ap75: over IoU 0.50 to 0.95, and at one IoU.
        ap_small, ap_medium, ap_large: AP of boxes of that size.
        ar, ar_small, ar_medium, ar_large: recall averaged over IoU 0.50 to 0.95.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


class ClassReport(ClassNumbers):
    """One class.

    Attributes:
        name: as in coco_classes.
        boxes: true boxes by COCO's size (area up to 32^2, 96^2, beyond), without crowds.
        crowds: true boxes that are marked as crowds.
        detections: that were judged.
        best: at the class' own best threshold, where F1 is highest.
        common: at the threshold that suits all classes together, `overall.best.threshold`.
        everything: of all detections, whatever their score.
        curves: over the score threshold.
        precision: over recall; None without true boxes.
        score_at_recall: the score threshold that gives each of `recall_points` at IoU 0.50; None
            where none does.
        correct_scores, false_scores: of the detections.
        calibration_error: as `Calibration.error`, of this class' detections.
        errors: by the class of the detection, and of the box where it is missed.
        confused_with: false detections of kind "classification": true class -> how many.
    """

    name: str
    boxes: BySize
    crowds: int
    detections: int
    best: OperatingPoint
    common: OperatingPoint
    everything: OperatingPoint
    curves: ThresholdCurves
    precision: PrecisionCurves | None
    score_at_recall: list[float | None]
    correct_scores: ScoreDistribution
    false_scores: ScoreDistribution
    calibration_error: float | None
    errors: dict[ErrorKind, ErrorCost]
    confused_with: dict[str, int]


class Overall(TypedDict):
    """All classes together: every detection and box counts the same.

    Attributes:
        best: at the one threshold for all classes where F1 is highest.
        everything: of all detections.
        curves: over the score threshold.
        precision: mean over the classes with true boxes; None without any.
        correct_scores, false_scores: of all detections.
    """

    best: OperatingPoint
    everything: OperatingPoint
    curves: ThresholdCurves
    precision: PrecisionCurves | None
    correct_scores: ScoreDistribution
    false_scores: ScoreDistribution


class Summary(TypedDict):
    """COCO's twelve numbers, as eval.py prints them; `ar` is of up to `max_detections`."""

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


class Confusion(TypedDict):
    """Which class is taken for which.

    Attributes:
        score_threshold: detections below it are not counted.
        labels: (C + 1,) the classes' names, then "background".
        matrix: (C + 1, C + 1) counts; row: the truth, column: the detection. The diagonal holds the
            correct ones. Last row: detections on no box; last column: boxes that nothing found.
            Ignored detections and crowds do not count.
        most: the largest counts off the diagonal, largest first, at most 20.
    """

    score_threshold: float | None
    labels: list[str]
    matrix: list[list[int]]
    most: list["Confused"]


class Confused(TypedDict):
    """One cell of the matrix by names."""

    truth: str
    detected: str
    count: int


class Errors(TypedDict):
    """TIDE's error kinds, at IoU 0.5 and 0.1, over all detections.

    Attributes:
        ap50: what the costs are counted from, the mean over the classes with true boxes.
        kinds: of each kind, how many and what AP they cost. The costs do not add up to 1 - ap50.
        false_positives: AP that is gained without any false detection.
        false_negatives: AP that is gained without any missed box.
    """

    ap50: float | None
    kinds: dict[ErrorKind, ErrorCost]
    false_positives: float | None
    false_negatives: float | None


class CalibrationBin(TypedDict):
    """Detections whose score is at least `low` and less than `high` (the last bin has 1, too).

    Attributes:
        low, high: of the bin.
        count: of detections in it.
        score: their mean score; None without any.
        precision: the share of them that is correct; None without any.
    """

    low: float
    high: float
    count: int
    score: float | None
    precision: float | None


class Calibration(TypedDict):
    """Whether a score is the share of correct detections.

    Attributes:
        bins: ten of equal width.
        error: mean of |score - precision| over the detections by bins (expected calibration error).
        largest_error: the largest |score - precision| of a bin.
    """

    bins: list[CalibrationBin]
    error: float | None
    largest_error: float | None


class Speed(TypedDict):
    """How fast the detector was, without compiling.

    Attributes:
        images_per_second: of all processes together.
        seconds_per_image: its inverse.
        processes: that shared the pictures.
        batch_size: pictures in a batch of a process.
        device_target: CPU, GPU or Ascend.
        mindspore: its version.
    """

    images_per_second: float
    seconds_per_image: float | None
    processes: int
    batch_size: int
    device_target: str
    mindspore: str


class Subject(TypedDict):
    """What was evaluated on what.

    Attributes:
        detector: the checkpoint, the folder of the training run, or that of the result files.
        epoch: of the checkpoint; None when it does not say.
        annotations: the annotation file.
        image_folder: where the pictures' `file_name` begins; None when it is not known.
        results: the COCO results file with the detections; None when there is none.
    """

    detector: str
    epoch: int | None
    annotations: str
    image_folder: str | None
    results: str | None


class Counts(TypedDict):
    """How much was evaluated; `ignored`: detections on crowds, which count neither way."""

    images: int
    boxes: BySize
    crowds: int
    detections: int
    ignored: int


class Settings(TypedDict):
    """What the numbers depend on.

    Attributes:
        iou: from which on a detection is on an object.
        background_iou: up to which it is on nothing.
        max_detections: of a class that count in a picture.
        lowest_score: detections below it were dropped by the detector; None when not known.
    """

    iou: float
    background_iou: float
    max_detections: int
    lowest_score: float | None


class EvaluationReport(TypedDict):
    """The whole file.

    Attributes:
        version: of this schema; rises when a key changes its meaning.
        subject, settings, counts: what the numbers are of.
        notes: lines one has to know to read the numbers.
        summary: COCO's twelve numbers.
        recall_points: 0.00, 0.01, ..., 1.00.
        score_thresholds: 0.00, 0.01, ..., 1.00.
        score_edges: (21,) between the bins of the scores' histograms.
        overall: all classes together.
        classes: (C,) in the order of the classes.
        confusion, errors, calibration, pictures: see there.
        speed: None when the detections come from files.
    """

    version: int
    subject: Subject
    settings: Settings
    counts: Counts
    notes: list[str]
    summary: Summary
    recall_points: list[float]
    score_thresholds: list[float]
    score_edges: list[float]
    overall: Overall
    classes: list[ClassReport]
    confusion: Confusion
    errors: Errors
    calibration: Calibration
    pictures: Pictures
    speed: Speed | None
