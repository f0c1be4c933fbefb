# SPDX-License-Identifier: Apache-2.0
"""Every row of the agreement table meets its bar (see parity.py for what is compared)."""

import pytest

from src.inference import Found
from tests import parity

pytestmark = pytest.mark.slow


# A batch of two and batches of one both meet torchvision's numbers: they need no comparison here.
COMPARISONS = [c for c in parity.COMPARISONS if c is not parity.batch_of_two]
# Always compared: version 1's parts and gradients, and version 2's detections.
THOROUGH = {parity.torchvision_v2_stages, parity.torchvision_v2_training}


@pytest.mark.parametrize(
    "comparison",
    [pytest.param(c, marks=[pytest.mark.thorough] * (c in THOROUGH)) for c in COMPARISONS],
    ids=lambda c: c.__name__,
)
def test_agreement(comparison):
    """With `--thorough` also version 2's parts and gradients."""
    rows = comparison()
    assert rows and not [row for row in rows if not row.met]


def test_a_row_can_miss():
    """Detections a tenth of a pixel away do not count."""
    arrays = parity.reference("torchvision_r50")
    found = [
        Found(arrays[f"det_boxes_{i}"] + 0.1, arrays[f"det_scores_{i}"], arrays[f"det_labels_{i}"])
        for i in range(2)
    ]
    assert not parity.detection_row("torchvision", "shifted", found, arrays).met
    exact = [found[i]._replace(boxes=arrays[f"det_boxes_{i}"]) for i in range(2)]
    assert parity.detection_row("torchvision", "exact", exact, arrays).met
