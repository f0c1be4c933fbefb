# SPDX-License-Identifier: Apache-2.0
"""run_infer_310.sh: builds, infers and scores; and what the scripts around the program refuse."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.helpers.infer_helpers import require_main
from tests.helpers.odd_images import picture
from tests.helpers.paths import REPO
from tests.helpers.stand_ins import CLASS_NAMES, SmallDetector, export_stand_in, stand_in_config

pytestmark = pytest.mark.slow


class Launcher:
    """run_infer_310.sh with the small detector and annotations of three images."""

    def __init__(self, root, model, build):
        self.root, self.model = root, model
        self.images, self.annotations = root / "images", root / "my annotations.json"
        self.images.mkdir()
        data = {"images": [], "annotations": [], "categories": []}
        for number, name in enumerate(CLASS_NAMES):
            data["categories"].append({"id": 10 * number + 7, "name": name})
            file_name = f"val/{number}.png"
            data["images"].append({"id": f"image {number}", "file_name": file_name})
            data["annotations"].append(
                {
                    "id": number,
                    "image_id": f"image {number}",
                    "category_id": 7,
                    "bbox": [5, 5, 30, 20],
                    "area": 600,
                    "iscrowd": 0,
                }
            )
            Image.fromarray(picture(70, 90, number)).save(self.images / f"{number}.png")
        self.annotations.write_text(json.dumps(data))
        self.environment = {**os.environ, "PYTHON": sys.executable, "INFER_BUILD_DIR": str(build)}

    def run(self, *arguments):
        script = REPO / "scripts/run_infer_310.sh"
        return subprocess.run(
            ["bash", str(script), *map(str, arguments)],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )


@pytest.fixture(scope="module")
def main():
    return require_main("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The small detector on one canvas and on two."""
    folder = tmp_path_factory.mktemp("models")
    one = stand_in_config(64, 96)
    two = one.replace(canvases=("64x96", "96x64"))
    return [
        export_stand_in(SmallDetector(), config, folder / name)
        for config, name in ((one, "one.onnx"), (two, "two.onnx"))
    ]


@pytest.fixture
def launcher(main, models, tmp_path):
    root = tmp_path / "some where"
    root.mkdir()
    return Launcher(root, models[0], main.parent)


def test_build_infer_score(launcher):
    done = launcher.run(launcher.model, "images", "my annotations.json")
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = (launcher.root / "infer_310/acc.log").read_text()
    assert sum(line.startswith(" Average") for line in accuracy.splitlines()) == 12
    results = json.loads((launcher.root / "infer_310/results.json").read_text())
    assert {r["image_id"] for r in results} == {"image 0", "image 1", "image 2"}
    assert {r["category_id"] for r in results} <= {7, 17, 27}


@pytest.mark.parametrize("name", ["two.onnx", "two.onnx.json", "two_96x64.onnx"])
def test_several_canvases_go_by_any_of_their_names(launcher, models, name):
    (launcher.root / "infer_310").mkdir()  # of an earlier run
    Image.fromarray(picture(90, 40, 0)).save(launcher.images / "0.png")
    done = launcher.run(models[1].with_name(name), "images", "my annotations.json")
    assert done.returncode == 0, done.stdout + done.stderr
    log = (launcher.root / "infer_310_1/infer.log").read_text()
    assert "two_64x96.onnx: " in log and "two_96x64.onnx: " in log and "\n3 images in " in log
    assert len(json.loads((launcher.root / "infer_310_1/results.json").read_text())) > 0


def test_the_launcher_stops_at_the_first_failing_step(launcher):
    (launcher.images / "3.png").write_bytes(b"broken")
    done = launcher.run(launcher.model, "images", "my annotations.json")
    assert done.returncode == 3 and "inferring failed with exit code 3" in done.stderr
    assert "3.png" in done.stderr  # the log's end
    assert not (launcher.root / "infer_310/acc.log").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("no.onnx", "images", "my annotations.json"), "MINDIR_PATH is not a file"),
        (("MODEL", "no", "my annotations.json"), "DATA_PATH is not a folder"),
        (("MODEL", "images", "no.json"), "ANN_FILE is not a file"),
        (("MODEL", "images", "my annotations.json", "x"), "DEVICE_ID is not a device number"),
        (("my annotations.json", "images", "my annotations.json"), "export.py writes it"),
        (("no_64x96.onnx", "images", "my annotations.json"), "MINDIR_PATH is not a file"),
        (("MODEL", "images", "my annotations.json", "--thread", "4"), "--thread is no option here"),
    ],
)
def test_the_launcher_refuses_wrong_arguments(launcher, arguments, message):
    done = launcher.run(*(launcher.model if a == "MODEL" else a for a in arguments))
    assert done.returncode == 2 and message in done.stderr
    assert not (launcher.root / "infer_310").exists()


@pytest.mark.parametrize(
    "script, arguments, message",
    [
        ("ascend310_infer/build.sh", ["magic"], "'magic' is no backend"),
        ("ascend310_infer/build.sh", ["--sanitise", "yes"], "--sanitise is no option here"),
        ("ascend310_infer/build.sh", ["onnxruntime", "--sanitize"], "--sanitize has no value"),
        ("scripts/get_infer_dependencies.sh", ["magic"], "'magic' is no library"),
        ("scripts/get_infer_dependencies.sh", ["--all", "yes"], "there is no option --all"),
    ],
)
def test_the_other_scripts_refuse_wrong_arguments(repo_root, script, arguments, message):
    command = ["bash", str(repo_root / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
