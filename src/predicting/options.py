# SPDX-License-Identifier: Apache-2.0
"""What the command `predict` is asked for, beyond the configuration."""

from dataclasses import dataclass

from .finding import Tiling


@dataclass(frozen=True, slots=True)
class Options:
    """How to predict.

    Attributes:
        min_score: detections below are left out.
        formats: of the result files, see `result_files.FORMATS`.
        draws: pictures with boxes drawn into them are written, and videos.
        crops: what is in each box is written as a picture.
        tiling: large pictures are cut into tiles; None: they are not.
        frame_step: every how-manieth frame of a video is looked at.
        max_frames: of a video, camera or stream that are looked at; 0: all.
    """

    min_score: float = 0.5
    formats: tuple[str, ...] = ("json",)
    draws: bool = True
    crops: bool = False
    tiling: Tiling | None = None
    frame_step: int = 1
    max_frames: int = 0
