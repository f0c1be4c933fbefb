# SPDX-License-Identifier: Apache-2.0
"""The command `serve`: from a checkpoint to answers; what it refuses."""

import builtins
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.commands import serve as command
from src.inference import Detector
from src.model_utils.config import load_config
from tests.helpers.data_helpers import picture
from tests.helpers.tiny_detector import TinyDetector
from tests.helpers.tiny_run import use_tiny_detector

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("multipart", reason="the extra `serve` is not installed")

WAIT = 300.0  # seconds, on a busy machine


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A tiny detector's, of two classes and a landscape and a portrait canvas."""
    use_tiny_detector(monkeypatch.setattr)
    canvases = ["64x96", "96x64"]
    config = load_config([]).replace(coco_classes=["cat", "dog"], canvases=canvases)
    path = tmp_path / "tiny.ckpt"
    save_checkpoint(path, TinyDetector(config.num_classes), meta=describe_model(config))
    return path


def png(rgb):
    import cv2

    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def test_from_a_checkpoint_to_fifty_clients(checkpoint, monkeypatch, capsys):
    """Each gets what `Detector` finds in its picture; all graphs are there before the first one."""
    from src.serving import run
    from tests.helpers.web import Site

    started, servers, address = threading.Event(), [], []

    class Recorded(run.Server):
        def __init__(self, app, limits, ready):
            super().__init__(app, limits, lambda: (ready(), started.set()))
            servers.append(self)

        def serve_on(self, bound):
            address.append(bound.getsockname()[1])
            super().serve_on(bound)

    monkeypatch.setattr(run, "Server", Recorded)
    argv = ["--port", "0", "--min_score", "0", "--checkpoint_path", str(checkpoint)]
    argv += ["--device_target", "CPU", "--test_batch_size", "4", "--canvases", "64x96,96x64"]
    thread = threading.Thread(target=command.main, args=(argv,))
    thread.start()
    try:
        assert started.wait(WAIT)
        said = capsys.readouterr().out
        assert f"serving on http://127.0.0.1:{address[0]}/ (Ctrl-C ends it)" in said
        assert said.index("the graph is ready after") < said.index("serving on")
        site = Site(address[0], None)
        sizes = [(40 + n % 7, 60) if n % 2 else (60, 40 + n % 5) for n in range(50)]
        pictures = [picture(*size, n) for n, size in enumerate(sizes)]
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda rgb: site.predict(png(rgb), "?min_score=0"), pictures))
        health = site.ask("GET", "/health")[1]
    finally:
        servers[0].should_exit = True
        thread.join(WAIT)
    assert not thread.is_alive()
    assert health["pictures"] == 50 and health["canvases"] == ["64x96", "96x64"]
    detector = Detector(
        checkpoint, device_target="CPU", canvases=["64x96", "96x64"], test_batch_size=4
    )
    for (status, answer), found in zip(answers, detector.detect(pictures), strict=True):
        assert status == 200
        boxes = np.reshape([d["box"] for d in answer["detections"]], (-1, 4))
        assert np.allclose(boxes, found.boxes, atol=0.01)
        assert [d["class"] for d in answer["detections"]] == [
            detector.class_names[label - 1] for label in found.labels
        ]


@pytest.mark.parametrize(
    "argv, complaint",
    [
        (["--port", "65536"], "--port: 65536 is not 0 to 65535"),
        (["--port", "http"], "argument --port"),
        (["--min_score", "nan"], "--min_score: nan is not 0 to 1"),
        (["--max_bytes", "0"], "--max_bytes: 0 is not 1 to"),
        (["--queue", "0"], "--queue: 0 is not 1 to"),
        (["--timeout", "inf"], "--timeout: inf is not 0.1 to"),
        (["--port", "0", "--device_target", "CPU"], "checkpoint_path is empty"),
        (["--host", "no such host", "--port", "0"], "choose another --host or --port"),
    ],
)
def test_wrong_arguments(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        command.main(argv)


def test_packages_that_are_missing_are_named(monkeypatch):
    import sys

    for name in [n for n in sys.modules if n.startswith(("src.serving", "fastapi"))]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without_fastapi(name, *rest):
        if name.partition(".")[0] == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_fastapi)
    with pytest.raises(UserError, match=r"needs the package fastapi: .*'\.\[serve\]'"):
        command.main(["--port", "0"])
