# SPDX-License-Identifier: Apache-2.0
"""Videos through a detector: rows, the annotated video, early ends."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from src.images.listing import Inputs, Video, find_inputs
from src.images.videos import VideoError, VideoReader
from src.images.views import View
from src.inference import Found
from src.predicting.options import Options
from src.predicting.run import check_names, write_predictions
from tests.helpers.data_helpers import canvas_format
from tests.helpers.videos import SIZE, make_video


@dataclass(frozen=True)
class Settings:
    """The keys that writing predictions asks for."""

    output_dir: str = "out"
    test_batch_size: int = 4
    class_names: tuple[str, ...] = ("cat", "dog")
    max_image_pixels: int = 1_000_000


class Grey:
    """Finds a box whose score is the picture's grey."""

    views = (View(canvas_format(*SIZE)),)

    def __init__(self, before=lambda: None):
        self._before = before

    def detect_inputs(self, inputs):
        ((images, _),) = inputs
        self._before()
        greys = images.mean((1, 2, 3)) * 57.4 + 116
        box = np.float32([[4, 8, 30, 40]])
        return [Found(box, np.float32([grey / 255]), np.int32([1])) for grey in greys]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look_at(*paths, detector=None, **options):
    videos = [Video(str(path), Path(path).stem, Path(path)) for path in paths]
    return write_predictions(
        detector or Grey(), Settings(), Inputs(videos=videos), Options(**options)
    )


def rows(name="clip"):
    return [json.loads(line) for line in Path("out", f"{name}.jsonl").read_text().splitlines()]


def test_a_row_a_frame_and_a_video_of_the_same_length(capsys):
    make_video("clip.mp4", frames=10, rate=10)
    assert look_at("clip.mp4", min_score=0.0) == 0
    found = rows()
    assert [row["frame"] for row in found] == list(range(10))
    assert [row["seconds"] for row in found] == pytest.approx([i / 10 for i in range(10)])
    scores = [row["detections"][0]["score"] for row in found]
    assert np.allclose(scores, np.arange(10) * 20 / 255, atol=0.02)
    drawn = VideoReader(Video("out", "out", Path("out/clip.mp4")))
    assert (drawn.total, drawn.rate) == (10, 10.0)
    assert {path.name for path in Path("out").iterdir()} == {"clip.mp4", "clip.jsonl"}
    assert "clip.mp4: 10 frames -> out/clip.mp4, out/clip.jsonl" in capsys.readouterr().out


def test_files_of_an_earlier_run_are_named(capsys):
    make_video("clip.mp4", frames=3)
    Path("out").mkdir()
    Path("out/predictions.json").write_text("[]")
    assert look_at("clip.mp4", formats=("json", "csv")) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")] == [
        "note: out/predictions.json is of an earlier run, nothing of this one is in it"
    ]


def test_frames_are_skipped_without_changing_the_duration():
    make_video("clip.mp4", frames=10, rate=10)
    assert look_at("clip.mp4", frame_step=3, max_frames=3) == 0
    assert [row["frame"] for row in rows()] == [0, 3, 6]
    drawn = VideoReader(Video("out", "out", Path("out/clip.mp4")))
    assert drawn.total == 3 and drawn.rate == pytest.approx(10 / 3, rel=1e-3)


def test_all_formats_have_the_frames():
    make_video("clip.mp4", frames=3)
    formats = ("json", "coco", "csv", "yolo")
    assert look_at("clip.mp4", min_score=0.1, formats=formats, crops=True, draws=False) == 0
    made = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    assert made == {
        *("clip.jsonl", "predictions_coco.json", "predictions.csv", "classes.txt"),
        *(f"labels/clip/00000{i}.txt" for i in range(3)),
        "crops/cat/clip/000002_1.png",
    }


def test_a_broken_video_does_not_cost_the_others(capsys):
    make_video("clip.mp4", frames=3)
    Path("bad.mp4").write_text("no video")
    assert look_at("bad.mp4", "clip.mp4") == 2
    assert len(rows()) == 3 and not Path("out", "bad.mp4").exists()
    said = capsys.readouterr()
    assert said.err.startswith("error: video bad.mp4 cannot be read")
    assert "not in them: 1 of 2 inputs" in said.out
    with pytest.raises(VideoError):
        look_at("bad.mp4")


def test_ctrl_c_leaves_whole_files(capsys):
    make_video("clip.mp4", frames=100)
    batches = []

    def interrupt():
        batches.append(1)
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    assert look_at("clip.mp4", detector=Grey(interrupt)) == 130
    seen = len(rows())
    assert 8 <= seen < 100
    assert VideoReader(Video("out", "out", Path("out/clip.mp4"))).total == seen
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failure_leaves_nothing():
    make_video("clip.mp4", frames=3)

    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        look_at("clip.mp4", detector=Grey(fail))
    assert [path for path in Path("out").glob("*") if path.is_file()] == []


def test_no_result_goes_where_a_video_is():
    make_video("clip.mp4", frames=1)
    with pytest.raises(Exception, match="would overwrite the image clip.mp4"):
        check_names(find_inputs(["clip.mp4"]), Path("."))
    Path("labels").mkdir()
    os.rename("clip.mp4", "labels/clip.mp4")
    with pytest.raises(Exception, match="would overwrite the image labels/clip.mp4"):
        check_names(find_inputs(["labels/clip.mp4"]), Path("."))
