# SPDX-License-Identifier: Apache-2.0
"""From a name to a network: what `convert` makes of the same file, without the step in between."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from src.base.errors import UserError
from src.checkpoints.file import describe_model
from src.checkpoints.pretrained import load_pretrained
from src.checkpoints.settings import open_checkpoint
from src.commands.main import main
from src.convert_checkpoint import main as convert
from src.detector import open_detector
from src.inference import Detector
from src.model_utils.config import load_config
from src.storage.http_download import Digest
from src.weights.cache import cached_path
from src.weights.opening import open_weights, require_weights
from src.weights.table import TABLE
from tests.helpers import foreign_checkpoints as foreign
from tests.helpers.file_server import Served, file_server
from tests.helpers.paths import REPO
from tests.helpers.tiny_detector import tiny_network
from tests.helpers.torch_files import save_state_dict

CLASSIFIER, DETECTOR = "torchvision/resnet50", "torchvision/fasterrcnn_resnet50_fpn_coco"


def offer(name, arrays, folder):
    """Put a state dict into the cache under the name of published weights; return its digest."""
    os.environ["FASTERRCNN_WEIGHTS_DIR"] = str(folder)
    path = cached_path(TABLE[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_state_dict(path, arrays)
    return Digest("sha256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])


@pytest.fixture(scope="module")
def weights():
    """A classifier and a detector of torchvision's, in the cache; stated digests are theirs."""
    import tempfile

    before = os.environ.get("FASTERRCNN_WEIGHTS_DIR")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        backbone = foreign.fill(foreign.resnet(50)) | {"fc.bias": np.ones(1000, np.float32)}
        for name, arrays in (
            (CLASSIFIER, backbone),
            (DETECTOR, foreign.fill(foreign.torchvision(old=True))),
        ):
            patch.setitem(TABLE, name, TABLE[name]._replace(digest=offer(name, arrays, folder)))
        yield
    if before is None:
        del os.environ["FASTERRCNN_WEIGHTS_DIR"]
    else:
        os.environ["FASTERRCNN_WEIGHTS_DIR"] = before


@pytest.mark.parametrize("name", [CLASSIFIER, DETECTOR])
def test_the_same_as_converted(weights, name, tmp_path):
    opened = open_weights(name, "pre_trained")
    output = tmp_path / "a.ckpt"
    convert(["--ckpt_file", str(cached_path(TABLE[name])), "--output", str(output)])
    saved = open_checkpoint(output)
    assert opened.meta == saved.meta and opened.arrays.keys() == saved.arrays.keys()
    for key, array in saved.arrays.items():
        np.testing.assert_array_equal(opened.arrays[key], array)
    assert opened.meta["settings"]["bn_eps"] == (0.0 if name == DETECTOR else 1e-5)


def test_a_detector_by_name(weights, monkeypatch, tmp_path):
    """With the settings of its publisher; not with those of a run that lies around."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("test_score_thr: 0.9\n")
    config = load_config(["--device_target", "CPU", "--checkpoint_path", DETECTOR])
    opened = open_detector(config, DETECTOR)
    assert opened.config.box_convention == "modern" and opened.config.resize == "short_edge"
    assert opened.config.num_classes == 81 and opened.config.test_score_thr == 0.05
    seen = []
    monkeypatch.setattr(Detector, "_open", lambda self, *given: seen.append(given))
    Detector.from_config(config)
    assert seen[0][0].test_score_thr == 0.05 and list(seen[0][1]) == []


def test_a_backbone_by_name(weights):
    network = tiny_network(depth=1)
    with pytest.raises(UserError, match="backbone"):  # the tiny one is another
        load_pretrained(network, open_weights(CLASSIFIER, "pre_trained"))
    checkpoint = open_weights(CLASSIFIER, "pre_trained")
    expected = describe_model(load_config([]).replace(backbone="resnet_v1_101"))
    with pytest.raises(UserError, match="set backbone to resnet_v1.5_50"):
        load_pretrained(network, checkpoint, expected)


def test_files_are_opened_as_before(tmp_path):
    with pytest.raises(UserError, match="a.ckpt: no such file; set checkpoint_path to a"):
        require_weights(tmp_path / "a.ckpt", "checkpoint_path")
    with pytest.raises(UserError, match="no such file"):
        open_weights(tmp_path / "a.ckpt", "checkpoint_path")


def test_what_is_no_checkpoint_is_one_line(monkeypatch, tmp_path):
    """Without a digest anything can come; it is still read by the strict reader."""
    row = TABLE["detectron2/R-50"]
    monkeypatch.setenv("FASTERRCNN_WEIGHTS_DIR", str(tmp_path))
    cached_path(row).parent.mkdir(parents=True)
    cached_path(row).write_bytes(b"cos\nsystem\n(S'touch marker'\ntR.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="it asks for os.system"):
        open_weights(row.name, "pre_trained")
    assert not (tmp_path / "marker").exists()


# ------------------------------------------------------------------ the command


def test_the_command_lists(capsys):
    assert main(["weights"]) == 0
    said = capsys.readouterr().out
    assert DETECTOR in said and "downloads weights before they are needed" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["torchvision/resnet5"], "did you mean torchvision/resnet50?"),
        (["--names"], "unrecognized arguments: --names"),
    ],
)
def test_the_command_refuses(arguments, message):
    with pytest.raises(UserError) as raised:
        main(["weights", *arguments])
    assert message in str(raised.value)


def _program(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "src", *arguments],
        cwd=REPO,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_downloads(tmp_path):
    """As a program of its own, from a mirror; a digest that does not fit is exit code 2."""
    content = os.urandom(10**6)
    with file_server() as site:
        site.files["/detectron2/R-50.pkl"] = Served(content)
        site.files["/torchvision/resnet50-0676ba61.pth"] = Served(content)
        places = {"FASTERRCNN_WEIGHTS_DIR": str(tmp_path), "FASTERRCNN_WEIGHTS_MIRROR": site.url}
        done = _program("weights", "detectron2/R-50", **places)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "detectron2" / "R-50.pkl").read_bytes() == content
        assert "use it with --pre_trained detectron2/R-50" in done.stdout
        assert "downloading detectron2/R-50 from" in done.stderr
        done = _program("weights", "torchvision/resnet50", **places)
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not have the sha256 that its publisher states (0676ba61...)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: torchvision/resnet50: ")
    assert "Traceback" not in done.stderr
    done = _program("weights", "torchvision/resnet50", **places)  # nobody there any more
    assert done.returncode == 2 and "cannot be reached" in done.stderr
