# SPDX-License-Identifier: Apache-2.0
"""The configuration: its file of defaults, layers, the command line, help."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from src.base.errors import UserError
from src.model_utils.config import DEFAULT_CONFIG, DEFAULT_ORIGIN, Config, load_config
from src.model_utils.configuration import yaml_files as config_yaml
from src.model_utils.configuration.derived import DERIVED
from src.model_utils.configuration.notes import without_effect
from src.model_utils.configuration.program_keys import PROGRAM_KEYS
from src.model_utils.configuration.schema import RULES, SECTIONS, SETTABLE
from src.model_utils.configuration.types import coerce, is_list
from tests.helpers.config_helpers import ROOT, write

# The keys of the README and of the model zoo that must not be lost.
PROMISED = {
    "img_width",
    "img_height",
    "keep_ratio",
    "flip_ratio",
    "expand_ratio",
    "anchor_scales",
    "anchor_ratios",
    "anchor_strides",
    "num_gts",
    "neg_iou_thr",
    "pos_iou_thr",
    "min_pos_iou",
    "num_expected_neg",
    "num_expected_pos",
    "rpn_proposal_nms_pre",
    "rpn_proposal_nms_post",
    "rpn_proposal_max_num",
    "rpn_nms_pre",
    "rpn_nms_post",
    "rpn_max_num",
    "rpn_proposal_nms_thr",
    "rpn_nms_thr",
    "roi_layer",
    "roi_align_finest_scale",
    "pos_iou_thr_stage2",
    "num_expected_pos_stage2",
    "num_expected_neg_stage2",
    "rcnn_target_stds",
    "test_score_thr",
    "test_iou_thr",
    "test_max_per_img",
    "test_batch_size",
    "base_lr",
    "warmup_step",
    "warmup_ratio",
    "sgd_step",
    "momentum",
    "weight_decay",
    "loss_scale",
    "batch_size",
    "epoch_size",
    "save_checkpoint_epochs",
    "keep_checkpoint_max",
    "mindrecord_dir",
    "coco_root",
    "train_data_type",
    "val_data_type",
    "instance_set",
    "coco_classes",
    "num_classes",
    "dataset",
    "image_dir",
    "anno_path",
    "pre_trained",
    "checkpoint_path",
    "backbone",
    "device_target",
    "device_id",
}


@pytest.fixture(scope="module")
def documents():
    return config_yaml.read_documents(DEFAULT_CONFIG)


# --- the file of defaults ------------------------------------------------------------------------


def test_values_helps_choices_and_schema_agree(documents):
    values, helps, choices = documents
    assert list(values) == list(RULES) == list(helps)
    for key, line in helps.items():
        assert isinstance(line, str) and len(line) > 10 and "\n" not in line, key
    for key, allowed in choices.items():
        chosen = values[key] if is_list(RULES[key].kind) else [values[key]]
        assert set(chosen) <= set(allowed) and len(set(allowed)) == len(allowed), key


def test_every_key_with_a_closed_set_has_choices(documents):
    # A text that is neither a path nor free would be silently wrong with a typing error in it.
    free = {"train_data_type", "val_data_type", "instance_set", "extends"}
    free |= {"data_url", "train_url", "checkpoint_url", "callbacks", "best_metric"}
    texts = {key for key, rule in RULES.items() if rule.kind in ("str", "words")}
    assert texts - free == set(documents[2])


def test_defaults_have_the_type_of_their_rule(documents):
    for key, value in documents[0].items():
        checked = coerce(RULES[key], value)
        if is_list(RULES[key].kind):
            assert list(checked) == value, key
        else:
            assert checked == value, key


def test_promised_keys_and_zoo_defaults():
    config = load_config([])
    assert set(config) >= PROMISED
    assert (config.img_width, config.img_height, config.num_gts) == (1280, 768, 128)
    assert config.anchor_ratios == (0.5, 1.0, 2.0)
    assert config.sgd_step == (8, 11)
    assert config.roi_layer == {"type": "RoIAlign", "out_size": 7, "sample_num": 2}
    assert len(config.class_names) == 80
    assert (config.class_names[0], config.class_names[79]) == ("person", "toothbrush")


@pytest.mark.parametrize("depth", [101, 152])
def test_the_deeper_backbones_differ_in_what_their_files_say(depth):
    path = os.path.join(ROOT, f"default_config_{depth}.yaml")
    values, helps, choices = config_yaml.read_documents(path)
    assert values.keys() == helps.keys()
    assert choices.keys() <= values.keys()
    assert choices["backbone"] == config_yaml.read_documents(DEFAULT_CONFIG)[2]["backbone"]
    config = load_config(["--config_path", path])
    base = load_config([])
    assert config.backbone == f"resnet_v1_{depth}"
    different = {key for key in base if getattr(config, key) != getattr(base, key)}
    assert different == values.keys() - {"extends"}


def test_a_damaged_file_of_defaults_is_named(tmp_path):
    path = write(tmp_path / "default_config.yaml", "img_width: 64\n---\n{}\n---\n{}\n")
    with pytest.raises(UserError, match="is not this version's file of defaults"):
        load_config([], default_path=path)


def test_every_key_is_read_somewhere(repo_root):
    """A key that nothing outside the configuration mentions has no effect."""
    sources = [*repo_root.glob("*.py"), *repo_root.glob("src/**/*.py")]
    text = "\n".join(p.read_text() for p in sources if "model_utils/config" not in p.as_posix())
    words = set(re.findall(r"\w+", text))
    # `extends` is read by the files' reader; the classes are read as class_names.
    assert sorted(set(RULES) - words - {"extends", "coco_classes"}) == []


def test_every_key_that_is_read_exists(repo_root):
    known = set(SETTABLE) | set(DERIVED) | set(dir(Config)) | {"yaml"}
    for path in [*repo_root.glob("*.py"), *repo_root.glob("src/*.py")]:
        used = set(re.findall(r"(?<![\w.])config\.([a-z]\w*)", path.read_text()))
        if re.search(r"import .*config as config|dataset\.config|de\.config", path.read_text()):
            continue
        assert used <= known, f"{path.name}: {sorted(used - known)}"


# --- layers --------------------------------------------------------------------------------------


def test_later_layers_override_earlier_ones_and_are_named(tmp_path):
    base = write(tmp_path / "base.yaml", "batch_size: 3\nepoch_size: 5\nseed: 7\n")
    top = write(tmp_path / "top.yaml", "extends: base.yaml\nbatch_size: 4\nepoch_size: 6\n")
    config = load_config(["--config_path", top, "--epoch_size", "9"])
    assert (config.seed, config.batch_size, config.epoch_size, config.num_gts) == (7, 4, 9, 128)
    assert config.origin("seed") == base
    assert config.origin("batch_size") == top
    assert config.origin("epoch_size") == "command line"
    assert config.origin("num_gts") == DEFAULT_ORIGIN


def test_extends_is_relative_to_the_file_not_to_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    write(tmp_path / "base.yaml", "seed: 7")
    top = write(tmp_path / "a" / "top.yaml", "extends: ../base.yaml")
    monkeypatch.chdir("/")
    assert load_config(["--config_path", top]).seed == 7


def test_a_file_may_extend_the_defaults_by_name(tmp_path):
    # No layer of its own: what the defaults say must not look like what the user said.
    path = write(tmp_path / "a.yaml", f"extends: {DEFAULT_CONFIG}\nsave_checkpoint_path: out\n")
    config = load_config(["--config_path", path])
    assert config.output_dir == "out"
    assert config.origin("seed") == DEFAULT_ORIGIN


def test_a_users_file_named_like_the_defaults_is_the_users(tmp_path, monkeypatch):
    write(tmp_path / "default_config.yaml", "seed: 7\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(["--config_path", "default_config.yaml"])
    assert config.seed == 7 and config.origin("seed") == "default_config.yaml" != DEFAULT_ORIGIN


def test_only_the_first_document_of_a_users_file_counts(tmp_path):
    path = write(tmp_path / "a.yaml", "seed: 7\n---\nseed: 'help'\nother: x\n---\nseed: [1]\n")
    assert load_config(["--config_path", path]).seed == 7


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--anchor_scales", "[8]"], "anchor_scales", (8,)),
        (["--anchor_scales", "8", "16"], "anchor_scales", (8, 16)),
        (["--anchor_scales", "8,16"], "anchor_scales", (8, 16)),
        (["--anchor_scales", "[8,", "16]"], "anchor_scales", (8, 16)),
        (["--anchor_scales=[4, 8]"], "anchor_scales", (4, 8)),
        (["--sgd_step", "[]"], "sgd_step", ()),
        (["--pixel_mean", "-1", "0.5", "2"], "pixel_mean", (-1, 0.5, 2)),
        (["--weight_decay", "1e-4"], "weight_decay", 1e-4),
        (["--base_lr=2"], "base_lr", 2.0),
        (["--keep_ratio", "False"], "keep_ratio", False),
        (["--keep_ratio=false"], "keep_ratio", False),
        (["--seed", "1", "--seed", "2"], "seed", 2),
        (["--pre_trained", ""], "pre_trained", ""),
        (["--pre_trained", "my file: 1e3.ckpt"], "pre_trained", "my file: 1e3.ckpt"),
        (["--coco_root=/data/a=b"], "coco_root", "/data/a=b"),
        (["--train_data_type", "2017"], "train_data_type", "2017"),
        (["--coco_classes", "traffic light", "2"], "class_names", ("traffic light", "2")),
        (["--coco_classes", "['traffic light', car]"], "class_names", ("traffic light", "car")),
        (["--coco_classes", "traffic light,car"], "class_names", ("traffic light", "car")),
        (["--coco_classes", "background", "car"], "class_names", ("car",)),
        (
            ["--roi_layer", "{out_size: 5}"],
            "roi_layer",
            {"type": "RoIAlign", "out_size": 5, "sample_num": 2},
        ),
        (["--rcnn_class_weights", "{car: 2}"], "rcnn_class_weights", {"car": 2.0}),
        (["--rcnn_class_weights", "[1, 2]"], "rcnn_class_weights", (1.0, 2.0)),
        (["--num_classes", "81"], "num_classes", 81),
        (["--num_classes", "null"], "num_classes", 81),
    ],
)
def test_command_line_values(argv, key, value):
    config = load_config(argv)
    found = getattr(config, key)
    assert found == value and type(found) is type(value)


def other_value(key, value, choices):
    """A valid value of the key that is not `value`."""
    if key in choices and not is_list(RULES[key].kind):
        return next(choice for choice in choices[key] if choice != value)
    rule = RULES[key]
    if rule.kind == "bool":
        return not value
    special = {
        "coco_classes": ["cat"],
        "roi_layer": {"type": "RoIAlign", "out_size": 5, "sample_num": 2},
        "rcnn_class_weights": {"person": 2.0},
        "anchor_strides": [4, 8, 16, 32, 64],
        "num_classes": 81,
        "pos_iou_thr_stage2": 0.6,
        "img_width": 640,
        "img_height": 640,
        "min_size": [640, 800],
        "canvases": ["640x640"],
        "num_expected_pos": 64,
        "num_expected_pos_stage2": 64,
        "anchor_scales": [6.0],
        "expand_ratio": 2.0,
        "loss_scale": 8.0,
        "crop_min_iou": [0.5, 0.7],
        "min_visible": 0.2,
        "augmentations": ["resize", "flip"],
        "recompute": ["backbone", "head"],
        "rcnn_head": {"convs": 4, "dense": 1, "norm": "bn"},
        "restart_factor": 2.0,
        "no_weight_decay": ["biases"],
        "callbacks": ["my.Hook"],
    }
    if key in special:
        return special[key]
    if rule.kind in ("str", "path"):
        return f"other {key}"
    if rule.kind == "floats":
        return [0.25 * (i + 1) for i in range(len(value))]
    return value + 1 if rule.kind == "int" else value * 0.9 + 0.01


@pytest.mark.parametrize("key", SETTABLE)
def test_every_key_can_be_set_in_a_file_and_on_the_command_line(key, documents, tmp_path):
    value = other_value(key, documents[0][key], documents[2])
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({key: value}))
    from_file = load_config(["--config_path", str(path)])
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
    from_line = load_config([f"--{key}", text.removesuffix("...\n").strip()])
    assert from_file == from_line
    assert from_file.origin(key) == str(path)
    assert from_line.origin(key) == "command line"
    if key != "anchor_strides":
        assert from_file != load_config([])


def test_loading_twice_gives_equal_and_independent_configurations():
    first, second = load_config(["--seed", "3"]), load_config(["--seed", "3"])
    assert first == second and first != load_config([])
    first.to_dict()["anchor_scales"].append(99)
    first.roi_layer["out_size"] = 99
    assert first == second


def test_argv_of_the_process_is_not_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--no_such_key", "3"])
    assert load_config([]).seed == 1


def test_paths_may_start_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    path = write(tmp_path / "a.yaml", "coco_root: ~/coco\n")
    assert load_config(["--config_path", path]).coco_root == "/home/someone/coco"


def test_class_names_from_a_text_file(tmp_path, monkeypatch):
    # With a byte order mark, as some editors write it.
    write(tmp_path / "names.txt", "\ufeffcat\n\n traffic light \r\ndog")
    path = write(tmp_path / "a.yaml", "coco_classes: names.txt\n")
    names = ("cat", "traffic light", "dog")
    assert load_config(["--config_path", path]).class_names == names
    monkeypatch.chdir(tmp_path)
    assert load_config(["--coco_classes", "names.txt"]).class_names == names


# --- help ----------------------------------------------------------------------------------------


def test_help_shows_every_key_with_help_choices_and_default(capsys, documents, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as stop:
        load_config(["--help"], description="Train 100% of a detector.\n\n  --own  its own")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "Train 100% of a detector.\n\n  --own  its own\n" in text
    assert "--config_path FILE" in text
    values, helps, choices = documents
    for key in SETTABLE:
        assert re.search(rf"^ *--{key} ", text, re.M), key
        assert " ".join(helps[key].split()) in text, key
    for allowed in choices.values():
        assert "{" + ",".join(allowed) + "}" in text
    assert "(default: 0.0625)" in text and "(default: the 80 of COCO)" in text
    assert "sgd_momentum" not in text and "save_checkpoint_path" not in text
    for title in SECTIONS:
        assert f"{title}:" in text


def _shown_by_help(capsys, *argv, program=""):
    """The keys of a help page, and its text."""
    with pytest.raises(SystemExit) as stop:
        load_config(argv, program=program)
    assert stop.value.code == 0
    text = capsys.readouterr().out
    return [key for key in re.findall(r"^ *--(\w+)", text, re.M) if key in SETTABLE], text


@pytest.mark.parametrize("program", PROGRAM_KEYS)
def test_help_shows_what_matters_for_the_program_and_how_to_see_all(program, capsys):
    shown, text = _shown_by_help(capsys, "--help", program=program)
    assert set(shown) == set(PROGRAM_KEYS[program]) and len(shown) == len(set(shown)) <= 20
    assert f"{len(shown)} of {len(SETTABLE)} keys are shown: --help all shows every key" in text
    everything, _ = _shown_by_help(capsys, "--seed", "3", "-h", "all", program=program)
    assert everything == list(SETTABLE)


def test_help_with_a_word_shows_the_keys_that_have_it(capsys):
    shown, text = _shown_by_help(capsys, "--help", "LR", program="eval")
    rates = ["base_lr", "lr_base_batch", "lr_type", "min_lr_ratio"]
    assert shown == [*rates, "backbone_lr_scale", "layer_lr_decay"]
    assert "Learning rate:" in text and "Anchors:" not in text
    with pytest.raises(UserError, match="--help 'yolo': no key has this in its name"):
        load_config(["--help", "yolo"])


def test_help_is_quick_and_needs_no_mindspore(repo_root):
    code = (
        "import sys\nfrom src.model_utils.config import load_config\n"
        "import src.model_utils.device_adapter\n"
        "try:\n    load_config(['--help'])\n"
        "except SystemExit:\n    print('mindspore' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", False),
        ("--report", True),
        ("--report --img_width 64", True),
        ("--report True", True),
        ("--report=False", False),
    ],
)
def test_a_truth_value_alone_is_true(arguments, value):
    assert load_config(arguments.split()).report is value


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ("", []),
        ("--clip_norm 10", ["clip_norm has no effect here, it needs grad_clip True"]),
        ("--clip_norm 10 --grad_clip True", []),
        ("--sgd_step 3 5 --lr_type cosine", ["sgd_step has no effect here, it needs lr_type step"]),
        ("--min_lr_ratio 0.1", ["min_lr_ratio has no effect here, it needs lr_type cosine"]),
        ("--poly_power 2", ["poly_power has no effect here, it needs lr_type poly"]),
        (
            "--momentum 0.8 --optimizer adamw",
            ["momentum has no effect here, it needs optimizer sgd"],
        ),
        ("--adam_eps 1e-6", ["adam_eps has no effect here, it needs optimizer adam or adamw"]),
        ("--adam_eps 1e-6 --optimizer adam --lr_type poly --poly_power 2", []),
        ("--data_url obs://a/b", ["data_url has no effect here, it needs enable_modelarts True"]),
        ("--max_val_images 5 --eval_interval 1", []),
        ("--max_val_images 5 --report", []),
        (
            "--checkpoint_path a.ckpt",
            [
                "checkpoint_path has no effect here, it needs another program; weights to begin "
                "with are pre_trained, a run to go on with is resume"
            ],
        ),
        ("--checkpoint_path a.ckpt --resume auto", []),
    ],
)
def test_settings_without_an_effect_in_training(arguments, notes, tmp_path):
    path = write(tmp_path / "file.yaml", "clip_norm: 5.0")  # a file is for several programs
    config = load_config(["--config_path", path, *arguments.split()])
    assert without_effect(config) == [f"note: {note}" for note in notes]
