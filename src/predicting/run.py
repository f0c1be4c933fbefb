# SPDX-License-Identifier: Apache-2.0
"""Prediction: a detector over pictures and videos, its boxes drawn and written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..base.console import warn
from ..base.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR
from ..base.files import remove_leftovers
from ..base.messages import counted, one_line
from ..base.progress import Display, Progress
from ..images.batching import NetworkInput
from ..images.geometry import canvas_text
from ..images.listing import Inputs
from ..images.reading import DEFAULT_MAX_PIXELS, ImageError, decode_image, narrow_depth, read_bytes
from ..images.videos import VideoError
from ..images.views import View
from ..inference import Detector, Found
from ..model_utils.config import Config
from .entries import Entry, draw_entry, entry_of, summary_of
from .finding import BatchDetector, Finder
from .names import CLASSES, COCO, CSV, PREDICTIONS, refuse_to_overwrite, unique_stems
from .options import Options
from .result_files import CropWriter, ResultWriter, result_writers, written_files
from .videos import VideoRun, video_files

DEFAULT_OUTPUT = "predictions"  # below the working folder


class PredictionSettings(Protocol):
    """The keys of the configuration that writing predictions takes."""

    output_dir: str
    test_batch_size: int
    class_names: tuple[str, ...]
    max_image_pixels: int


def run_prediction(config: Config, inputs: Inputs, options: Options) -> int:
    """Detect in pictures and videos as predict.py does.

    Args:
        config: uses checkpoint_path, output_dir, test_batch_size and what the network is made of.
        inputs: pictures and videos.
        options: what is wanted.

    Returns:
        The exit code.

    Raises:
        UserError: no checkpoint, one that does not fit, or results that cannot be written or would
            overwrite an input.
    """
    check_names(inputs, Path(config.output_dir))
    detector = Detector.from_config(config, min_score=options.min_score)
    for line in detector.notes:
        print(one_line(line))
    compiles = detector.network is not None  # an exported model is loaded already
    several = compiles and len(detector.config.canvas_sizes) > 1
    announced = _Announced(detector, several=several)
    return write_predictions(announced, detector.config, inputs, options)


class _Announced:
    """A detector that says when it looks at pictures on another canvas for the first time."""

    def __init__(self, detector: BatchDetector, *, several: bool) -> None:
        self.views: Sequence[View] = detector.views
        self._detector, self._several = detector, several
        self._used: set[tuple[int, ...]] = set()

    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Found]:
        """See `Detector.detect_inputs`."""
        height, width = inputs[0][0].shape[2:]
        if self._several and (height, width) not in self._used:
            self._used.add((height, width))
            canvas = canvas_text((height, width))
            print(f"canvas {canvas}: its graph is compiled, or comes from the cache")
        return self._detector.detect_inputs(inputs)


def check_names(inputs: Inputs, output: Path) -> None:
    """Make sure that no result goes where an input is.

    Args:
        inputs: pictures and videos.
        output: the folder of the results; need not exist.

    Raises:
        UserError: one would, or `output` cannot be looked at.
    """
    pictures, videos = result_names(inputs)
    files = [f"{name}.png" for name in pictures]
    files += [file for name in videos for file in video_files(name)]
    files += [PREDICTIONS, COCO, CSV, CLASSES]
    sources = [video.source for video in inputs.videos if isinstance(video.source, Path)]
    refuse_to_overwrite([*inputs.pictures, *sources], files, output)


def result_names(inputs: Inputs) -> tuple[list[str], list[str]]:
    """Return what the results of each picture and of each video are called, without an ending.

    Args:
        inputs: pictures and videos.
    """
    count = len(inputs.pictures)
    stems = [path.stem for path in inputs.pictures] + [video.stem for video in inputs.videos]
    names = unique_stems(stems)
    return names[:count], names[count:]


def write_predictions(
    detector: BatchDetector, settings: PredictionSettings, inputs: Inputs, options: Options
) -> int:
    """Detect in each picture and video, and write what was found.

    Args:
        detector: finds objects in batches.
        settings: see `PredictionSettings`.
        inputs, options: as in `run_prediction`.

    Returns:
        The exit code: 2 when an input could not be read, the others are written all the same; 130
        when Ctrl-C ended a video.
    """
    output, class_names = Path(settings.output_dir), settings.class_names
    remove_leftovers(output)
    size = settings.test_batch_size
    if not inputs.videos and options.tiling is None:
        size = min(size, len(inputs.pictures))
    finder, display = Finder(detector, size, options.tiling), Display()
    picture_names, video_names = result_names(inputs)
    has_pictures, interrupted = bool(inputs.pictures), False
    unreadable: list[object] = []
    with result_writers(
        options.formats, output, class_names, with_pictures=has_pictures
    ) as writers:
        if has_pictures:
            run = _PictureRun(finder, settings, options, writers, display)
            unreadable += run.look_at(inputs.pictures, picture_names)
        videos = VideoRun(
            finder, class_names, settings.max_image_pixels, options, output, writers, display
        )
        for video, name in zip(inputs.videos, video_names, strict=True):
            try:
                interrupted = not videos.look_at(video, name)
            except VideoError as error:
                if len(inputs.videos) == 1 and not has_pictures:
                    raise
                warn(f"error: {error}")
                unreadable.append(video)
            if interrupted:
                break
    written = written_files(options.formats, with_pictures=has_pictures)
    for name in written:
        print(f"predictions: {output / name}")
    for name in (PREDICTIONS, COCO, CSV):
        if name not in written and (output / name).is_file():
            print(f"note: {output / name} is of an earlier run, nothing of this one is in it")
    if unreadable:
        kind = "input" if inputs.videos else "image"
        count = len(inputs.pictures) + len(inputs.videos)
        print(f"not in them: {len(unreadable)} of {counted(count, kind)}, which cannot be read")
    if interrupted:
        warn("interrupted; what was found until then is written")
        return EXIT_INTERRUPTED
    return EXIT_USER_ERROR if unreadable else 0


class _PictureRun:
    """Looks at pictures.

    Args:
        finder: finds objects in pictures.
        settings, options: as in `write_predictions`.
        writers: get the entries in the order of the files.
        display: where progress is shown.
    """

    def __init__(
        self,
        finder: Finder,
        settings: PredictionSettings,
        options: Options,
        writers: Sequence[ResultWriter],
        display: Display,
    ) -> None:
        self._finder, self._settings, self._options = finder, settings, options
        self._writers, self._display = writers, display
        self._output, self._class_names = Path(settings.output_dir), settings.class_names
        self._crops = CropWriter(self._output, self._class_names) if options.crops else None

    def look_at(self, paths: Sequence[Path], names: Sequence[str]) -> list[Path]:
        """Detect, draw and write; returns the files that cannot be read.

        Args:
            paths: of the pictures.
            names: of their results.
        """
        unreadable: list[Path] = []
        entries: dict[int, Entry] = {}
        progress = Progress(self._display, "pictures", len(paths), unit="pictures")
        pictures = read_pictures(paths, unreadable, self._settings.max_image_pixels)
        for number, rgb, found in self._finder.find(pictures):
            low = self._options.min_score
            entry = entry_of(str(paths[number]), rgb, found, self._class_names, low)
            self._write(entry, names[number], rgb)
            entries[number] = entry
            del rgb
            if self._display.terminal:  # elsewhere each picture has a line
                progress.advance()
        self._display.end_bar(erase=True)
        for number in sorted(entries):
            for writer in self._writers:
                writer.add(entries[number], names[number])
        return unreadable

    def _write(self, entry: Entry, name: str, rgb: np.ndarray) -> None:
        """Write what is drawn and cut out of a picture, and say what was found."""
        line = f"{entry['file']}: {summary_of(entry['detections'])}"
        if self._options.draws:
            png = self._output / f"{name}.png"
            draw_entry(entry, rgb, self._class_names, png)
            line += f" -> {png}"
        if self._crops is not None:
            self._crops.add(entry, name, rgb)
        self._display.end_bar(erase=True)
        self._display.say(line)


def read_pictures(
    paths: Sequence[Path], unreadable: list[Path], max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position in `paths`, (H, W, 3) uint8 RGB) of each image that can be read.

    The others are reported. Images of 16 bits that come out nearly black are named.

    Args:
        paths: of the images.
        unreadable: gets the paths of the others.
        max_pixels: larger images are not read.
    """
    for position, path in enumerate(paths):
        try:
            # Bound to no name here, which would keep it while the next one is decoded.
            yield position, _read_picture(path, max_pixels)
        except ImageError as problem:
            error = problem.without_remedy()
            warn(f"error: {error}")
            unreadable.append(path)


def _read_picture(path: Path, max_pixels: int) -> np.ndarray:
    data = read_bytes(path, max_pixels)
    rgb = decode_image(data, str(path), max_pixels)
    narrow = narrow_depth(data)
    if narrow:
        print(one_line(f"note: {path} has {narrow}; stretch its values to 16 bits"))
    return rgb
