# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: loaded into networks, read from a run's folder, compared."""

from pathlib import Path

import numpy as np

from src.checkpoints.file import read_checkpoint
from src.checkpoints.loading import load_detector, load_training_state, require_training_state


def load_detector_file(network, path, expected=None):
    """`load_detector` from a file; returns the notes."""
    return load_detector(network, read_checkpoint(path), expected or {})


def resume_file(network, optimizer, path, expected, contract):
    """`load_training_state` from a file; returns the meta."""
    checkpoint = read_checkpoint(path, "resume")
    require_training_state(checkpoint)
    load_training_state(network, optimizer, checkpoint, expected, contract)
    return checkpoint.meta


def arrays_of(output, name):
    """The arrays of a checkpoint of the run in a folder."""
    return read_checkpoint(Path(output, "ckpt_0", name)).arrays


def same_arrays(one, other):
    """Say whether two checkpoints' arrays are the same, bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
