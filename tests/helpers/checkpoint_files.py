# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files into networks, for tests of what is refused and what is said."""

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
