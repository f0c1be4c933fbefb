# SPDX-License-Identifier: Apache-2.0
"""Frames out of videos and into them; files that are none."""

import functools
import http.server
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.base.errors import UserError
from src.images.listing import Video
from src.images.videos import VideoError, VideoReader, VideoWriter
from tests.helpers.videos import SIZE, make_video


@pytest.fixture
def clip(tmp_path):
    return make_video(tmp_path / "clip.mp4", frames=10, rate=12.5)


def video(path):
    return Video(str(path), Path(path).stem, Path(path))


def test_frames_in_their_order_with_their_times(clip):
    reader = VideoReader(video(clip))
    frames = list(reader)
    assert (reader.rate, reader.total, reader.read, reader.lost) == (12.5, 10, 10, 0)
    assert [frame.number for frame in frames] == list(range(10))
    assert np.allclose([frame.seconds for frame in frames], np.arange(10) / 12.5, atol=1e-3)
    for frame in frames:  # each is of one grey, which compressing changes a little
        assert frame.rgb.shape == (*SIZE, 3) and frame.rgb.dtype == np.uint8
        assert abs(float(frame.rgb.mean()) - 20 * frame.number) < 4


def test_frames_are_skipped_and_counted(clip):
    reader = VideoReader(video(clip), step=3)
    assert [frame.number for frame in reader] == [0, 3, 6, 9]
    assert reader.total == 4 and reader.rate == pytest.approx(12.5 / 3)
    few = VideoReader(video(clip), step=2, most=3)
    assert [frame.number for frame in few] == [0, 2, 4] and few.total == 3 and few.lost == 0


def test_frames_are_rgb(tmp_path):
    with VideoWriter(tmp_path / "red.mp4", 10) as writer:
        for _ in range(3):
            writer.write(np.full((*SIZE, 3), (200, 20, 20), np.uint8))
    for frame in VideoReader(video(tmp_path / "red.mp4")):
        assert np.abs(frame.rgb.mean((0, 1)) - (200, 20, 20)).max() < 8


def test_frames_of_another_size_are_brought_to_the_first_ones(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(np.zeros((49, 65, 3), np.uint8))  # odd sides lose a pixel
        writer.write(np.zeros((100, 90, 3), np.uint8))
    assert [f.rgb.shape for f in VideoReader(video(tmp_path / "a.mp4"))] == [(48, 64, 3)] * 2


def test_a_video_that_is_not_whole_is_named(clip, monkeypatch):
    reader = VideoReader(video(clip))
    grab = reader._capture.grab
    calls = iter(range(100))
    capture = type("Cut", (), {"grab": lambda self: next(calls) < 4 and grab()})()
    for name in ("retrieve", "get", "release"):
        setattr(capture, name, getattr(reader._capture, name))
    monkeypatch.setattr(reader, "_capture", capture)
    assert len(list(reader)) == 4 and reader.lost == 6


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("text", [PLAYLIST, "ffconcat version 1.0\nfile {}\n", "", "no video"])
def test_what_is_no_video_opens_no_other_file(clip, tmp_path, text):
    """FFmpeg itself would play the other file."""
    path = tmp_path / "gift.mp4"
    path.write_text(text.format(clip))
    with pytest.raises(VideoError, match="gift.mp4 cannot be read: it does not begin like a video"):
        VideoReader(video(path))


def test_what_begins_like_a_video_and_is_none(clip, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:200])
    with pytest.raises(VideoError, match="cut.mp4 cannot be opened: it is damaged"):
        VideoReader(video(tmp_path / "cut.mp4"))
    with pytest.raises(VideoError, match="gone.mp4 cannot be read: No such file"):
        VideoReader(video(tmp_path / "gone.mp4"))


@pytest.mark.parametrize("suffix, code", [(".avi", "MJPG"), (".webm", "VP80"), (".mkv", "mp4v")])
def test_other_containers(tmp_path, suffix, code):
    path = make_video(tmp_path / f"a{suffix}", frames=4, code=code)
    assert len(list(VideoReader(video(path)))) == 4


def test_names_are_no_patterns_and_no_addresses(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a%03d.mp4", "http:clip.mp4"):
        Path(name).write_bytes(clip.read_bytes())
        assert len(list(VideoReader(video(name)))) == 10


def test_paths_that_are_not_utf8_are_refused(clip, tmp_path):
    """OpenCV would end the process."""
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    try:
        os.rename(clip, path)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    with pytest.raises(VideoError, match="is not UTF-8; rename it"):
        VideoReader(video(path))
    with pytest.raises(UserError, match="is not UTF-8; name another"):
        VideoWriter(path, 25.0)


def test_frames_have_a_limit(clip):
    with pytest.raises(VideoError, match="its frames have 64x48 pixels, more than max_image_pix"):
        VideoReader(video(clip), 48 * 64 - 1)


def test_cameras_and_streams_that_are_not_there():
    camera = Video("camera 97", "camera_97", 97)
    stream = Video("rtsp://127.0.0.1/...", "stream_127", "rtsp://user:secret@127.0.0.1:9/a")
    for live in (camera, stream):
        with pytest.raises(VideoError, match="cannot be opened") as error:
            VideoReader(live)
        assert "secret" not in str(error.value)


def test_a_full_disk_is_noticed(tmp_path, monkeypatch):
    """OpenCV says nothing of it."""
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    with pytest.raises(Exception, match="0 of 1 frames are in it; is the disk full"), writer:
        writer.write(np.zeros((*SIZE, 3), np.uint8))
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: _Nothing())


class _Nothing:
    """What is opened of a file without an end."""

    def isOpened(self):
        return False

    def release(self):
        pass


def test_a_stream_over_http(tmp_path):
    make_video(tmp_path / "a.avi", frames=4, code="MJPG")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.avi"
        frames = list(VideoReader(Video("stream", "stream", address)))
        server.shutdown()
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert all(frame.rgb.shape == (*SIZE, 3) for frame in frames)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Says nothing."""

    def log_message(self, *_):
        pass
