# SPDX-License-Identifier: Apache-2.0
"""The shell launchers, with a stand-in for Python that records how it was called."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

TARGETS = {"ascend": "Ascend", "gpu": "GPU", "cpu": "CPU"}
BACKBONES = (
    "resnet_v1.5_50",
    "resnet_v1_50",
    "resnet_v1_101",
    "resnet_v1_152",
    "resnet_v1.5_18",
    "resnext_101_32x8d",
)

# Called as `python`: notes arguments, folder and environment, prints, leaves with $STAND_IN_EXIT.
# (The second line is a command to sh and a string to Python: a #! line cannot hold a space.)
STAND_IN = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import json, os, sys, time
with open(os.environ["STAND_IN_RECORD"], "w") as file:
    json.dump({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}, file)
print("to stdout", flush=True)
if "STAND_IN_LEAVES" in os.environ:
    open(os.path.join(sys.argv[-1], os.environ["STAND_IN_LEAVES"]), "w").close()
print("to stderr", file=sys.stderr, flush=True)
if "STAND_IN_WAIT" in os.environ:
    import signal
    def stop(number, frame):
        print("saved after signal", number, flush=True)
        time.sleep(0.3)
        sys.exit(40 + number)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    open(os.environ["STAND_IN_WAIT"], "w").close()
    time.sleep(30)
sys.exit(int(os.environ.get("STAND_IN_EXIT", "0")))
"""


@dataclass
class Call:
    """What came of one launch."""

    code: int
    stdout: str
    stderr: str
    record: dict | None

    @property
    def options(self) -> dict[str, str]:
        """``--key value`` pairs that the stand-in got; later ones count."""
        argv = self.record["argv"][1:]
        assert len(argv) % 2 == 0 and all(key.startswith("--") for key in argv[::2]), argv
        return dict(zip(argv[::2], argv[1::2], strict=True))


class Bench:
    """A folder with a COCO root, a checkpoint and a stand-in `python` first in PATH."""

    def __init__(self, root: Path, repo: Path) -> None:
        self.root, self.repo = root, repo
        self.work = root / "work folder"
        self.coco = root / "coco root"
        self.checkpoint = root / "a model.ckpt"
        self.annotations = self.coco / "annotations" / "instances val.json"
        self.work.mkdir()
        self.annotations.parent.mkdir(parents=True)
        self.annotations.write_text("{}")
        self.checkpoint.write_text("")
        binaries = root / "bin"
        binaries.mkdir()
        (binaries / "python").write_text(STAND_IN)
        (binaries / "python").chmod(0o755)
        self.record_file = root / "record.json"
        # As in an activated environment, so that a .venv of the repository is not preferred.
        self.environment = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "HOME": str(root),
            "VIRTUAL_ENV": str(root),
            "STAND_IN_RECORD": str(self.record_file),
        }

    def command(self, script: str, *arguments: object) -> list[str]:
        return ["bash", str(self.repo / "scripts" / script), *map(str, arguments)]

    def run(self, script, *arguments, cwd=None, **environment) -> Call:
        self.record_file.unlink(missing_ok=True)
        done = subprocess.run(
            self.command(script, *arguments),
            cwd=cwd or self.work,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        called = self.record_file.exists()
        record = json.loads(self.record_file.read_text()) if called else None
        return Call(done.returncode, done.stdout, done.stderr, record)

    def train(self, *arguments, target="cpu", **settings) -> Call:
        return self.run(f"run_standalone_train_{target}.sh", *arguments, **settings)

    def evaluate(self, *arguments, target="cpu", **settings) -> Call:
        return self.run(f"run_eval_{target}.sh", *arguments, **settings)


@pytest.fixture
def bench(tmp_path, repo_root) -> Bench:
    return Bench(tmp_path, repo_root)


@pytest.mark.parametrize("target", TARGETS)
def test_train_passes_its_arguments_on(bench, target):
    call = bench.train("none", "resnet_v1.5_50", bench.coco, target=target)
    assert call.code == 0, call.stderr
    assert call.record["argv"][0] == str(bench.repo / "train.py")
    assert call.options == {
        "--config_path": str(bench.repo / "default_config.yaml"),
        "--device_target": TARGETS[target],
        "--backbone": "resnet_v1.5_50",
        "--coco_root": str(bench.coco),
        "--pre_trained": "",
        "--output_dir": str(bench.work / "train"),
    }
    assert str(bench.work / "train") in call.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_eval_passes_its_arguments_on(bench, target):
    arguments = (bench.annotations, bench.checkpoint, "resnet_v1_50", bench.coco, "mr")
    call = bench.evaluate(*arguments, target=target)
    assert call.code == 0, call.stderr
    assert call.record["argv"][0] == str(bench.repo / "eval.py")
    assert call.options == {
        "--config_path": str(bench.repo / "default_config.yaml"),
        "--device_target": TARGETS[target],
        "--backbone": "resnet_v1_50",
        "--coco_root": str(bench.coco),
        "--mindrecord_dir": str(bench.work / "mr"),
        "--anno_path": str(bench.annotations),
        "--checkpoint_path": str(bench.checkpoint),
        "--output_dir": str(bench.work / "eval"),
    }


def test_eval_without_an_annotation_file_takes_what_is_in_the_folder(bench):
    """Of VOC, YOLO and LabelMe there is none; what a configuration file says does not count."""
    call = bench.evaluate("none", bench.checkpoint, "resnet_v1_50", bench.coco)
    assert call.code == 0, call.stderr
    assert call.options["--anno_path"] == "" and call.options["--coco_root"] == str(bench.coco)


@pytest.mark.parametrize("name", ["a model.onnx", "several.onnx"])
def test_the_evaluation_of_an_exported_model_passes_its_arguments_on(bench, name):
    model = bench.root / name
    # Of several canvases there is no file of the model's own name, but a description.
    (bench.root / (name if name == "a model.onnx" else f"{name}.json")).write_text("")
    arguments = (bench.annotations, model, "resnet_v1_101", bench.coco, "mr", "--seed", "3")
    call = bench.run("run_eval_onnx.sh", *arguments)
    assert call.code == 0, call.stderr
    assert call.record["argv"][0] == str(bench.repo / "eval_onnx.py")
    assert call.options == {
        "--config_path": str(bench.repo / "default_config_101.yaml"),
        "--coco_root": str(bench.coco),
        "--mindrecord_dir": str(bench.work / "mr"),
        "--anno_path": str(bench.annotations),
        "--file_name": str(model),
        "--seed": "3",
        "--output_dir": str(bench.work / "eval_onnx"),
    }


def test_a_model_that_is_missing_starts_nothing(bench):
    arguments = (bench.annotations, "gone.onnx", "resnet_v1_50", bench.coco)
    call = bench.run("run_eval_onnx.sh", *arguments)
    assert call.code == 2 and "ONNX_MODEL is not a file: 'gone.onnx'" in call.stderr
    assert call.record is None and list(bench.work.iterdir()) == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_backbone_has_its_config_file(bench, backbone):
    depth = backbone.split("_")[2 if backbone.startswith("resnet") else 1]
    suffix = {"101": "_101", "152": "_152"}.get(depth, "")
    config = bench.repo / f"default_config{suffix}.yaml"
    call = bench.train("none", backbone, bench.coco)
    assert call.options["--config_path"] == str(config)
    assert config.is_file()


def test_pretrained_model_and_mindrecord_folder(bench):
    call = bench.train(bench.checkpoint, "resnet_v1_101", bench.coco, bench.root / "not yet/mr")
    assert call.options["--pre_trained"] == str(bench.checkpoint)
    assert call.options["--mindrecord_dir"] == str(bench.root / "not yet/mr")
    assert not (bench.root / "not yet").exists()


def test_relative_paths_belong_to_the_callers_folder(bench):
    call = bench.train("../a model.ckpt", "resnet_v1_50", "../coco root", "./mr")
    assert call.record["cwd"] == str(bench.work)
    for key in ("--pre_trained", "--coco_root"):
        assert os.path.samefile(
            call.options[key], bench.checkpoint if key == "--pre_trained" else bench.coco
        )
    assert call.options["--mindrecord_dir"] == str(bench.work / "mr")


def test_options_are_passed_through_after_the_launchers_own(bench):
    config = bench.work / "my config.yaml"
    config.write_text("")
    extra = ["--config_path", "my config.yaml", "--img_height", "256", "--coco_classes", "a b"]
    call = bench.train("none", "resnet_v1_50", bench.coco, *extra)
    assert call.options["--config_path"] == "my config.yaml"
    assert call.options["--img_height"] == "256" and call.options["--coco_classes"] == "a b"
    assert call.record["argv"].index("--img_height") > call.record["argv"].index("--coco_root")
    call = bench.train("none", "resnet_v1_50", bench.coco, f"--config_path={config}")
    assert call.code == 0
    assert str(bench.repo / "default_config.yaml") not in call.record["argv"]


def test_started_from_the_root_folder(bench):
    """No run folder can be made in / without being root, so one is named."""
    out = bench.root / "out"
    relative = str(bench.coco).lstrip("/")
    call = bench.train("none", "resnet_v1_50", relative, "--output_dir", out, cwd="/")
    assert call.code == 0, call.stderr
    assert call.record["cwd"] == "/"
    assert call.options["--coco_root"] == str(bench.coco)
    assert (out / "log.txt").is_file()


@pytest.mark.parametrize("folder", ["scripts", "."])
def test_script_called_through_a_relative_path(bench, folder):
    """With CDPATH set, too: cd then prints the folder that it went to."""
    script = os.path.relpath("scripts/run_standalone_train_cpu.sh", folder)
    done = subprocess.run(
        ["bash", script, "none", "resnet_v1_50", str(bench.coco)]
        + ["--output_dir", str(bench.root / "out")],
        cwd=bench.repo / folder,
        env={**bench.environment, "CDPATH": str(bench.repo)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(bench.record_file.read_text())["argv"][0] == str(bench.repo / "train.py")


@pytest.mark.parametrize(
    "script", ["scripts/run_eval_cpu.sh", "scripts/docker_start.sh", "ascend310_infer/build.sh"]
)
def test_cdpath_of_the_callers_shell(bench, script):
    """With it, cd prints the folder that it went to."""
    done = subprocess.run(
        ["bash", script, "--help"],
        cwd=bench.repo,
        capture_output=True,
        text=True,
        env={**bench.environment, "CDPATH": str(bench.repo)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "0 arguments given"),
        (["none", "resnet_v1_50"], "2 arguments given"),
        (["none", "resnet_v1_50", "{coco}", "mr", "more"], "5 arguments given"),
        (["none", "resnet50", "{coco}"], "unknown BACKBONE 'resnet50'"),
        (["none", "", "{coco}"], "unknown BACKBONE ''"),
        (["missing.ckpt", "resnet_v1_50", "{coco}"], "PRETRAINED_MODEL is not a file"),
        (["{coco}", "resnet_v1_50", "{coco}"], "PRETRAINED_MODEL is not a file"),
        (["none", "resnet_v1_50", "nowhere"], "COCO_ROOT is not a folder: 'nowhere'"),
        (["none", "resnet_v1_50", "{checkpoint}"], "COCO_ROOT is not a folder"),
        (["none", "resnet_v1_50", "{coco}", "{checkpoint}"], "MINDRECORD_DIR is not a folder"),
        (["none", "resnet_v1_50", "{coco}", "--config_path", "no.yaml"], "--config_path"),
        (["none", "resnet_v1_50", "{coco}", "-x"], "'-x' is no argument"),
        (["none", "resnet_v1_50", "{coco}", "--output_dir", "--seed", "2"], "--output_dir has no"),
        (["none", "resnet_v1_50", "{coco}", "--seed", "2", "--output_dir"], "--output_dir has no"),
        (["none", "resnet_v1_50", "{coco}", "--output_dir="], "--output_dir is empty"),
    ],
)
def test_wrong_training_arguments_start_nothing(bench, arguments, complaint):
    given = [a.format(coco=bench.coco, checkpoint=bench.checkpoint) for a in arguments]
    call = bench.train(*given)
    assert call.code == 2
    (line,) = call.stderr.splitlines()
    assert line.startswith("error: ") and complaint in line
    assert call.record is None and list(bench.work.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "0 arguments given"),
        (["no.json", "{checkpoint}", "resnet_v1_50", "{coco}"], "VALIDATION_JSON_FILE is not"),
        (["{json}", "no.ckpt", "resnet_v1_50", "{coco}"], "CHECKPOINT_PATH is not a file"),
        (["{json}", "{checkpoint}", "vgg", "{coco}"], "unknown BACKBONE 'vgg'"),
        (["{json}", "{checkpoint}", "resnet_v1_50", "no"], "COCO_ROOT is not a folder"),
    ],
)
def test_wrong_evaluation_arguments_start_nothing(bench, arguments, complaint):
    names = {"coco": bench.coco, "checkpoint": bench.checkpoint, "json": bench.annotations}
    call = bench.evaluate(*(a.format(**names) for a in arguments))
    assert call.code == 2
    (line,) = call.stderr.splitlines()
    script = bench.repo / "scripts/run_eval_cpu.sh"
    assert complaint in line and line.endswith(f"; see: bash {script} --help")
    assert call.record is None and list(bench.work.iterdir()) == []


@pytest.mark.parametrize(
    "script", ["run_standalone_train_cpu.sh", "run_eval_gpu.sh", "run_eval_onnx.sh"]
)
def test_help(bench, script):
    call = bench.run(script, "--help")
    assert (call.code, call.stderr) == (0, "")
    assert call.stdout.startswith(f"Usage: bash {script} [") and "BACKBONE" in call.stdout


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_after_the_arguments_starts_nothing(bench, word):
    call = bench.train("none", "resnet_v1_50", bench.coco, "--seed", "2", word)
    assert (call.code, call.stderr, call.record) == (0, "", None)
    assert call.stdout.startswith("Usage: ") and list(bench.work.iterdir()) == []


@pytest.mark.parametrize("code", [0, 1, 2, 3, 143])
def test_the_exit_code_is_the_runs(bench, code):
    call = bench.train("none", "resnet_v1_50", bench.coco, STAND_IN_EXIT=str(code))
    assert call.code == code
    assert ("finished" in call.stdout) == (code == 0)
    assert (f"exit code {code}" in call.stderr) == (code != 0)


def test_output_goes_to_terminal_and_log(bench):
    call = bench.train("none", "resnet_v1_50", bench.coco)
    assert (bench.work / "train/log.txt").read_text() == "to stdout\nto stderr\n"
    assert "to stdout\nto stderr\n" in call.stdout


def test_an_earlier_run_is_never_written_over(bench):
    folders = []
    for number in range(3):
        call = bench.train("none", "resnet_v1_50", bench.coco)
        folders.append(Path(call.options["--output_dir"]).name)
        (bench.work / folders[-1] / "mine.txt").write_text(str(number))
    assert folders == ["train", "train_1", "train_2"]
    assert [(bench.work / f / "mine.txt").read_text() for f in folders] == ["0", "1", "2"]


def test_resume_auto_goes_on_in_the_newest_run_folder(bench):
    lists = {"train": ["a-1_2.ckpt"], "train_1": ["a-1_2.ckpt", "a-2_2.ckpt"], "train_2": []}
    for folder, names in lists.items():
        (bench.work / folder / "ckpt_0").mkdir(parents=True)
        index = json.dumps({"checkpoints": names}, indent=1)
        (bench.work / folder / "ckpt_0/checkpoints.json").write_text(index)
    (bench.work / "train_3").mkdir()
    (bench.work / "train_1/log.txt").write_text("before\n")
    call = bench.train("none", "resnet_v1_50", bench.coco, "--resume", "auto")
    assert call.options["--output_dir"] == str(bench.work / "train_1")
    assert (bench.work / "train_1/log.txt").read_text() == "before\nto stdout\nto stderr\n"
    call = bench.train("none", "resnet_v1_50", bench.coco, "--resume", "x.ckpt")
    assert call.options["--output_dir"] == str(bench.work / "train_4")


def test_resume_auto_goes_by_the_checkpoints_whatever_numbers_are_missing(bench):
    for age, folder in enumerate(["train_1_copy", "train_12", "train_3", "train_5"]):
        listed = bench.work / folder / "ckpt_0/checkpoints.json"
        listed.parent.mkdir(parents=True)
        listed.write_text('{"checkpoints": ["a-1_2.ckpt"]}')
        os.utime(listed, (1000 - age, 1000 - age))
    call = bench.train("none", "resnet_v1_50", bench.coco, "--resume", "auto")
    assert call.options["--output_dir"] == str(bench.work / "train_12")
    call = bench.train("none", "resnet_v1_50", bench.coco)
    assert call.options["--output_dir"] == str(bench.work / "train")


def test_a_tilde_that_the_shell_left_alone(bench):
    call = bench.train("none", "resnet_v1_50", bench.coco, "--output_dir=~/runs/a")
    assert call.record["argv"][-1] == str(bench.root / "runs/a")  # HOME of these tests
    assert list(bench.work.iterdir()) == []


@pytest.mark.parametrize(
    "program, reader, code, end",
    [
        (
            "i=0\nwhile [ $i -lt 200 ]; do echo line $i; i=$((i + 1)); sleep 0.002; done",
            "| head -n 3",
            0,
            "line 199\n",
        ),
        ("sleep 0.3\necho a\nexit 3", "2>&1 | head -n 1", 3, "a\n"),
        ("echo a\nexit 3", "| true", 3, "a\n"),  # gone before the first line
    ],
)
def test_a_reader_that_goes_away_ends_neither_run_nor_log(bench, program, reader, code, end):
    command = bench.command("run_standalone_train_cpu.sh", "none", "resnet_v1_50", bench.coco)
    python = bench.root / "talkative"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f'"$@" {reader}; echo "${{PIPESTATUS[0]}}"', "bash", *command],
        cwd=bench.work,
        env={**bench.environment, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == str(code), done.stdout + done.stderr
    assert (bench.work / "train/log.txt").read_text().endswith(end)


@pytest.mark.parametrize("more", [[], ["mr"]], ids=["alone", "before MINDRECORD_DIR"])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_device_id_where_the_model_zoo_has_it(bench, kind, more):
    given = {
        "train": ("none", BACKBONES[0], bench.coco),
        "evaluate": (bench.annotations, bench.checkpoint, BACKBONES[0], bench.coco),
    }[kind]
    call = getattr(bench, kind)(*given, "03", *more, "--seed", "1", target="ascend")
    assert call.code == 0, call.stderr
    assert call.record["env"]["DEVICE_ID"] == "3"
    assert "note: '03' is taken as DEVICE_ID" in call.stderr
    assert call.options.get("--mindrecord_dir") == (str(bench.work / "mr") if more else None)
    assert not (bench.work / "03").exists()


def test_a_folder_with_a_number_for_its_name(bench):
    call = bench.train("none", BACKBONES[0], bench.coco, "./0")
    assert call.options["--mindrecord_dir"] == str(bench.work / "0")


@pytest.mark.parametrize("home", ["", "/", "here", None])
def test_without_a_home_nothing_goes_into_the_root_folder(bench, home):
    if home is None:
        del bench.environment["HOME"]
    settings = {} if home is None else {"HOME": home}
    given = ("none", BACKBONES[0], bench.coco)
    for more in (["--output_dir=~/runs"], ["~/mr"]):
        call = bench.train(*given, *more, **settings)
        assert call.code == 2 and call.record is None
        assert "HOME names no folder; give the whole path" in call.stderr
    assert bench.train(*given, **settings).code == 0


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_streams_that_cannot_be_written(bench, streams):
    command = bench.command("run_standalone_train_cpu.sh", "none", BACKBONES[0], bench.coco)
    shell = ["bash", "-c", f'exec "$@" {streams}', "bash", *command]
    done = subprocess.run(
        shell, cwd=bench.work, env={**bench.environment, "STAND_IN_EXIT": "7"}, timeout=60
    )
    assert done.returncode == 7
    assert (bench.work / "train/log.txt").read_text() == "to stdout\nto stderr\n"


def test_a_log_that_cannot_be_written_either(bench):
    (bench.work / "out").mkdir()
    (bench.work / "out/log.txt").symlink_to("/dev/full")
    given = ("none", BACKBONES[0], bench.coco, "--output_dir", "out")
    command = bench.command("run_standalone_train_cpu.sh", *given)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=bench.work, env=bench.environment, stdout=full, stderr=full, timeout=60
        )
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["-a", "a 'b\"c", "line\nbreak", "$(touch x);*"])
def test_odd_names(bench, name):
    coco = bench.work / name
    coco.mkdir()
    given = f"./{name}" if name[0] == "-" else name
    call = bench.train("none", BACKBONES[0], given, "--output_dir", given)
    assert call.code == 0, call.stderr
    assert call.options["--coco_root"] == call.options["--output_dir"] == str(coco)
    assert {p.name for p in bench.work.iterdir()} == {name}


def test_resume_auto_without_a_checkpoint_begins_a_new_folder(bench):
    (bench.work / "train/ckpt_0").mkdir(parents=True)
    (bench.work / "train/ckpt_0/checkpoints.json").write_text('{"checkpoints": []}')
    call = bench.train("none", "resnet_v1_50", bench.coco, "--resume=auto")
    assert Path(call.record["argv"][-1]) == bench.work / "train_1"


@pytest.mark.parametrize("options", [[], ["--output_dir", "train"]])
def test_a_refused_run_leaves_no_folder(bench, options):
    call = bench.train("none", "resnet_v1_50", bench.coco, *options, STAND_IN_EXIT="2")
    assert call.code == 2 and "to stderr" in call.stdout
    assert "log.txt" not in call.stderr and list(bench.work.iterdir()) == []
    call = bench.train("none", "resnet_v1_50", bench.coco, *options, STAND_IN_EXIT="1")
    assert call.code == 1 and (bench.work / "train/log.txt").is_file()


def test_a_refused_run_leaves_what_others_made(bench):
    arguments = ("none", "resnet_v1_50", bench.coco, "--output_dir", "mine")
    (bench.work / "mine").mkdir()
    assert bench.train(*arguments, STAND_IN_EXIT="2").code == 2
    assert (bench.work / "mine/log.txt").is_file()
    call = bench.train(*arguments[:3], STAND_IN_EXIT="2", STAND_IN_LEAVES=".result")
    assert call.code == 2
    assert {p.name for p in (bench.work / "train").iterdir()} == {"log.txt", ".result"}


def test_environment_of_a_single_device_run(bench):
    arguments = ("none", "resnet_v1_50", bench.coco)
    environment = bench.train(*arguments, RANK_SIZE="8", RANK_ID="3").record["env"]
    assert (environment["RANK_SIZE"], environment["RANK_ID"]) == ("1", "0")
    assert "DEVICE_ID" not in environment
    assert bench.train(*arguments, DEVICE_ID="5").record["env"]["DEVICE_ID"] == "5"
    call = bench.train(*arguments, DEVICE_ID="five")
    assert call.code == 2 and "DEVICE_ID" in call.stderr and call.record is None


def test_python_can_be_chosen(bench):
    chosen = bench.root / "my python"
    chosen.write_text("#!/bin/sh\nexit 17\n")
    chosen.chmod(0o755)
    arguments = ("none", "resnet_v1_50", bench.coco)
    assert bench.train(*arguments, PYTHON=str(chosen)).code == 17
    call = bench.train(*arguments, PYTHON="no-such-python")
    assert call.code == 2 and "PYTHON='no-such-python'" in call.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the script", "as a terminal does"])
def test_a_signal_reaches_the_run_which_may_finish(bench, number, send):
    started = bench.root / "started"
    process = subprocess.Popen(
        bench.command("run_standalone_train_cpu.sh", "none", "resnet_v1_50", bench.coco),
        cwd=bench.work,
        env={**bench.environment, "STAND_IN_WAIT": str(started)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not started.exists():
        assert time.monotonic() < deadline, "the stand-in did not start"
        time.sleep(0.02)
    send(process.pid, number)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 40 + number
    assert f"saved after signal {int(number)}" in stdout
    assert f"saved after signal {int(number)}" in (bench.work / "train/log.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", ["building", "inferring"])
def test_a_signal_ends_the_running_step_of_the_310_script(bench, number, step):
    """With stand-ins for cmake and for the program, which would hold the device."""
    build = bench.root / "build"
    build.mkdir()
    (bench.root / "m.mindir").write_text("")
    (bench.root / "m.mindir.json").write_text("{}")
    stays = f"#!/bin/sh\necho $$ > '{build}/pid'\nexec sleep 30\n"
    (bench.root / "bin/cmake").write_text(stays if step == "building" else "#!/bin/sh\n")
    (build / "main").write_text(stays)
    for path in (bench.root / "bin/cmake", build / "main"):
        path.chmod(0o755)
    arguments = (bench.root / "m.mindir", bench.coco, bench.annotations)
    process = subprocess.Popen(
        bench.command("run_infer_310.sh", *arguments),
        cwd=bench.work,
        start_new_session=True,
        env={**bench.environment, "INFER_BUILD_DIR": str(build)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not (build / "pid").exists() or not (build / "pid").read_text():
        assert time.monotonic() < deadline, "the program was not started"
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    while True:  # a process whose parent was stopped too may be there a moment longer
        try:
            os.kill(int((build / "pid").read_text()), 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "the step goes on"
        time.sleep(0.05)
