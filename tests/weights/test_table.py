# SPDX-License-Identifier: Apache-2.0
"""The table of published weights: consistent in itself, with the page on it and the launchers."""

import re
import subprocess

import pytest

from src.base.errors import UserError
from src.checkpoints.foreign.reading import SUFFIXES
from src.FasterRcnn.names import BACKBONES
from src.storage.https_client import require_safe
from src.weights import names
from src.weights.listing import cells, table_lines
from src.weights.names import find, missing_here, named
from src.weights.table import PUBLISHERS, TABLE
from tests.helpers.paths import REPO

ROWS = list(TABLE.values())


@pytest.mark.parametrize("row", ROWS, ids=list(TABLE))
def test_rows(row):
    require_safe(row.url, row.name)
    assert row.url.startswith("https://") and row.publisher in PUBLISHERS
    assert re.fullmatch(r"[a-z0-9]+/[A-Za-z0-9_-]+", row.name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", row.file_name)
    assert row.file_name.endswith(SUFFIXES)
    assert re.fullmatch(r"(AP|AP50|top-1) \d\d\.\d{1,3}|", row.gives)
    if row.digest and len(row.digest.start) < 64:  # as its publisher has it in the file's name
        assert row.digest.start in row.file_name
    if row.digest:
        digits = {"sha256": (8, 64), "md5": (6,)}[row.digest.algorithm]
        assert re.fullmatch("[0-9a-f]+", row.digest.start) and len(row.digest.start) in digits
    assert row.mebibytes is None or 10 < row.mebibytes < 1000


def test_no_two_files_have_one_place():
    places = [(row.publisher, row.file_name) for row in ROWS]
    assert len(set(places)) == len(places) == len(TABLE)


def test_only_two_files_have_no_digest():
    assert [row.name for row in ROWS if not row.digest] == ["detectron2/R-50", "detectron2/R-101"]


def test_what_this_version_has_can_be_used():
    assert not missing_here(TABLE["torchvision/fasterrcnn_resnet50_fpn_coco"])
    assert not missing_here(TABLE["detectron2/faster_rcnn_R_101_FPN_3x"])
    for row in ROWS:
        missing = missing_here(row)
        assert bool(missing) == (f"backbone {row.backbone}" in missing or "the keys" in missing)
        assert missing.startswith("the keys") or (row.backbone in BACKBONES) != bool(missing)


def test_what_this_version_does_not_have(monkeypatch):
    row = TABLE["torchvision/resnet50"]._replace(backbone="resnet_v9", needs=("no_such_key",))
    monkeypatch.setitem(TABLE, row.name, row)
    with pytest.raises(UserError, match="needs the backbone resnet_v9, which this version does"):
        named(row.name, "pre_trained")
    monkeypatch.setitem(TABLE, row.name, row._replace(backbone="resnet_v1_50"))
    with pytest.raises(UserError, match="needs the keys no_such_key"):
        find(row.name, "command line")


@pytest.mark.parametrize(
    "value",
    ["model.ckpt", "torchvision/model.ckpt", "torchvision.pth", "a/b", "/torchvision/resnet50", ""],
)
def test_other_values_name_files(value):
    assert named(value, "checkpoint_path") is None


def test_a_file_of_that_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchvision").mkdir()
    assert named("torchvision/resnet50", "pre_trained") is TABLE["torchvision/resnet50"]
    (tmp_path / "torchvision" / "resnet50").write_text("x")
    assert named("torchvision/resnet50", "pre_trained") is None


def test_a_wrong_name_is_one_line_with_the_next_right_one():
    with pytest.raises(UserError) as raised:
        named("torchvision/resnet51", "pre_trained")
    assert str(raised.value) == (
        "pre_trained: 'torchvision/resnet51' is neither a file nor the name of published weights; "
        "did you mean torchvision/resnet50?; `python -m src weights` lists the names"
    )
    with pytest.raises(UserError, match="neither a file"):
        named("torchvision/" + "\x1b[31m" * 1000, "pre_trained")


def test_a_classifier_is_no_detector():
    assert named("torchvision/resnet50", "pre_trained") is TABLE["torchvision/resnet50"]
    for key in ("checkpoint_path", "ckpt_file"):
        with pytest.raises(UserError, match=f"{key}: torchvision/resnet50 is a classifier"):
            named("torchvision/resnet50", key)


def test_the_page_has_the_table():
    page = (REPO / "docs" / "weights.md").read_text()
    rows = re.findall(r"^\| `(\w+/[\w-]+)` \| (.*) \|$", page, re.MULTILINE)
    shown = [(name, *(cell.strip(" `") for cell in text.split(" | "))) for name, text in rows]
    assert shown == [cells(row) for row in ROWS]
    prose = " ".join(page.split())
    for publisher in PUBLISHERS.values():
        assert publisher.licence in prose and publisher.folder in prose


def test_the_listing(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / TABLE["torchvision/resnet50"].file_name).touch()
    lines = list(table_lines())
    assert sum(line.startswith(tuple(TABLE)) for line in lines) == len(TABLE)
    line = next(line for line in lines if line.startswith("torchvision/resnet50 "))
    shown = "torchvision/resnet50 top-1 76.13 resnet_v1.5_50 103 sha256 0676ba61 in the cache"
    assert line.split() == shown.split()
    assert any("licence: CC BY-SA 3.0" in line for line in lines)


@pytest.mark.parametrize("word", [*PUBLISHERS, "me", "TORCHVISION"])
def test_launchers_know_the_names(word, tmp_path):
    code = f'source "{REPO}/scripts/arguments.sh"; has_published_name "{word}/resnet50" || exit 7'
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (0 if word in PUBLISHERS else 7), done.stderr


def test_names_take_a_path(tmp_path):
    assert names.named(tmp_path / "a.ckpt", "checkpoint_path") is None
