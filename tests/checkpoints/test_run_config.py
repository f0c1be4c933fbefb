# SPDX-License-Identifier: Apache-2.0
"""config.yaml beside a checkpoint: nobody has named it, so it may set the model and no more."""

import os

import pytest

from src.checkpoints.run_config import adopt_run_config, read_unasked
from src.model_utils.config import load_config

CPU = ("--device_target", "CPU")


@pytest.fixture
def run(tmp_path):
    """A run's folder with a checkpoint's name in it; writes its config.yaml."""
    checkpoint = tmp_path / "train" / "ckpt_0" / "faster_rcnn-1_2.ckpt"
    checkpoint.parent.mkdir(parents=True)

    def write(text, *arguments):
        (tmp_path / "train" / "config.yaml").write_text(text)
        return load_config([*CPU, "--checkpoint_path", str(checkpoint), *arguments])

    write.path = tmp_path / "train" / "config.yaml"
    return write


def test_a_saved_configuration_gives_the_models_settings_only(run, tmp_path):
    saved = load_config(
        [
            "--device_target",
            "GPU",
            "--output_dir",
            "elsewhere",
            "--compile_cache",
            "gift/cache",
            "--result_file",
            "/home/me/.bashrc",
            "--test_score_thr",
            "0.2",
            "--train_url",
            "s3://x",
            "--coco_classes",
            "cat,dog",
            "--epoch_size",
            "3",
        ]
    )
    plain = run("")
    saved.save(str(run.path))
    config, lines = adopt_run_config(plain)
    assert config == plain.replace(test_score_thr=0.2, coco_classes=["cat", "dog"])
    assert lines == [f"settings of {run.path}: test_score_thr, coco_classes"]
    # What else a run was asked for has no effect on what is found; the views of a picture have.
    saved.replace(test_flip=True).save(str(run.path))
    assert adopt_run_config(plain)[1][1:] == [
        f"note: of {run.path} only the model's settings are taken, not test_flip; name it with "
        "--config_path to use all of it"
    ]
    # What belongs to the checkpoint's own weights goes before it, what the user gives before all.
    assert not config.is_given("test_score_thr") and config.replace(seed=2).is_given("seed")
    given, _ = adopt_run_config(
        load_config([*CPU, "--checkpoint_path", plain.checkpoint_path, "--test_score_thr", "0.3"])
    )
    assert given.test_score_thr == 0.3 and given.class_names == ("cat", "dog")


def test_it_is_looked_for_beside_and_above_the_checkpoint(run):
    config = run("test_score_thr: 0.2\n")
    assert adopt_run_config(config)[0].test_score_thr == 0.2
    os.rename(run.path, run.path.parent / "ckpt_0" / "config.yaml")
    assert adopt_run_config(config)[0].test_score_thr == 0.2
    os.rename(run.path.parent / "ckpt_0" / "config.yaml", run.path.parent.parent / "config.yaml")
    assert adopt_run_config(config) == (config, [])


def test_a_named_configuration_takes_its_place(run, tmp_path):
    (tmp_path / "mine.yaml").write_text("test_score_thr: 0.4\n")
    config = run("test_score_thr: 0.2\n", "--config_path", str(tmp_path / "mine.yaml"))
    assert adopt_run_config(config) == (config, [])


def test_no_other_file_is_read_because_it_says_so(run, tmp_path):
    (tmp_path / "base.yaml").write_text("test_score_thr: 0.2\n")
    config = run(f"extends: {tmp_path}/base.yaml\ntest_iou_thr: 0.4\n")
    adopted, _ = adopt_run_config(config)
    assert (adopted.test_score_thr, adopted.test_iou_thr) == (0.05, 0.4)
    (tmp_path / "names.txt").write_text("secret\n")
    config = run(f"coco_classes: {tmp_path}/names.txt\n")
    adopted, lines = adopt_run_config(config)
    assert adopted == config and "is not used" in lines[0]


@pytest.mark.parametrize(
    "text",
    [
        "test_score_thr: 2\n",
        "a: [\n",
        "- 1\n",
        "",
        "rpn_max_num: 1000000000\n",
        "norm: none\n",
        "x" * 400_000,
        "a: " + "[" * 2_000,
        "pixel_mean: [1, .nan, 2]\n",
        "img_width: 12\n",
    ],
    ids=lambda text: text[:12].strip(),
)
def test_a_file_that_cannot_be_used_is_passed_over_with_a_line(run, text):
    config = run(text)
    adopted, lines = adopt_run_config(config)
    assert adopted == config and len(lines) == 1
    assert lines[0].startswith(f"note: {run.path} is not used: ")
    assert "\n" not in lines[0] and len(lines[0]) < 600


def test_unknown_keys_and_paths_without_end_do_no_harm(run):
    config = run("not_a_key: 1\ntest_score_thr: 0.2\n")
    assert adopt_run_config(config)[0] == config.replace(test_score_thr=0.2)
    too_long = load_config([*CPU, "--checkpoint_path", "x" * 300 + "/" + "x" * 300])
    assert adopt_run_config(too_long) == (too_long, [])


def test_only_files_of_a_sensible_size_are_read(run, tmp_path):
    run("seed: 3\n")
    assert read_unasked(run.path) == {"seed": 3}
    for path in (tmp_path, tmp_path / "gone"):
        assert_refused(path)
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe")


def assert_refused(path):
    """A pipe would be waited for without end."""
    from src.base.errors import UserError

    with pytest.raises(UserError, match="not a file of at most"):
        read_unasked(path)
