# SPDX-License-Identifier: Apache-2.0
"""Training in two processes: equal to one with their batches together, stopped, killed, resumed."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from src.base.errors import UserError
from src.checkpoints.file import read_checkpoint
from src.evaluation.run import run_evaluation
from src.model_utils.config import load_config
from src.model_utils.moxing_adapter import modelarts
from src.processes.life_signs import LifeSigns
from src.processes.ranks import Ranks
from src.run_record.reading import read_environment, read_record
from src.training.loop import run_training
from src.training.resume import Position, position_of
from tests.helpers import rank_run
from tests.helpers.checkpoint_files import arrays_of
from tests.helpers.paths import REPO, importing
from tests.helpers.recipe import make_weight
from tests.helpers.tiny_run import NUM_TRAIN, arguments, make_data, use_tiny_detector
from tests.helpers.tiny_training import assemble_tiny

pytestmark = pytest.mark.skipif(
    not Path(sys.executable).with_name("msrun").exists(), reason="msrun is not beside this Python"
)


def test_alone_nothing_is_exchanged():
    ranks = Ranks()
    assert ranks.all_reduce([1, 2.5]).tolist() == [1.0, 2.5]
    assert ranks.broadcast({"a": 1}) == {"a": 1} and ranks.all_gather("x") == ["x"]
    parameter = Parameter(Tensor([1.0, 2.0], ms.float32))
    ranks.broadcast_parameters([parameter])
    ranks.average([parameter])
    assert parameter.asnumpy().tolist() == [1.0, 2.0]


META = {
    "batch_size": 2,
    "world_size": 4,
    "steps_per_epoch": 12,
    "epoch": 3,
    "step_in_epoch": 5,
    "global_step": 29,
}


@pytest.mark.parametrize(
    "changes, run, position",
    [
        ({}, (2, 4, 12), Position(3, 5, 29)),
        ({}, (8, 1, 12), Position(3, 5, 29)),  # the same global batch
        ({}, (2, 1, 50), Position(3, 20, 120, [[8, 5]])),
        ({"epoch_parts": [[4, 2]]}, (2, 1, 50), Position(3, 20, 120, [[4, 2], [8, 5]])),
        ({"epoch_parts": [[4, 2]]}, (4, 2, 12), Position(3, 5, 29, [[4, 2]])),
        (
            {},
            (2, 8, 6),
            Position(3, 3, 15, [[8, 5]]),
        ),  # 40 images are 2.5 steps of 16: none is seen twice
        ({"step_in_epoch": 12}, (2, 3, 16), Position(3, 16, 48)),
        ({"step_in_epoch": 0}, (2, 3, 16), Position(3, 0, 32)),
    ],
)
def test_positions_on_another_number_of_ranks(changes, run, position):
    batch_size, world_size, steps = run
    settings = {"batch_size": batch_size, "world_size": world_size, "steps": steps, "epochs": 9}
    assert position_of(Path("a.ckpt"), {**META, **changes}, **settings) == position


@pytest.mark.parametrize(
    "run, message",
    [
        ((3, 4, 8), "had batch_size 2"),
        ((2, 4, 11), "had steps_per_epoch 12"),
        ((4, 4, 6), "had batch_size 2, this one has 4; .*number of processes may change"),
    ],
)
def test_steps_that_do_not_mean_the_same(run, message):
    batch_size, world_size, steps = run
    settings = {"batch_size": batch_size, "world_size": world_size, "steps": steps, "epochs": 9}
    with pytest.raises(UserError, match=message):
        position_of(Path("a.ckpt"), META, **settings)


def test_a_rank_does_not_wait_without_end():
    program = (
        "import sys, time\n"
        "from src.processes.ranks import Ranks\nranks = Ranks(1, 1)\nranks.world_size = 2\n"
        "with ranks.watch(0.6):\n    time.sleep(0.3)\n"
        "time.sleep(0.7)\nprint('not yet', flush=True)\n"
        "def last_words():\n    print('last words', flush=True)\n    raise OSError\n"
        "with ranks.watch(0.6, last_words):\n    time.sleep(20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=importing()
    )
    assert (done.returncode, done.stdout) == (4, "not yet\nlast words\n")
    assert "error: rank 1 has not heard of the other ranks for 0.6 s" in done.stderr


def test_a_rank_that_waits_in_vain_says_for_whom(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from src.processes.life_signs import LifeSigns\nfrom src.processes.ranks import Ranks\n"
        f"ranks = Ranks(1, 1)\nranks.world_size, ranks.folder = 4, Path({str(tmp_path)!r})\n"
        "other, late = (LifeSigns(ranks.folder, rank, 4) for rank in (2, 3))\n"
        "late.give()\n"
        "with ranks.watch(0.8):\n    while True:\n        other.give()\n        time.sleep(0.02)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=importing()
    )
    assert done.returncode == 4
    assert "0.8 s (rank_timeout) and leaves; rank 0, 3 gives no sign of life; look" in done.stderr


def test_signs_of_life_are_gone_after_the_wait(tmp_path):
    signs = LifeSigns(tmp_path, 1, 2)
    assert signs.missing(1) == []
    signs.give()
    assert signs.missing(1) == [0]
    signs.end()
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_leaves_hands_back_what_it_has(tmp_path, monkeypatch):
    """As `_look` would: what `run_training` gives it to do is called as soon as it is known."""
    config = load_config(
        [
            "--enable_modelarts",
            "True",
            "--output_path",
            str(tmp_path / "out"),
            "--train_url",
            str(tmp_path / "results"),
        ]
    )
    monkeypatch.setenv("RANK_ID", "1")
    monkeypatch.setenv("RANK_SIZE", "2")

    def assemble(config):
        def watch(limit, last_words):
            Path(config.output_dir, "a.ckpt").write_text("a")
            last_words()
            assert (tmp_path / "results" / "a.ckpt").read_text() == "a"
            raise InterruptedError

        return SimpleNamespace(ranks=SimpleNamespace(rank=1, watch=watch))

    with modelarts(config) as outputs, pytest.raises(InterruptedError):
        run_training(outputs.config, outputs, assemble=assemble)


# ------------------------------------------------------------------ two processes


def start(output, processes, argv, code=0, **environment):
    """Start a run that ends with `code`; one process without the launcher.

    A variable that is None is not set.
    """
    output.mkdir(exist_ok=True)
    command = [sys.executable, rank_run.__file__, *argv]
    if processes > 1:
        launch = ["-m", "src.processes.launch", "msrun", str(output)]
        launch += ["--processes", str(processes), "--"]
        command = [sys.executable, *launch, *command]
    env = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(REPO), **environment}
    # As long a run that ends well waits for msrun's scheduler, which then is ended.
    env["LEAVE_SECONDS"] = "0.5" if code == 0 else "4"
    env = {name: value for name, value in env.items() if value is not None}
    return subprocess.Popen(
        command, env=env, cwd=output, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(output, processes, argv, code=0, **environment):
    process = start(output, processes, argv, code, **environment)
    text = process.communicate(timeout=400)[0]
    assert process.returncode == code, text
    return text


def run_tiny_alone(output, argv):
    """Train the tiny detector in this process, which has MindSpore already; what was printed."""
    output.mkdir(exist_ok=True)
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        assert rank_run.train(load_config(argv), assemble_tiny) == 0, text.getvalue()
    return text.getvalue()


def steps_of(output, rank=0):
    return json.loads((output / f"steps_{rank}.json").read_text())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tiny_two(root, tmp_path_factory):
    """A whole run of the tiny detector in two processes, with evaluation."""
    output = tmp_path_factory.mktemp("two ranks")
    text = run(output, 2, tiny_arguments(root, output, eval_interval=3), TINY="1")
    return output, text


def tiny_arguments(root, output, **changes):
    settings = {"batch_size": 1, "log_interval": 1, "norm": "bn", **changes}
    return arguments(root, output, **settings)


@pytest.mark.slow
def test_a_run_in_two_processes(root, tiny_two):
    output, text = tiny_two
    assert "scaled to 2 (1 on each of 2 devices)" in text
    assert sorted(p.name for p in output.glob("loss_*.log")) == ["loss_0.log", "loss_1.log"]
    assert (output / "loss_1.log").read_text() != (output / "loss_0.log").read_text()
    for epoch in (1, 2, 3):
        seen = [
            image
            for r in (0, 1)
            for e, _, _, _, ids in steps_of(output, r)
            if e == epoch
            for image in ids
        ]
        assert sorted(seen) == [100 + 3 * i for i in range(NUM_TRAIN)]
    first, second = ([step[3] for step in steps_of(output, r)] for r in (0, 1))
    assert first == second  # the norm of the gradients' mean, on each rank
    assert "evaluation after epoch 3" in text and "best so far, ap" in text
    assert not (output / "ckpt_1").exists()
    # One record, of both: means of their losses, and their images.
    record = read_record(output)
    logs = [(output / f"loss_{rank}.log").read_text().splitlines() for rank in (0, 1)]
    means = [sum(float(line.split()[-1]) for line in pair) / 2 for pair in zip(*logs, strict=True)]
    assert [row["total_loss"] for row in record.training] == pytest.approx(means, abs=2e-5)
    assert [row["images"] for row in record.training] == [2, 4, 6, 8, 10] * 3
    assert [row["epoch"] for row in record.evaluations] == [3]
    assert record.environment["processes"] == 2


@pytest.mark.slow
def test_a_sharded_evaluation_is_that_of_one_process(root, tiny_two, tmp_path, monkeypatch, capfd):
    output, _ = tiny_two
    checkpoint = output / "ckpt_0" / "faster_rcnn-3_5.ckpt"
    script = tmp_path / "evaluate.py"
    script.write_text(
        "import sys\nfrom tests.helpers.tiny_run import load_config, use_tiny_detector\n"
        "use_tiny_detector()\n"
        "from src.evaluation.run import run_evaluation\n"
        "sys.exit(run_evaluation(load_config(sys.argv[1:])))\n"
    )
    use_tiny_detector(monkeypatch.setattr)
    results = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        argv = tiny_arguments(root, folder, checkpoint_path=checkpoint, test_score_thr=0)
        if processes == 1:
            assert run_evaluation(load_config(argv)) == 0
            printed = capfd.readouterr().out
        else:
            launch = ["-m", "src.processes.launch", "msrun", str(folder), "--processes", "2", "--"]
            command = [sys.executable, *launch, sys.executable, str(script), *argv]
            env = importing(OMP_NUM_THREADS="1", LEAVE_SECONDS="0.5")
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stdout + done.stderr
            printed = done.stdout
        results[processes] = json.loads((folder / "results.json").read_text())
        assert "5 images, 25 detections" in printed
    assert [r["image_id"] for r in results[1]] == [r["image_id"] for r in results[2]]
    for one, two in zip(results[1], results[2], strict=True):
        assert one["category_id"] == two["category_id"]
        np.testing.assert_allclose(one["bbox"], two["bbox"], atol=1e-3)
        assert one["score"] == pytest.approx(two["score"], abs=1e-5)


@pytest.mark.slow
def test_stopped_and_resumed_in_two_processes(root, tiny_two, tmp_path):
    """One rank is told to stop; both leave after the same step, and go on as if nothing was: with
    the graphs that the first run has compiled."""
    whole, _ = tiny_two
    cached = {"compile_cache": tmp_path / "graphs"}
    usual = {"TINY": "1", "MS_COMPILER_CACHE_ENABLE": None}
    argv = tiny_arguments(root, tmp_path, **cached)
    text = run(tmp_path, 2, argv, 143, STOP_AT="1 2 3", **usual)
    assert "stopped after epoch 2 step 3" in text
    assert [len(steps_of(tmp_path, r)) for r in (0, 1)] == [8, 8]
    graphs = {path: path.read_bytes() for path in (tmp_path / "graphs").glob("*.graph")}
    assert len(graphs) == 4  # two of each rank: gradients, and update
    # Saved after every step, as the first one's clock says: that changes nothing either.
    often = tiny_arguments(root, tmp_path, **cached, resume="auto", save_checkpoint_minutes=1e-7)
    run(tmp_path, 2, often, **usual)
    again = {path: path.read_bytes() for path in (tmp_path / "graphs").glob("*.graph")}
    assert again == graphs
    for rank in (0, 1):
        name = f"loss_{rank}.log"
        assert (tmp_path / name).read_text() == (whole / name).read_text()
    expected = arrays_of(whole, "faster_rcnn-3_5.ckpt")
    for name, array in arrays_of(tmp_path, "faster_rcnn-3_5.ckpt").items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)

    # ... and by one process with the same batches: one epoch more.
    more = tiny_arguments(root, tmp_path, resume="auto", epoch_size=4)
    text = run_tiny_alone(tmp_path, more)
    assert "its run had 2 processes, this one has 1: that is epoch 3 step 10 here" in text
    assert (tmp_path / "ckpt_0" / "faster_rcnn-4_10.ckpt").is_file()
    assert len(steps_of(tmp_path)) == 10
    places = [(row["epoch"], row["images"]) for row in read_record(tmp_path).training]
    assert places == [(e, i) for e in (1, 2, 3) for i in range(2, 11, 2)] + [
        (4, images) for images in range(1, 11)
    ]
    starts = read_environment(tmp_path)
    assert [start["processes"] for start in (*starts["earlier"], starts)] == [2, 2, 1]


@pytest.mark.slow
def test_canvases_in_two_processes(tmp_path):
    """The same images a step as one process has; then one goes on, and sees none again."""
    root = make_data(tmp_path / "data", portraits=4)
    canvases = {"canvases": "[64x96, 96x64]", "epoch_size": 1}
    one = tiny_arguments(root, tmp_path / "one", **canvases, batch_size=2)
    run_tiny_alone(tmp_path / "one", one)
    two = tiny_arguments(root, tmp_path / "two", **canvases)
    run(tmp_path / "two", 2, two, 143, TINY="1", STOP_AT="0 1 3")
    ranks = [steps_of(tmp_path / "two", rank) for rank in (0, 1)]
    seen = [[i for _, _, _, _, ids in step for i in ids] for step in zip(*ranks, strict=True)]
    assert seen == [ids for _, _, _, _, ids in steps_of(tmp_path / "one")[:3]]
    text = run_tiny_alone(tmp_path / "two", [*two, "--resume", "auto"])
    assert "that is epoch 1 step 6 here" in text
    rest = [ids for _, _, _, _, ids in steps_of(tmp_path / "two")]
    assert sorted(sum(seen + rest, [])) == [100 + 3 * i for i in range(NUM_TRAIN)]


@pytest.mark.slow
def test_two_processes_with_two_batches_each_are_one_with_four(root, tmp_path):
    """AdamW, the average of the weights, clipping: as if there was one process."""
    recipe = {"optimizer": "adamw", "base_lr": 0.08, "ema": 0.9, "epoch_size": 2}
    recipe |= {"grad_clip": True, "clip_norm": 0.5, "no_weight_decay": "[norms, biases]"}
    outputs = {}
    for processes, batches in ((2, 2), (1, 4)):
        output = outputs[processes] = tmp_path / str(processes)
        argv = tiny_arguments(root, output, accumulate_steps=batches, **recipe)
        if processes == 1:
            run_tiny_alone(output, argv)
        else:
            run(output, processes, argv, TINY="1")
    ranks = [steps_of(outputs[2], rank) for rank in (0, 1)]
    whole = steps_of(outputs[1])
    assert len(whole) == 4  # updates, of 10 images in each epoch
    for first, second, both in zip(*ranks, whole, strict=True):
        assert sorted(first[4] + second[4]) == sorted(both[4])
        assert first[3] == second[3]  # equal weights on both
        np.testing.assert_allclose(first[3], both[3], rtol=1e-4)
        mean = (np.array(first[2]) + np.array(second[2])) / 2
        np.testing.assert_allclose(mean, both[2], rtol=1e-4)
    one, two = (arrays_of(outputs[n], "faster_rcnn-2_2.ckpt") for n in (1, 2))
    assert one.keys() == two.keys() and "in_training.rcnn.shared_fc_0.weight" in one
    for name, array in one.items():
        if "moving" not in name:  # which each process takes of its own batches
            np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_killed_rank_ends_the_run(root, tmp_path):
    started = time.monotonic()
    process = start(tmp_path, 2, tiny_arguments(root, tmp_path), 137, TINY="1", DIE_AT="1 2 1")
    text = process.communicate(timeout=200)[0]
    died = json.loads((tmp_path / "train_parallel1" / "process.json").read_text())["ended"]
    assert time.time() - died < 30 and time.monotonic() - started < 200
    assert process.returncode == 137
    assert f"rank 1 ended with exit code 137; the end of {tmp_path}/train_parallel1/log.txt" in text


# ------------------------------------------------------------------ the real network


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Data and the arguments for it: 80 classes at 256x320 where coco128 is, else small."""
    base = os.environ.get("FASTERRCNN_TEST_DATA")
    coco128 = (Path(base) if base else REPO.parent / "shared" / "data") / "coco128"
    records = tmp_path_factory.mktemp("records")
    if coco128.is_dir():
        annotation = next((coco128 / "annotations").glob("instances_*.json"))
        split = annotation.stem.removeprefix("instances_")
        return {
            "coco_root": coco128,
            "train_data_type": split,
            "val_data_type": split,
            "img_height": 256,
            "img_width": 320,
            "mindrecord_dir": records,
        }
    root = make_data(records / "data")
    argv = arguments(root, "", batch_size=1)
    return {key.removeprefix("--"): value for key, value in zip(argv[::2], argv[1::2], strict=True)}


@pytest.fixture(scope="module")
def weights(setting, tmp_path_factory):
    """A detector's checkpoint: frozen statistics of random weights would not stay in bounds."""
    from src.checkpoints.file import describe_model, save_checkpoint
    from src.detector import build_detector

    config = load_config(real_arguments(setting, "", 1, ""))
    network = build_detector(config)
    for parameter in network.get_parameters():
        name, shape = parameter.name, parameter.shape
        parameter.set_data(Tensor(make_weight(name, shape).astype(np.float32)))
    path = tmp_path_factory.mktemp("weights") / "detector.ckpt"
    save_checkpoint(path, network, meta=describe_model(config))
    return path


STEPS = 5


def real_arguments(setting, output, batch_size, weights):
    """Few proposals and a small learning rate, so that rounding stays rounding.

    With 300 proposals and 0.02 the five steps of a *single* process whose weights are moved by one
    rounding (6e-8) end with losses that differ by up to 8e-3, and by the same 8e-3 in three of five
    tries. With 60 and 0.002, differences of 1e-6 can still grow to 3e-5 (a ReLU at its edge); with
    these numbers they stayed below 1e-6.
    """
    values = {
        **setting,
        "output_dir": output or ".",
        "batch_size": batch_size,
        "pre_trained": weights,
        "steps_per_epoch_limit": STEPS,
        "epoch_size": 1,
        "box_convention": "modern",
        "seed": 7,
        "log_interval": 1,
        "warmup_step": 2,
        "base_lr": 0.0005,
        "num_parallel_workers": 1,
        "device_target": "CPU",
        "rpn_proposal_nms_pre": 60,
        "rpn_proposal_max_num": 60,
        "num_expected_neg_stage2": 32,
        "num_expected_pos_stage2": 16,
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_equal_one_with_the_double_batch(setting, weights, tmp_path):
    """With `--thorough`; of the tiny detector, the same is compared always, see above."""
    two, one = tmp_path / "two", tmp_path / "one"
    run(two, 2, real_arguments(setting, two, 1, weights))
    run(one, 1, real_arguments(setting, one, 2, weights))
    parts, expected = [steps_of(two, rank) for rank in (0, 1)], steps_of(one)
    assert len(expected) == STEPS
    for first, second, whole in zip(*parts, expected, strict=True):
        assert sorted(first[4] + second[4]) == sorted(whole[4])
        mean = (np.array(first[2]) + np.array(second[2])) / 2
        np.testing.assert_allclose(mean, whole[2], rtol=1e-5)
        np.testing.assert_allclose([first[3], second[3]], whole[3], rtol=1e-4)
    start, end = read_checkpoint(weights).arrays, arrays_of(one, f"faster_rcnn-1_{STEPS}.ckpt")
    moved = 0
    for name, array in arrays_of(two, f"faster_rcnn-1_{STEPS}.ckpt").items():
        if name.startswith("moments."):  # a ReLU at its edge changes single numbers by more
            size = max(np.linalg.norm(end[name]), 1e-12)
            error, most = np.linalg.norm(array - end[name]) / size, 2e-3
        else:
            largest = max(np.abs(end[name]).max(), 1e-12)
            error, most = np.abs(array - end[name]).max() / largest, 1e-5
        assert error < most, (name, error)
        moved += name in start and not np.array_equal(array, start[name])
    assert moved > 50
