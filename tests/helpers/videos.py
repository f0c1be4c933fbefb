# SPDX-License-Identifier: Apache-2.0
"""Small videos, each frame of one grey."""

import cv2
import numpy as np

SIZE = (48, 64)  # height, width


def make_video(path, *, frames=10, rate=10.0, code="mp4v"):
    """Write a video whose frame i has the grey 20 i; return its path."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), rate, SIZE[::-1]
    )
    for i in range(frames):
        writer.write(np.full((*SIZE, 3), 20 * i, np.uint8))
    writer.release()
    return path
