# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: `src` as `faster_rcnn`, and the files beside it that belong in.

The configuration files stay at the repository's root, where scripts and users of the model zoo
expect them; an installed package has them inside (`src/model_utils/configuration/shipped.py`).
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CONFIGURATIONS = ("default_config*.yaml", "configs/*.yaml")
EXTRAS = {
    "torch": ["torch>=2"],  # checkpoints for torchvision as .pth
    # An ONNX file is written with the first and compared with the network in the second.
    "onnx": ["onnx>=1.17,<2", "onnxruntime>=1.20,<2"],
    "openvino": ["openvino>=2024.6,<2027"],  # exported ONNX files in OpenVINO
    "tensorboard": ["tensorboardX>=2.6.2,<3"],  # events of a training
    # a server around a detector
    "serve": [
        "fastapi>=0.118,<1",
        "starlette>=0.48,<2",
        "uvicorn>=0.37,<1",
        "python-multipart>=0.0.18,<1",
    ],
    "modelarts": ["boto3>=1.35,<2"],  # data from and results to OBS or S3
    # What tests compare the evaluation report with; brings the desktop's OpenCV.
    "peers": ["scikit-learn>=1.4,<2", "supervision>=0.26,<1", "tidecv>=1.0.1,<2"],
}


class BuildPy(build_py):
    """Builds the package with the configuration files in it."""

    def run(self) -> None:
        """Copy the modules, then the configurations; an editable install finds its own."""
        super().run()
        if not self.editable_mode:
            for source, target in self._configurations():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name all files that are built."""
        return super().get_outputs(include_bytecode) + [to for _, to in self._configurations()]

    def _configurations(self) -> list[tuple[str, str]]:
        package = Path(self.build_lib, "faster_rcnn")
        paths = [path for pattern in CONFIGURATIONS for path in sorted(ROOT.glob(pattern))]
        return [(str(path), str(package / path.relative_to(ROOT))) for path in paths]


def requirements(name: str) -> list[str]:
    """Return the requirements of a file, without comments and the files that it includes."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-")]


setup(
    packages=["faster_rcnn", *(f"faster_rcnn.{name}" for name in find_packages(str(ROOT / "src")))],
    install_requires=requirements("requirements.txt"),
    extras_require={**EXTRAS, "dev": requirements("requirements-dev.txt")},
    cmdclass={"build_py": BuildPy},
)
