# SPDX-License-Identifier: Apache-2.0
"""The MindSpore Lite backend, built against the real library and run on the CPU.

MindSpore Lite 2.0 does not read a MINDIR of MindSpore 2.10, so a small network goes there through
the library's own converter.
"""

import subprocess

import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

from src.evaluation.result_files import ResultFolder
from src.images.ops import preprocess_image
from src.images.reading import read_image
from tests.helpers.infer_helpers import CACHE, require_library, require_main, run_main
from tests.helpers.odd_images import picture
from tests.helpers.paths import RESOURCES
from tests.helpers.stand_ins import (
    SmallDetector,
    describe,
    export_stand_in,
    model_file,
    stand_in_config,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def main():
    return require_main("mindspore_lite")


@pytest.fixture(scope="module")
def config():
    return stand_in_config(64, 96, file_format="MINDIR")


@pytest.fixture(scope="module")
def model(tmp_path_factory, config):
    """The small detector as MINDIR of MindSpore Lite 2.0, with its description."""
    library = require_library("mindspore_lite")
    folder = tmp_path_factory.mktemp("lite")
    onnx = export_stand_in(SmallDetector(), config, folder / "small.onnx")
    converter = CACHE / "build" / "lite_convert"
    converter.parent.mkdir(parents=True, exist_ok=True)
    compile_it = [
        "c++",
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-D_GLIBCXX_USE_CXX11_ABI=0",
        "-isystem",
        library,
        RESOURCES / "lite_convert.cc",
        "-o",
        converter,
        f"-L{library}/lib",
        "-lmindspore_converter",
        "-lmindspore_core",
        "-Wl,--disable-new-dtags",
        f"-Wl,-rpath,{library}/lib",
        "-Wl,--allow-shlib-undefined",
    ]
    for command in (compile_it, [converter, onnx, folder / "small"]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    path = folder / "small.mindir"
    image, image_meta = np.zeros((1, 3, 64, 96), np.float32), np.ones((1, 4), np.float32)
    outputs = [o.asnumpy() for o in SmallDetector()(Tensor(image), Tensor(image_meta))]
    describe(path, config, [model_file(path, (64, 96), (image, image_meta), outputs)])
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(64 + 9 * number, 96 - 5 * number, number)).save(
            folder / f"{number}.png"
        )
    return folder


def test_the_same_outputs_as_mindspore(main, model, config, images, tmp_path):
    done = run_main(main, model, images, tmp_path, "--device_target=CPU")
    assert done.returncode == 0, done.stderr
    results, network = ResultFolder(tmp_path / "result_Files"), SmallDetector()
    for number in range(3):
        name = f"{number}.png"
        image, meta = preprocess_image(read_image(str(images / name)), config)
        expected = [o.asnumpy()[0] for o in network(Tensor(image[None]), Tensor(meta[None]))]
        found = results.read(name)
        arrays = (found.boxes, found.scores, found.labels, found.valid)
        for ours, theirs in zip(expected, arrays, strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=1e-6)


def test_without_an_ascend_device_build_says_so(main, model, images, tmp_path):
    done = run_main(main, model, images, tmp_path, "--device_target=Ascend", "--device_id=0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Model::Build failed" in last and "Ascend" in last
    assert not (tmp_path / "result_Files").exists()
