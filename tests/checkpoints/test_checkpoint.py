# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: round trips, strict and lenient loading, names of other programs, damaged files."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.base.errors import UserError
from src.base.files import remove_leftovers
from src.checkpoints.file import META_KEY, read_checkpoint, save_checkpoint
from src.checkpoints.loading import check_model
from src.checkpoints.names import checkpoint_name, checkpoint_position, find_checkpoints
from src.checkpoints.pretrained import load_pretrained
from tests.helpers.checkpoint_files import load_detector_file, resume_file
from tests.helpers.tiny_detector import (
    same_values,
    tiny_batch,
    tiny_model,
    tiny_network,
    tiny_run_meta,
    tiny_trained,
    values_of,
)

CONTRACT = {"batch_size": 2, "steps_per_epoch": 7}


@pytest.fixture
def saved(tmp_path):
    """A detector's checkpoint with its network."""
    network = tiny_network(1)
    path = tmp_path / "faster_rcnn-3_7.ckpt"
    save_checkpoint(path, network, meta={**tiny_model(), "epoch": 3})
    return path, network


def test_round_trip_with_meta(saved):
    path, network = saved
    other = tiny_network(2)
    notes, meta = load_detector_file(other, path, tiny_model()), read_checkpoint(path).meta
    assert same_values(values_of(network), values_of(other))
    assert meta["epoch"] == 3 and meta["class_names"] == ["cat", "dog", "fox"] and notes == []
    assert os.stat(path).st_mode & 0o200  # the next run may replace it


def test_mindspore_reads_it_as_any_checkpoint(saved):
    path, network = saved
    other = tiny_network(2)
    missing, _ = ms.load_param_into_net(other, ms.load_checkpoint(str(path)))
    assert not missing and same_values(values_of(network), values_of(other))


def test_meta_of_many_classes_with_odd_names(tmp_path):
    names = [f'klasse "{i}", größe {i} 猫' for i in range(1000)]
    save_checkpoint(tmp_path / "a.ckpt", tiny_network(), meta={"class_names": names})
    assert read_checkpoint(tmp_path / "a.ckpt").meta["class_names"] == names


def test_training_state_continues_bit_for_bit(tmp_path):
    network, optimizer, step = tiny_trained(steps=2)
    save_checkpoint(tmp_path / "a.ckpt", network, optimizer, tiny_run_meta(2))
    for i in (2, 3):
        step(Tensor(1.0, ms.float32), *tiny_batch(seed=i))
    other, other_optimizer, other_step = tiny_trained(seed=9, steps=0)
    meta = resume_file(other, other_optimizer, tmp_path / "a.ckpt", tiny_model(), CONTRACT)
    assert meta["global_step"] == 2 and int(other_optimizer.global_step.asnumpy()[0]) == 2
    for i in (2, 3):
        other_step(Tensor(1.0, ms.float32), *tiny_batch(seed=i))
    assert same_values(values_of(step), values_of(other_step))


def test_evaluation_reads_training_checkpoints(tmp_path):
    network, optimizer, _ = tiny_trained()
    save_checkpoint(tmp_path / "a.ckpt", network, optimizer, tiny_model())
    other = tiny_network(5)
    load_detector_file(other, tmp_path / "a.ckpt", tiny_model())
    assert same_values(values_of(network), values_of(other))


# ------------------------------------------------------------------ damaged and wrong files


@pytest.mark.parametrize("keep", [0.0, 0.03, 0.25, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(saved, keep):
    path, _ = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    network = tiny_network(4)
    before = values_of(network)
    with pytest.raises(UserError) as raised:
        resume_file(network, SimpleNamespace(), path, tiny_model(), {})
    assert str(path) in str(raised.value)
    assert same_values(before, values_of(network))


def test_every_truncation_of_the_weights_is_refused(saved):
    """A protobuf cut between two parameters parses: the missing ones have to be noticed."""
    path, network = saved
    content = path.read_bytes()
    end = content.index(META_KEY.encode()) - 16
    for length in range(0, end, max(1, end // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError):
            load_detector_file(network, path)


def _prepare(kind, tmp_path, saved):
    path, _ = saved
    if kind == "missing":
        return tmp_path / "nowhere.ckpt"
    if kind == "folder":
        return tmp_path
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "text":
        path.write_text("these are no weights\n" * 50)
    if kind == "yaml":
        path = tmp_path / "config.yaml"
        path.write_text("a: 1\n")
    if kind == "image":
        path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8)
    if kind == "other parameters":
        parameter = {"name": "dense.weight", "data": Tensor(np.ones(3, np.float32))}
        ms.save_checkpoint([parameter], str(path))
    return path


KINDS = {
    "missing": "no such file",
    "folder": "a folder",
    "empty": "an empty file",
    "text": "not a MindSpore checkpoint",
    "yaml": "not a .ckpt file",
    "image": "not a MindSpore checkpoint",
}


@pytest.mark.parametrize("kind", [*KINDS, "other parameters"])
@pytest.mark.parametrize("how", ["detector", "pretrained", "resume"])
def test_files_that_are_no_checkpoint(kind, how, tmp_path, saved, capfd):
    path = _prepare(kind, tmp_path, saved)
    model = tiny_model()
    load, key = {
        "detector": (lambda: load_detector_file(tiny_network(), path, model), "checkpoint_path"),
        "pretrained": (lambda: load_pretrained(tiny_network(), path, model), "pre_trained"),
        "resume": (lambda: resume_file(tiny_network(), None, path, tiny_model(), {}), "resume"),
    }[how]
    message = (
        KINDS.get(kind)
        or {
            "detector": "not a whole detector",
            "pretrained": "none of its 1 parameters",
            "resume": "no state of a training run",
        }[how]
    )
    capfd.readouterr()
    with pytest.raises(UserError, match=message) as raised:
        load()
    assert str(path) in str(raised.value) and key in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "".join(capfd.readouterr()) == ""  # the error is the only thing that is said


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({"backbone": "resnet_v1_101"}, {}, "trained with backbone resnet_v1.5_50"),
        ({"norm": "gn"}, {}, "trained with norm frozen_bn"),
        ({"box_convention": "modern"}, {}, "trained with box_convention legacy"),
        ({"class_names": ("cat", "dog")}, {"num_classes": 3}, "trained on 3 classes"),
        ({"class_names": ("dog", "cat", "fox")}, {}, "in its order"),
    ],
)
def test_a_detector_of_another_configuration_is_refused(saved, changes, options, message):
    network = tiny_network(**options)
    before = values_of(network)
    with pytest.raises(UserError, match=message):
        load_detector_file(network, saved[0], tiny_model(**changes))
    assert same_values(before, values_of(network))


@pytest.mark.parametrize(
    "depth, message", [(2, "has no backbone.layer1.1"), (1, "deeper backbone")]
)
def test_another_depth_is_refused_without_meta_too(tmp_path, depth, message):
    save_checkpoint(tmp_path / "a.ckpt", tiny_network(depth=3 - depth))
    with pytest.raises(UserError, match=message):
        load_detector_file(tiny_network(depth=depth), tmp_path / "a.ckpt", tiny_model())


def test_trainable_and_frozen_bn_are_the_same_weights(saved):
    load_detector_file(tiny_network(), saved[0], tiny_model(norm="bn"))


def test_renamed_classes_are_pointed_out(saved):
    notes = load_detector_file(
        tiny_network(), saved[0], tiny_model(class_names=("cat", "puppy", "fox"))
    )
    assert notes == ["trained on the classes cat, dog, fox, used here for cat, puppy, fox"]


def test_another_number_of_classes_is_refused_without_meta_too(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", tiny_network())
    with pytest.raises(UserError, match="rcnn.cls_scores.weight is .8, 4. .*coco_classes"):
        load_detector_file(tiny_network(num_classes=3), tmp_path / "a.ckpt", tiny_model())


def test_other_pixels_are_pointed_out(saved):
    notes = load_detector_file(tiny_network(), saved[0], tiny_model(channel_order="bgr"))
    assert len(notes) == 1 and "channel_order rgb" in notes[0]


@pytest.mark.parametrize(
    "contract, message",
    [({"batch_size": 4}, "had batch_size 2"), ({"steps_per_epoch": 8}, "had steps_per_epoch 7")],
)
def test_resume_needs_the_same_run(tmp_path, contract, message):
    network, optimizer, _ = tiny_trained()
    meta = tiny_run_meta(3)
    save_checkpoint(tmp_path / "a.ckpt", network, optimizer, meta)
    with pytest.raises(UserError, match=message):
        resume_file(network, optimizer, tmp_path / "a.ckpt", tiny_model(), {**CONTRACT, **contract})


@pytest.mark.parametrize(
    "key, then, other",
    [
        ("resize", "auto", "short_edge"),
        ("canvases", (), ("64x96",)),
        ("padding", "canvas", "tight"),
    ],
)
def test_a_run_from_before_a_key_is_resumed_as_it_was(tmp_path, key, then, other):
    network, optimizer, _ = tiny_trained()
    meta = tiny_run_meta(3)
    del meta[key]
    save_checkpoint(tmp_path / "a.ckpt", network, optimizer, meta)
    resume_file(network, optimizer, tmp_path / "a.ckpt", tiny_model(**{key: then}), CONTRACT)
    with pytest.raises(UserError, match=f"its run had {key} "):
        resume_file(network, optimizer, tmp_path / "a.ckpt", tiny_model(**{key: other}), CONTRACT)


def test_resume_needs_the_optimizer_of_every_trained_parameter(tmp_path):
    network, optimizer, _ = tiny_trained(frozen=True)
    save_checkpoint(tmp_path / "a.ckpt", network, optimizer, tiny_run_meta(3))
    other, other_optimizer, _ = tiny_trained(steps=0)
    with pytest.raises(UserError, match="no optimizer state for moments.backbone.conv1.weight"):
        resume_file(other, other_optimizer, tmp_path / "a.ckpt", tiny_model(), {})


# ------------------------------------------------------------------ files in a folder


def test_names_and_the_latest(tmp_path):
    assert checkpoint_position(checkpoint_name(12, 345)) == (12, 345)
    assert checkpoint_position("best.ckpt") is None
    assert checkpoint_position("faster_rcnn-1_2.ckpt.tmp") is None
    assert find_checkpoints(tmp_path) == []
    for name in ("faster_rcnn-2_7.ckpt", "faster_rcnn-10_3.ckpt", "faster_rcnn-9_99.ckpt"):
        (tmp_path / name).write_text("")
    (tmp_path / "faster_rcnn-99.ckpt").write_text("")
    steps = ["2_7", "9_99", "10_3"]
    assert [p.name for p in find_checkpoints(tmp_path)] == [f"faster_rcnn-{s}.ckpt" for s in steps]


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def half(entries, name, **_):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(ms, "save_checkpoint", half)
    with pytest.raises(UserError, match="cannot write the checkpoint .No space left"):
        save_checkpoint(path, tiny_network(), meta={})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_check_model_accepts_files_without_meta(saved):
    checkpoint = read_checkpoint(saved[0])
    checkpoint.meta.clear()
    assert check_model(checkpoint, tiny_model(box_convention="modern"), same_heads=True) == []


@pytest.mark.parametrize(
    "key, value", [("img_width", 96), ("keep_ratio", False), ("roi_align_finest_scale", 28)]
)
def test_another_use_of_the_image_is_pointed_out(saved, key, value):
    notes = load_detector_file(tiny_network(), saved[0], tiny_model(**{key: value}))
    assert len(notes) == 1 and notes[0].startswith(f"trained with {key} ")


def test_weights_alone_are_not_resumed(tmp_path):
    network, optimizer, _ = tiny_trained(steps=0)
    save_checkpoint(tmp_path / "best.ckpt", network, meta={**tiny_model(), "global_step": 3})
    with pytest.raises(UserError, match="holds weights but no optimizer state.*pre_trained"):
        resume_file(network, optimizer, tmp_path / "best.ckpt", tiny_model(), {})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
def test_other_programs_files_are_sent_to_the_converter(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=f"convert_checkpoint.py --ckpt_file .*a{suffix}"):
        read_checkpoint(path)


_ENDLESS_SAVING = """
import sys
import numpy as np
from mindspore import Parameter, Tensor
from src.checkpoints.file import save_parameters
for number in range(100000):
    value = np.full(4_000_000, number, np.float32)
    save_parameters(sys.argv[1], [Parameter(Tensor(value), "a.weight")], {"epoch": number + 1})
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_last_whole_checkpoint(tmp_path, repo_root):
    """kill -9 at odd moments of a process that does nothing but save 16 MB under one name."""
    path = tmp_path / "faster_rcnn-1_1.ckpt"
    rng = np.random.default_rng(0)
    half_written = 0
    for kills in range(20):
        if kills >= 4 and half_written:
            break
        path.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS_SAVING, path],
            cwd=repo_root,
            env={**os.environ, "PYTHONPATH": str(repo_root)},
        )
        deadline = time.monotonic() + 120
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        checkpoint = read_checkpoint(path)
        (values,) = checkpoint.arrays.values()
        assert (values == checkpoint.meta["epoch"] - 1).all()
        assert find_checkpoints(tmp_path) == [path]
        half_written += remove_leftovers(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert half_written, "no kill came in the middle of saving"
