# SPDX-License-Identifier: Apache-2.0
"""ModelArts: what happens around a script, and whole runs with an S3 server on loopback."""

import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from src.base.errors import UserError
from src.model_utils import moxing_adapter
from src.model_utils.config import load_config
from src.model_utils.moxing_adapter import modelarts
from src.storage import object_store, transfer
from tests.helpers.paths import REPO
from tests.helpers.tiny_run import CLASS_NAMES, arguments, make_data

# ------------------------------------------------------------------ around a script


def settings(tmp_path, **changes):
    values = {
        "enable_modelarts": True,
        "data_path": tmp_path / "cache" / "data",
        "output_path": tmp_path / "cache" / "out",
        "load_path": tmp_path / "cache" / "load",
        "coco_classes": ",".join(CLASS_NAMES),
        **changes,
    }
    return load_config([part for k, v in values.items() for part in (f"--{k}", str(v))])


def test_nothing_happens_without_the_key(tmp_path):
    config = load_config(["--data_url", "s3://nowhere/x"])
    with modelarts(config) as outputs:
        assert outputs.config is config
        outputs.after_epoch(1)
        outputs.upload()


def source_folder(tmp_path, *names):
    """A mounted folder in the place of a bucket."""
    folder = tmp_path / "mounted"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_keys_that_follow(tmp_path):
    data = source_folder(tmp_path, "coco/annotations/a.json", "coco/train2017/1.jpg")
    models = tmp_path / "models"
    (models / "deep").mkdir(parents=True)
    (models / "deep/a.ckpt").write_text("a")
    config = settings(
        tmp_path,
        data_url=data,
        checkpoint_url=models,
        train_url=tmp_path / "results",
        mindrecord_dir="mr",
        anno_path="coco/annotations/a.json",
        checkpoint="./deep/a.ckpt",
    )
    with modelarts(config, "pre_trained") as outputs:
        c = outputs.config
        cache = tmp_path / "cache"
        assert c.coco_root == str(cache / "data/coco") and c.output_dir == str(cache / "out")
        assert c.mindrecord_dir == str(cache / "data/mr")
        assert c.anno_path == str(cache / "data/coco/annotations/a.json")
        assert c.checkpoint_path == c.pre_trained == str(cache / "load/deep/a.ckpt")
        Path(c.output_dir, "loss_0.log").write_text("1")
        outputs.after_epoch(1)
        assert (tmp_path / "results/loss_0.log").read_text() == "1"
        Path(c.output_dir, ".half").write_text("2")
        Path(c.output_dir, "loss_0.log").write_text("12")
    assert (tmp_path / "results/loss_0.log").read_text() == "12"
    assert not (tmp_path / "results/.half").exists()


@pytest.mark.parametrize(
    "files, place",
    [(["set/data.yaml", "set/images/1.jpg"], "data/set"), (["data.yaml", "images/1.jpg"], "data")],
)
def test_data_of_other_formats(tmp_path, files, place):
    data = source_folder(tmp_path, *files, "other/readme.txt" if place == "data" else files[0])
    with modelarts(settings(tmp_path, data_url=data, dataset="yolo")) as outputs:
        assert outputs.config.coco_root == str(tmp_path / "cache" / place)


def test_the_upload_interval_and_a_run_that_fails(tmp_path, monkeypatch, capsys):
    config = settings(tmp_path, train_url=tmp_path / "results", upload_interval=2)
    result = tmp_path / "results/a.ckpt"
    with pytest.raises(MemoryError), modelarts(config) as outputs:
        Path(outputs.config.output_dir, "a.ckpt").write_text("1")
        outputs.after_epoch(1)
        assert not result.exists()
        outputs.after_epoch(2)
        assert result.read_text() == "1"
        Path(outputs.config.output_dir, "a.ckpt").write_text("22")
        raise MemoryError
    assert result.read_text() == "22"

    def broken(self, names=None):
        raise UserError("the line is broken")

    monkeypatch.setattr(transfer.Uploader, "upload", broken)
    with pytest.raises(UserError, match="the line is broken"), modelarts(config) as outputs:
        outputs.after_epoch(2)  # said, and the run goes on
        assert "warning: the line is broken" in capsys.readouterr().err


def test_only_the_first_process_uploads_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK_ID", "1")
    monkeypatch.setenv("RANK_SIZE", "2")
    with modelarts(settings(tmp_path, train_url=tmp_path / "results")) as outputs:
        for name in ("loss_0.log", "loss_1.log", "a.ckpt"):
            Path(outputs.config.output_dir, name).write_text(name)
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["loss_1.log"]


def test_eight_processes_upload_their_logs_and_the_rest_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK_SIZE", "8")
    config = settings(tmp_path, train_url=tmp_path / "results", distribute=True)
    for rank in reversed(range(8)):
        monkeypatch.setenv("RANK_ID", str(rank))
        with modelarts(config) as outputs:
            for name in (f"loss_{rank}.log", "a.ckpt"):
                Path(outputs.config.output_dir, name).write_text(name)
        assert (tmp_path / "results/a.ckpt").exists() == (rank == 0)
    expected = {"a.ckpt", *(f"loss_{rank}.log" for rank in range(8))}
    assert {path.name for path in (tmp_path / "results").iterdir()} == expected


def test_export_takes_the_checkpoint_and_hands_back_the_model(tmp_path, monkeypatch, capsys):
    """export.py whole, with a small network."""
    from src.checkpoints.file import describe_model, save_checkpoint
    from src.commands import export
    from tests.helpers.stand_ins import SmallDetector, stand_in_config

    monkeypatch.setattr("src.detector.build_detector", lambda config: SmallDetector())
    (tmp_path / "models").mkdir()
    meta = describe_model(stand_in_config(64, 96))
    save_checkpoint(tmp_path / "models/small.ckpt", SmallDetector(seed=4), meta=meta)
    values = {
        "enable_modelarts": True,
        "checkpoint_url": tmp_path / "models",
        "train_url": tmp_path / "results",
        "load_path": tmp_path / "cache/load",
        "output_path": tmp_path / "cache/out",
        "file_name": "small",
        "file_format": "MINDIR",
        "img_height": 64,
        "img_width": 96,
        "device_target": "CPU",
        "coco_classes": ",".join(CLASS_NAMES),
        "test_batch_size": 1,
    }
    assert export.main([f"--{key}={value}" for key, value in values.items()]) == 0
    assert "checked: equal to the network" in capsys.readouterr().out
    found = {path.name for path in (tmp_path / "results").iterdir()}
    assert found == {"small.mindir", "small.mindir.json"}


def test_a_process_that_fails_uploads_everything_new(tmp_path, monkeypatch):
    """The first process may be stuck, and is killed soon."""
    monkeypatch.setenv("RANK_ID", "1")
    monkeypatch.setenv("RANK_SIZE", "2")
    results = tmp_path / "results"
    results.mkdir()
    (results / "old.ckpt").write_text("old")
    config = settings(tmp_path, train_url=results, resume="auto")
    with pytest.raises(MemoryError), modelarts(config) as outputs:
        for name in ("loss_0.log", "loss_1.log", "a.ckpt"):
            Path(outputs.config.output_dir, name).write_text(name)
        (results / "old.ckpt").write_text("newer, by the first process")
        raise MemoryError
    assert {p.name for p in results.iterdir()} == {"loss_0.log", "loss_1.log", "a.ckpt", "old.ckpt"}
    assert (results / "old.ckpt").read_text() == "newer, by the first process"


@pytest.mark.parametrize("role", ["MS_SCHED", "MS_WORKER"])
@pytest.mark.parametrize("limit, expected", [("100", "131"), ("", "631")])
def test_msrun_waits_for_the_copying(tmp_path, monkeypatch, role, limit, expected):
    monkeypatch.setenv("MS_TOPO_TIMEOUT", limit)
    monkeypatch.setenv("MS_ROLE", role)
    with modelarts(settings(tmp_path, transfer_timeout=30.5)):
        assert os.environ["MS_TOPO_TIMEOUT"] == expected
    monkeypatch.setenv("MS_TOPO_TIMEOUT", limit)
    with modelarts(load_config([])):
        assert os.environ["MS_TOPO_TIMEOUT"] == limit


def test_earlier_results_come_back_for_resume(tmp_path):
    (tmp_path / "results/ckpt_0").mkdir(parents=True)
    (tmp_path / "results/ckpt_0/a.ckpt").write_text("old")
    config = settings(tmp_path, train_url=tmp_path / "results", resume="auto")
    with modelarts(config) as outputs:
        assert Path(outputs.config.output_dir, "ckpt_0/a.ckpt").read_text() == "old"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data_url": "{empty}"}, "data_url: .* holds nothing"),
        ({"data_url": "{data}"}, "has 0 folders with annotations in it; .* coco_root"),
        ({"checkpoint_url": "{data}"}, "holds 0 checkpoints; name the right one"),
        ({"data_path": "{data}/x.txt", "data_url": "{data}"}, "cannot make .*; set data_path to"),
    ],
)
def test_what_is_not_there(tmp_path, changes, message):
    data = source_folder(tmp_path, "x.txt")
    (tmp_path / "empty").mkdir()
    changes = {k: v.format(data=data, empty=tmp_path / "empty") for k, v in changes.items()}
    with (
        pytest.raises(UserError, match=message),
        modelarts(settings(tmp_path, **changes), "pre_trained"),
    ):
        raise AssertionError


def test_processes_of_a_server_copy_once(tmp_path, monkeypatch, capfd):
    data = source_folder(tmp_path, *(f"annotations/{i}" for i in range(20)))
    real, copied = object_store.FolderStore.get, []

    def slow(self, name, path):
        copied.append(name)
        time.sleep(0.02)
        real(self, name, path)

    monkeypatch.setattr(object_store.FolderStore, "get", slow)
    config = settings(tmp_path, data_url=data)
    threads = [threading.Thread(target=moxing_adapter._fetch, args=(config, "")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copied) == 20 and capfd.readouterr().out.count("copied 20 files") == 1
    slow_config = settings(tmp_path, data_url=data, transfer_timeout=0.3)
    with (
        moxing_adapter.exclusive(str(tmp_path / "cache/data/data_url"), time.time(), 1.0),
        pytest.raises(UserError, match="waited 0.3 s .* raise transfer_timeout"),
    ):
        moxing_adapter._fetch(slow_config, "")


# ------------------------------------------------------------------ whole runs


def zipped(path, folder, *more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"coco/{file.relative_to(folder)}")
        for name, content in more:
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def coco_zip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    return zipped(folder / "coco.zip", make_data(folder / "data"))


def train(server, tmp_path, processes=1, script="train", **changes):
    """Run the tiny detector's train.py or eval.py inside `modelarts`, as a job would."""
    cache = tmp_path / "cache"
    argv = arguments(tmp_path, tmp_path / "unused", epoch_size=2, batch_size=1)
    dropped = ("--coco_root", "--mindrecord_dir")
    pairs = list(zip(argv[::2], argv[1::2], strict=True))
    argv = [part for pair in pairs if pair[0] not in dropped for part in pair]
    values = {
        "enable_modelarts": True,
        "dataset_path": cache / "data",
        "output_path": cache / "out",
        "load_path": cache / "load",
        **changes,
    }
    argv += [f"--{key}={value}" for key, value in values.items()]
    program = tmp_path / "job.py"
    program.write_text(
        "from src.model_utils import device_adapter\n"
        "prepare = device_adapter.prepare_environment\n"
        "def both(target):\n    prepare(target)\n"
        "    from tests.helpers.tiny_run import use_tiny_detector\n    use_tiny_detector()\n"
        "device_adapter.prepare_environment = both\n"
        f"import {script}\nfrom src.base.errors import run_entry\nrun_entry({script}.main)\n"
    )
    command = [sys.executable, str(program), *argv]
    if processes > 1:
        launch = ["-m", "src.processes.launch", "msrun", str(tmp_path)]
        launch += ["--processes", str(processes), "--"]
        command = [sys.executable, *launch, *command]
    environment = {
        **os.environ,
        **server.environment,
        "PYTHONPATH": str(REPO),
        "OMP_NUM_THREADS": "1",
        "LEAVE_SECONDS": "0.5",
    }
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400
    )


def _printed(tmp_path, done):
    """What all processes have printed: the launcher shows the first one's output."""
    logs = sorted(tmp_path.glob("train_parallel*/log.txt"))
    return "".join(log.read_text() for log in logs) or done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_round_trip(s3, tmp_path, coco_zip, processes):
    place = f"job{processes}"
    s3.put(f"{place}/in/coco.zip", coco_zip.read_bytes())
    s3.fail_every(3)
    done = train(
        s3,
        tmp_path,
        processes,
        data_url=f"obs://bucket/{place}/in/",
        train_url=f"s3://bucket/{place}/out",
        distribute=processes > 1,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert s3.fail_every(0)[1] > 5
    steps = 10 // processes
    expected = {
        "config.yaml",
        "ckpt_0/checkpoints.json",
        *(f"ckpt_0/faster_rcnn-{epoch}_{steps}.ckpt" for epoch in (1, 2)),
        *(f"loss_{rank}.log" for rank in range(processes)),
        *("environment.json", "metrics.jsonl", "metrics.csv", "evaluations.csv"),
    }
    out = tmp_path / "cache" / "out"
    there = s3.keys(f"{place}/out/")
    assert set(there) - {"log.txt"} == expected  # a launcher has its own
    assert all(there[name] == (out / name).stat().st_size for name in expected)
    assert _printed(tmp_path, done).count("unpacked 17 files") == 1
    if processes > 1:
        return
    checkpoint = {
        "checkpoint_url": f"s3://bucket/{place}/out",
        "checkpoint": "ckpt_0/faster_rcnn-2_10.ckpt",
    }
    done = train(
        s3,
        tmp_path / "cache",
        script="eval",
        data_url=f"obs://bucket/{place}/in/",
        train_url=f"s3://bucket/{place}/eval",
        **checkpoint,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(s3.keys(f"{place}/eval/")) == {"results.json", "eval_config.yaml"}


@pytest.mark.slow
def test_a_zip_that_leads_outside(s3, tmp_path, coco_zip):
    bad = zipped(tmp_path / "bad.zip", tmp_path / "nothing", ("../../evil.txt", "x"))
    s3.put("bad/in/coco.zip", bad.read_bytes())
    done = train(s3, tmp_path, data_url="s3://bucket/bad/in", train_url="s3://bucket/bad/out")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "'../../evil.txt' leads outside the folder" in line
    assert not list(tmp_path.rglob("evil.txt")) and s3.keys("bad/out/") == {}


@pytest.mark.slow
def test_records_without_their_images(s3, tmp_path, coco_zip):
    """What the instructions recommend: only the converted data is zipped, and the annotations."""
    first = tmp_path / "first"
    first.mkdir()
    s3.put("rec/coco.zip", coco_zip.read_bytes())
    done = train(s3, first, data_url="s3://bucket/rec", epoch_size=1)
    assert done.returncode == 0, done.stdout + done.stderr
    data = first / "cache" / "data" / "coco"
    small = tmp_path / "records.zip"
    with zipfile.ZipFile(small, "w") as archive:
        for folder in ("annotations", "MindRecord_COCO"):
            for file in (data / folder).rglob("*"):
                archive.write(file, str(file.relative_to(data)))
    s3.put("records/records.zip", small.read_bytes())
    second = tmp_path / "second"
    second.mkdir()
    done = train(s3, second, data_url="s3://bucket/records", epoch_size=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": converting" not in done.stdout
    name = "cache/out/loss_0.log"
    assert (second / name).read_text() == (first / name).read_text()


@pytest.mark.slow
def test_a_run_that_diverges_hands_back_what_it_has(s3, tmp_path, coco_zip):
    s3.put("div/coco.zip", coco_zip.read_bytes())
    done = train(
        s3,
        tmp_path,
        data_url="s3://bucket/div",
        train_url="s3://bucket/div-out",
        base_lr=1e30,
        warmup_step=0,
        grad_clip=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert {"config.yaml", "loss_0.log"} <= set(s3.keys("div-out/"))
