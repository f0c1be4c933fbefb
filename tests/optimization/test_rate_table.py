# SPDX-License-Identifier: Apache-2.0
"""The table of learning rates."""

import numpy as np
import pytest

from src.optimization.rate_table import rate_table


@pytest.mark.parametrize(
    "steps, places", [(1, 65_536), (65_536, 65_536), (65_537, 131_072), (200_000, 262_144)]
)
def test_it_has_a_power_of_two_of_places(steps, places):
    rates = np.linspace(0.02, 0.001, steps, dtype=np.float32)
    table = rate_table(rates).asnumpy()
    assert table.shape == (places,) and table.dtype == np.float32
    np.testing.assert_array_equal(table[:steps], rates)
    assert (table[steps:] == rates[-1]).all()


def test_it_is_scaled():
    table = rate_table(np.array([0.5, 0.25], np.float32), 0.1).asnumpy()
    np.testing.assert_array_equal(table[:3], np.float32(0.1) * np.float32([0.5, 0.25, 0.25]))
