# SPDX-License-Identifier: Apache-2.0
"""The program `faster-rcnn`: its commands, and how it is called under both names."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import src
from src.base.errors import UserError
from src.commands.main import COMMANDS, main
from tests.helpers.paths import REPO


def python(*arguments: object, cwd: Path = REPO) -> subprocess.CompletedProcess:
    """Run the interpreter in a folder, whose modules it finds."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_help_lists_the_commands_without_importing_more():
    done = python("-X", "importtime", "-m", "src", "--help")
    assert done.returncode == 0
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert rows == [[name, command.summary] for name, command in COMMANDS.items()]
    for package in ("mindspore", "numpy", "cv2", "yaml"):
        assert f" {package}\n" not in done.stderr
    assert main(["-h"]) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["src/__main__.py", name, "--help"])
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no command is given; see python -m src --help"),
        (["trian"], "'trian' is no command; did you mean train?"),
        (["--batch_size", "3"], "'--batch_size' is no command"),
        (["x" * 5000], "is no command"),
    ],
)
def test_an_unknown_command_is_one_line(arguments, complaint):
    with pytest.raises(UserError) as error:
        main(arguments)
    assert complaint in str(error.value)
    done = python("-m", "src", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: command line: ") and done.stderr.count("\n") == 1


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{src.__version__}\n"


def test_the_scripts_and_the_program_are_the_same():
    """`train.py` says what `train` says but for its name."""
    for name, script in (("train", "train.py"), ("predict", "predict.py"), ("eval", "eval.py")):
        by_script, by_name = python(script, "--help"), python("-m", "src", name, "--help")
        assert by_script.stdout.partition("\n")[2] == by_name.stdout.partition("\n")[2] != ""
    module = importlib.import_module(f"src.{COMMANDS['convert'].module}")
    assert module is sys.modules["src.convert_checkpoint"]


INSTALLED = """
import sys
from faster_rcnn.base.program import command, install_command, program
from faster_rcnn.base.errors import run_entry
print(command("train"), "|", program("export"), "|", command(), "|", install_command())
print("src" in sys.modules, "mindspore" in sys.modules)
def main(argv):
    import no_such_package_at_all
run_entry(main)
"""


@pytest.fixture
def installed(tmp_path) -> Path:
    """A folder that has the package under its installed name."""
    shutil.copytree(
        REPO / "src", tmp_path / "faster_rcnn", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def test_what_is_said_when_installed(installed):
    done = python("-c", INSTALLED, cwd=installed)
    words, modules = done.stdout.splitlines()
    assert words == (
        "faster-rcnn train | faster-rcnn export | faster-rcnn | "
        "python -m pip install faster-rcnn-mindspore"
    )
    assert modules == "False False"
    assert done.returncode == 2 and "run `python -m pip install faster-rcnn-mindspore`" in (
        done.stderr
    )


def test_configurations_are_found_within_the_package_too(installed):
    for name in ("default_config.yaml", "default_config_101.yaml"):
        shutil.copy(REPO / name, installed / "faster_rcnn")
    shutil.copytree(REPO / "configs", installed / "faster_rcnn" / "configs")
    code = (
        "from faster_rcnn.model_utils.config import DEFAULT_CONFIG, load_config\n"
        "print(DEFAULT_CONFIG)\n"
        "print(load_config(['--config_path', 'configs/quickstart.yaml']).class_names)\n"
        "print(load_config(['--config_path', 'default_config_101.yaml']).backbone)\n"
    )
    done = python("-c", code, cwd=installed)
    assert done.stdout.splitlines() == [
        str(installed / "faster_rcnn" / "default_config.yaml"),
        "('circle', 'square', 'triangle', 'star')",
        "resnet_v1_101",
    ], done.stderr
