# SPDX-License-Identifier: Apache-2.0
"""A detector for programs: from a checkpoint to boxes, in two lines of Python."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from .backends.choosing import choose_runtime, exported_format, runs_in_mindspore
from .backends.opening import open_backend
from .base.errors import UserError
from .checkpoints.run_config import adopt_run_config
from .FasterRcnn.names import MULTIPLE
from .images.batching import NetworkInput, batches_of
from .images.pictures import Picture, check_picture, check_pixels, is_picture, load_picture
from .images.views import View
from .model_utils.config import Config, load_config
from .model_utils.device_adapter import init_device
from .weights.names import named


class Found(NamedTuple):
    """What was found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32, 0 to 1.
        labels: (N,) int32, 1 to the number of classes; `Detector.class_names[label - 1]`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Detector:
    """A detector with the settings that belong to it: a checkpoint's network, or an exported model.

    An exported model (.onnx, .mindir) brings its description, and runs as `runtime`,
    `runtime_precision` and `runtime_threads` say: an ONNX file in ONNX Runtime or OpenVINO, without
    MindSpore. It has its canvases and no others.

    Of checkpoints: on a CPU, make the first one before the process's first convolution: later
    MindSpore cannot be kept from convolutions that are very slow on some processors (see
    `choose_device`).

    One network serves inputs of every size; each size and batch compiles a graph once, which takes
    seconds and stays. `detect` uses the canvases of `config` alone, which are few; callers that
    prepare images themselves should do so too.

    Args:
        checkpoint_path: of training, of the command `convert`, or one that the model zoo published;
            the name of published weights, as in docs/weights.md; or an exported model.
        settings: configuration keys that go before the checkpoint's, such as device_target="CPU",
            test_score_thr=0.5, or backbone="resnet_v1_50", which a model zoo file does not say.

    Attributes:
        config: all settings.
        class_names: names of labels 1, 2, ...
        notes: what a user should know about the settings.
        network: the Cell, (B, 3, H, W) images and (B, 4) meta -> boxes, scores, labels, valid; None
            of an exported model.
        views: how `detect` looks at a picture; several with test-time augmentation.

    Raises:
        UserError: the checkpoint or a setting cannot be used.
    """

    def __init__(self, checkpoint_path: str | os.PathLike[str], **settings: Any) -> None:
        config = load_config([]).replace(**{**settings, "checkpoint_path": str(checkpoint_path)})
        self._open(config)

    @classmethod
    def from_config(cls, config: Config, *, min_score: float | None = None) -> "Detector":
        """Make the detector of a configuration, as commands do.

        Args:
            config: of the user; its checkpoint_path names the file. What a run has saved beside
                that counts too, see `adopt_run_config`.
            min_score: scores down to this one are wanted, even where test_score_thr is higher.

        Raises:
            UserError: as the class.
        """
        if not config.checkpoint_path:
            raise UserError(
                "checkpoint_path is empty; give the detector with --checkpoint_path FILE"
            )
        detector = cls.__new__(cls)
        lines: list[str] = []
        path = config.checkpoint_path
        # No run has saved the others.
        if not exported_format(path) and named(path, "checkpoint_path") is None:
            config, lines = adopt_run_config(config)
        detector._open(config, lines, min_score)
        return detector

    def _open(
        self, config: Config, lines: Sequence[str] = (), min_score: float | None = None
    ) -> None:
        config = choose_runtime(config)
        if runs_in_mindspore(config):
            init_device(config)
        opened = open_backend(config, min_score=min_score)
        self.network = opened.network
        self.config = opened.config
        self.notes = [*lines, *opened.lines]
        self.class_names: tuple[str, ...] = self.config.class_names
        self._backend = opened.backend
        self.views: Sequence[View] = opened.backend.views

    def __call__(self, image: np.ndarray, valid_hw: np.ndarray | None = None) -> list[Found]:
        """Detect in normalised images.

        Args:
            image: (B, 3, H, W) float32, normalised and padded as `config` says; H and W multiples
                of 32, any.
            valid_hw: (B, 2) height and width of each image without its padding, px; None: all of
                it.

        Returns:
            For each image its boxes in pixels of `image`. Test-time augmentation plays no part.

        Raises:
            UserError: arrays of another form.
        """
        image = np.asarray(image)
        if image.ndim != 4 or image.shape[1] != 3 or not image.size or image.dtype.kind != "f":
            raise UserError(
                f"image: is {image.dtype} {image.shape}; give (B, 3, H, W) floats, normalised as "
                "config says, or pictures to detect()"
            )
        batch, _, height, width = image.shape
        if height % MULTIPLE or width % MULTIPLE:
            raise UserError(
                f"image: is {height} x {width} pixels, not multiples of {MULTIPLE}; pad it, and "
                "give its own size as valid_hw"
            )
        check_pixels("image", batch * height * width, self.config.max_image_pixels)
        size = np.tile([height, width], (batch, 1)) if valid_hw is None else np.asarray(valid_hw)
        if size.shape != (batch, 2) or (size <= 0).any() or (size > (height, width)).any():
            raise UserError(
                f"valid_hw: is {size.tolist()}; give the height and width of each of the {batch} "
                f"images, at most {height} and {width}"
            )
        image = np.ascontiguousarray(image, np.float32)
        meta = np.concatenate([size, np.ones((batch, 2))], 1)
        return _found(self._backend.detect(image, meta.astype(np.float32)))

    @overload
    def detect(self, pictures: Picture) -> Found: ...

    @overload
    def detect(self, pictures: list[Any] | tuple[Any, ...]) -> list[Found]: ...

    def detect(self, pictures: Any) -> Found | list[Found]:
        """Detect in pictures of any size, in batches of `test_batch_size` of one canvas each.

        Args:
            pictures: one picture, or a list of pictures. A picture is the path of an image file, a
                PIL image, or an (H, W, 3) uint8 array, RGB. Files and PIL images are taken as a
                viewer shows them (turned by EXIF data, transparency on white). An array
                (N, H, W, 3) is a list of N pictures.

        Returns:
            For one picture what was found in it, for a list a list; boxes are in the picture's
            pixels.

        Raises:
            UserError: something else than pictures, one that cannot be read, or one of more than
                `max_image_pixels`.
        """
        if is_picture(pictures):
            return self._detect_all([pictures])[0]
        return self._detect_all(list(pictures))

    def _detect_all(self, pictures: Sequence[Picture]) -> list[Found]:
        most = self.config.max_image_pixels
        for number, picture in enumerate(pictures):
            check_picture(picture, f"picture {number}", most)
        # One after the other: all files of a long list at once would not fit into memory.
        loaded = (
            (number, load_picture(picture, f"picture {number}", most))
            for number, picture in enumerate(pictures)
        )
        found: dict[int, Found] = {}
        for batch, inputs in batches_of(loaded, self.views, self.config.test_batch_size):
            numbers = [number for number, _ in batch]
            batch.clear()  # large pictures go before the next ones come
            # The batch may be filled up with copies.
            found.update(zip(numbers, self.detect_inputs(inputs), strict=False))
        return [found[number] for number in range(len(pictures))]

    def detect_inputs(self, inputs: Sequence[NetworkInput]) -> list[Found]:
        """Detect in a batch that is prepared already, as `images.batching` does.

        Args:
            inputs: image (B, 3, H, W) float32 and meta (B, 4) float32 in each of `views`. Each B
                and canvas compiles a graph once.

        Returns:
            For each of the B pictures what was found in it; boxes are in the picture's pixels.
        """
        return _found(self._backend(inputs))


def _found(outputs: Sequence[np.ndarray]) -> list[Found]:
    """What was found in each image of a batch."""
    boxes, scores, labels, valid = outputs
    return [Found(*(x[i][valid[i]] for x in (boxes, scores, labels))) for i in range(len(valid))]
