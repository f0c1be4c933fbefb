# SPDX-License-Identifier: Apache-2.0
"""BatchNorm whose statistics are of the batches of all processes: equal to one with all of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import sync_bn_run
from tests.helpers.paths import importing

pytestmark = pytest.mark.skipif(
    not Path(sys.executable).with_name("msrun").exists(), reason="msrun is not beside this Python"
)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two processes with half of the pictures each have written."""
    folder = tmp_path_factory.mktemp("sync_bn")
    launch = ["-m", "src.processes.launch", "msrun", str(folder), "--processes", "2", "--"]
    command = [sys.executable, sync_bn_run.__file__, "--output_dir", str(folder)]
    env = importing(OMP_NUM_THREADS="1", LEAVE_SECONDS="0.5")
    done = subprocess.run(
        [sys.executable, *launch, *command], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_two_processes_are_one_with_both_batches(two_ranks, masked):
    """Loss, gradients of weights and of the input, moved statistics; also of own canvases alone."""
    whole = sync_bn_run.train_step(0, 1, masked)
    parts = [np.load(sync_bn_run.result_file(two_ranks, masked, rank)) for rank in (0, 1)]
    np.testing.assert_allclose(sum(part["loss"] for part in parts), whole["loss"], rtol=1e-5)
    dx = np.stack([part["dx"] for part in parts], 1).reshape(whole["dx"].shape)
    size = np.abs(whole["dx"]).max()
    np.testing.assert_allclose(dx, whole["dx"], atol=1e-5 * size)
    assert size > 0.1
    for name in whole.keys() - {"loss", "dx"}:
        scale = np.abs(whole[name]).max()
        for part in parts:
            np.testing.assert_allclose(part[name], whole[name], atol=1e-5 * scale, err_msg=name)
        if ".moving_" in name:
            np.testing.assert_array_equal(parts[0][name], parts[1][name], err_msg=name)
    assert sum(".moving_mean" in name for name in whole) == 7
