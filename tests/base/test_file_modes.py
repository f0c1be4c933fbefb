# SPDX-License-Identifier: Apache-2.0
"""What is written can be read by those whom the umask lets."""

import os
from pathlib import Path

import pytest

from src.base.files import save_whole
from src.evaluation.coco_results import write_results
from src.model_utils.config import load_config


@pytest.fixture(params=[0o002, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _mode(path):
    return path.stat().st_mode & 0o777


def test_files_follow_the_umask(umask, tmp_path):
    load_config([]).save(str(tmp_path / "config.yaml"))
    write_results(tmp_path / "results.json", [])
    save_whole(tmp_path / "picture.png", lambda name: Path(name).write_bytes(b""))
    for path in tmp_path.iterdir():
        assert _mode(path) == 0o666 & ~umask, path.name
    assert len(list(tmp_path.iterdir())) == 3
