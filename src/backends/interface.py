# SPDX-License-Identifier: Apache-2.0
"""What evaluation, prediction and a server know of a detector."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..images.batching import NetworkInput
from ..images.views import View
from ..model_utils.config import Config


class Backend(Protocol):
    """Finds objects in batches."""

    @property
    def views(self) -> Sequence[View]:
        """How it looks at a picture; several with test-time augmentation."""

    def __call__(self, inputs: Sequence[NetworkInput]) -> list[np.ndarray]:
        """Detect.

        Args:
            inputs: image (B, 3, H, W) float32 and meta (B, 4) float32 in each of `views`.

        Returns:
            boxes (B, K, 4) float32 xyxy in pixels of the pictures, scores (B, K) float32, labels
            (B, K) int32 and valid (B, K) bool.
        """

    def detect(self, image: np.ndarray, meta: np.ndarray) -> list[np.ndarray]:
        """Detect in one view, whatever `views` are.

        Args:
            image: (B, 3, H, W) float32.
            meta: (B, 4) float32.

        Returns:
            As `__call__`.
        """


@dataclass
class OpenBackend:
    """A detector that has been opened.

    Attributes:
        backend: finds the objects.
        config: the effective configuration, with what belongs to the detector.
        source: what was opened, for people: "checkpoint FILE (epoch 3)".
        runtime: in what it runs, for people.
        lines: what a user should know about the settings.
        epoch: of the training, None where the file does not say.
        network: the Cell; None of an exported model.
        folder: of its results in that of the run, "" for the run's own.
    """

    backend: Backend
    config: Config
    source: str
    runtime: str
    lines: list[str] = field(default_factory=list)
    epoch: int | None = None
    network: Any = None
    folder: str = ""
