# SPDX-License-Identifier: Apache-2.0
"""The configuration: what cannot work is one line with file, key and remedy."""

import pytest

from src.base.errors import UserError
from src.model_utils.config import load_config
from src.model_utils.configuration.near_keys import CONFIG_PATH, OTHER_NAMES
from src.model_utils.configuration.schema import SETTABLE
from src.model_utils.configuration.zoo import ZOO_KEYS
from tests.helpers.config_helpers import message, write

# --- what cannot work ----------------------------------------------------------------------------

BAD_VALUES = [
    ("img_width: 1000", "img_width: 1000 is not a multiple of 32; give 992 or 1024"),
    ("img_height: -32", "is too small; give at least 32"),
    ("img_height: 0", "is too small"),
    ("img_width: '640'", "is not a whole number"),
    ("img_width: 640.0", "is not a whole number"),
    ("img_width: true", "is not a whole number"),
    ("img_width:", "None is not a whole number"),
    ("base_lr: true", "True is not a number"),
    ("base_lr: fast", "'fast' is not a number"),
    ("base_lr: 0", "give more than 0"),
    ("base_lr: -0.1", "give more than 0"),
    ("base_lr: .inf", "is not a finite number"),
    ("base_lr: .nan", "is not a finite number"),
    ("keep_ratio: 1", "1 is not a truth value; give True or False"),
    ("keep_ratio: 'yes'", "is not a truth value"),
    ("flip_ratio: 1.5", "give at most 1"),
    ("test_score_thr: -0.1", "give at least 0"),
    ("test_iou_thr: 1.01", "give at most 1"),
    ("rpn_nms_thr: 0", "give more than 0"),
    ("num_gts: 0", "give at least 1"),
    ("seed: 4294967296", "give at most 2147483647"),
    ("frozen_stages: 6", "give at most 5"),
    ("expand_ratio: 0.5", "give at least 1"),
    ("momentum: 1", "give at most 0.9999"),
    ("optimizer: adamax", "'adamax' is not one of sgd, adam, adamw; did you mean adam"),
    ("ema: 1", "give at most 0.999999"),
    ("adam_betas: [0.9, 1]", "has the element 1, which is too large"),
    ("no_weight_decay: [weights]", "is not one of norms, biases"),
    ("accumulate_steps: 0", "give at least 1"),
    ("lr_type: cosine_restarts\nrestart_period: 13", "13 is longer than the run, of epoch_size 12"),
    ("anchor_scales: []", "[] is empty; give at least 1 element"),
    ("anchor_scales: 8", "is not a list; write it in brackets"),
    ("anchor_scales: [8, -1]", "has the element -1, which is too small"),
    ("anchor_ratios: [1, a]", "has the element 'a', which is not a number"),
    ("anchor_ratios: [[1]]", "has the element [1], which is not a number"),
    ("anchor_ratios: &x [*x]", "column 20: the alias *x is inside what it stands for"),
    ("anchor_strides: [8, 16, 32, 64, 128]", "contradicts the network"),
    ("pixel_mean: [1, 2]", "has 2 elements; give exactly 3"),
    ("pixel_std: [1, 2, 0]", "has the element 0, which is too small"),
    ("rcnn_target_stds: [0.1]", "has 1 elements; give exactly 4"),
    ("sgd_step: [11, 8]", "does not rise; sort it"),
    ("sgd_step: [8, 8]", "does not rise"),
    ("backbone: resnet50", "is not one of resnet_v1.5_50, resnet_v1_50"),
    ("backbone: resnet_v1_51", "did you mean resnet_v1_50?"),
    ("device_target: cpu", "did you mean CPU?"),
    ("norm: batch", "is not one of frozen_bn, bn, gn"),
    ("output_dir: ''", "is empty; give a value"),
    ("train_data_type: 2017", "is a int, not a text; put it in quotes"),
    ("train_data_type: ../other", "is not a folder inside coco_root"),
    ("coco_root: 2024-01-01", "is a date, not a text; put it in quotes"),
    ('coco_root: "a\\nb"', "has a line break"),
    ('coco_root: "\\udcff"', "has a byte that is not UTF-8 text"),
    ("seed: 0x" + "f" * 390, "is not a finite number"),
    ("seed: 0x" + "f" * 5000, "line 1, column 7: a number of 5002 characters"),
    ("roi_layer: 7", "is not a mapping"),
    ("roi_layer: {size: 7}", "has the unknown part 'size'"),
    ("roi_layer: {type: RoIPool}", "RoIAlign is the only one"),
    ("roi_layer: {out_size: 0}", "has out_size 0, which is too small"),
    ("roi_layer: {sample_num: 1.5}", "has sample_num 1.5, which is not a whole number"),
    ("rcnn_head: 4", "is not a mapping; write {convs: 0, dense: 2, norm: none}"),
    ("rcnn_head: {fc: 1}", "has the unknown part 'fc'; its parts are convs, dense, norm"),
    ("rcnn_head: {dense: 3}", "has dense 3, which is too large; give at most 2"),
    ("rcnn_head: {convs: 4, norm: ln}", "has norm 'ln'; choose from none, bn, gn"),
    ("rcnn_head: {norm: bn}", "has norm bn but no convs to have it; give convs, or norm none"),
    ("fpn_norm: gn\nfpn_out_channels: 48", "which fpn_out_channels 48 is no multiple of; give 32"),
    ("rpn_conv_depth: 0", "is too small; give at least 1"),
    ("fpn_upsample: cubic", "is not one of nearest, bilinear"),
    ("rcnn_class_weights: 2", "is no list of numbers and no mapping; write [1, 2, 2] or {cat: 2}"),
    ("rcnn_class_weights: [1, -1]", "has the element -1, which is too small; give at least 0"),
    ("rcnn_class_weights: {person: -2}", "has the element -2, which is too small"),
    ("rcnn_class_weights: {person: much}", "has the element 'much', which is not a number"),
    ("rcnn_class_weights: {1: 2}", "has the name 1, which is not a text; put it in quotes"),
    ("rcnn_label_smoothing: 1.5", "is too large; give at most 1"),
    ("test_nms_kind: soft", "is not one of hard, soft_linear, soft_gaussian"),
    ("test_nms_sigma: 0", "is too small; give at least 1e-06"),
    ("test_nms_sigma: 1.0e-320", "is too small; give at least 1e-06"),
    ("rcnn_loss_beta: 1.0e-320", "is too small; give at least 1e-06"),
    ("adam_eps: 1.0e-46", "is too small; give at least 1e-30"),
    ("test_nms_min_score: 0", "is too small; give more than 0"),
    ("coco_classes: []", "names no class"),
    ("coco_classes: [background]", "names no class"),
    ("coco_classes: ''", "names no class"),
    ("coco_classes: [cat, cat]", "has 'cat' twice"),
    ("coco_classes: [cat, background]", "has 'background' in the middle"),
    ("coco_classes: [cat, yes]", "has the name True, which is not a text"),
    ("coco_classes: [cat, ' ']", "has an empty name"),
    ("coco_classes: {1: cat}", "is not a list of names"),
    ("coco_classes: missing.txt", "cannot be read"),
    ("num_classes: 80\ncoco_classes: auto", "contradicts coco_classes, which are 81"),
    ("augmentations: [flip]", "has to have resize once"),
    ("augmentations: [resize, flip, flip]", "has flip twice; take one out"),
    ("augmentations: [resize, rezise]", "vertical_flip; did you mean resize?"),
    ("augmentations: [resize, expand]", "has expand after resize"),
    ("augmentations: resize", "is not a list"),
    ("scale_jitter: [2.0, 0.1]", "is no range; give the smaller factor first"),
    ("scale_jitter: [1.0]", "give exactly 2"),
    ("crop_min_iou: []", "is empty"),
    ("num_classes: 80", "contradicts coco_classes, which are 81 with background"),
    ("neg_iou_thr: 0.8", "is above pos_iou_thr 0.7"),
    ("pos_iou_thr: 0.2", "neg_iou_thr: 0.3 is above pos_iou_thr 0.2"),
    ("test_pre_nms_num: 0\ntest_score_thr: 0", "0 lets 80000 boxes of an image into one NMS"),
    ("rpn_nms_pre: 50000", "more boxes than NMS can take; give at most 40000"),
    ("min_pos_iou: 1.1", "give at most 1"),
    ("neg_iou_thr_stage2: 0.6", "is above pos_iou_thr_stage2 0.5"),
    ("num_expected_neg: 100", "num_expected_pos: 128 is above num_expected_neg 100"),
    ("num_expected_pos_stage2: 600", "is above num_expected_neg_stage2 512"),
    # Unknown keys.
    ("img_widht: 640", "'img_widht' is not a key; did you mean img_width?"),
    ("batch-size: 2", "did you mean batch_size?"),
    ("BATCH_SIZE: 2", "did you mean batch_size?"),
    ("zzz: 2", "'zzz' is not a key; see --help"),
    ("1: 2", "'1' is not a key"),
    ("on: 2", "'True' is not a key"),
    ("anchor_scales: [0.25]", "a side of 0.707107 px"),
    # The model zoo's keys with another value than the one that fits.
    ("enable_modelarts: 1", "enable_modelarts: 1 is not a truth value"),
    ("data_path: a\ndataset_path: b", "dataset_path: 'b' contradicts data_path"),
    ("distribute: True\nrun_distribute: False", "contradicts run_distribute False"),
    ("num_bboxes: 1000", "contradicts the other keys, from which 245520 follows"),
    ("feature_shapes: [[1, 2]]", "[[192, 320], [96, 160], [48, 80], [24, 40], [12, 20]] follows"),
    ("num_anchors: 9", "from which 3 follows"),
    ("resnet_block: [3, 4, 23, 3]", "from which [3, 4, 6, 3] follows"),
    ("roi_sample_num: 512", "from which 640 follows"),
    ("sgd_momentum: 0.8", "use momentum"),
    ("finetune: True", "heads of another shape start fresh"),
    ("opt_type: adam", "has no effect here: use optimizer"),
    ("rank_id: 3", "the launcher decides it"),
    ("run_eval: 1", "run_eval: 1 is not a truth value"),
    ("run_eval: True\ninterval: 0", "interval: 0 is not a whole number from 1 on"),
    ("run_eval: False\neval_interval: 2", "run_eval: False with interval 1 contradicts"),
    ("output_dir: a\nsave_checkpoint_path: b", "save_checkpoint_path: 'b' contradicts output_dir"),
    # YAML that is none.
    ("seed: 1\nseed: 2", "line 2, column 1: the key 'seed' is given twice"),
    ("roi_layer: {out_size: 7, out_size: 5}", "the key 'out_size' is given twice"),
    ("seed: [1", "line 1"),
    ("seed: 1\n\tbatch_size: 2", "line 2, column 1: found character"),
    ("- seed\n- 1", "holds a list, not `key: value` lines"),
    ("just words", "holds a str"),
    ("", "the file is empty"),
    ("# a comment\n", "the file is empty"),
    ("seed: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ("seed: \x00", "special characters are not allowed"),
    ("? [a]\n: 1", "unhashable key"),
    ("extends: [a.yaml]", "extends: ['a.yaml'] is not a file name"),
    ("extends: missing.yaml", "extends: 'missing.yaml' does not exist"),
    ("extends: bad.yaml", "in a circle (bad.yaml -> bad.yaml)"),
    ("seed: 1\n---\nseed: 1\nseed: 2", "given twice"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_VALUES, ids=[text for text, _ in BAD_VALUES])
def test_a_bad_file_is_one_line_with_file_key_and_remedy(text, expected, tmp_path):
    path = write(tmp_path / "bad.yaml", text)
    line = message(["--config_path", path])
    assert line.startswith(f"{path}: "), line
    assert expected in line
    assert len(line) < 500


BAD_ARGUMENTS = [
    (["--img_widht", "640"], "'img_widht' is not a key; did you mean img_width?"),
    (["--img_widht=640"], "did you mean img_width?"),
    (["--batch-size", "2"], "did you mean batch_size?"),
    (["--img", "640"], "'img' is not a key"),
    (["--img_width"], "--img_width: expected one argument"),
    (["--img_width", "100"], "img_width: 100 is not a multiple of 32; give 96 or 128"),
    (["--img_width", "wide"], "img_width: 'wide' is not a whole number"),
    (["--anchor_scales"], "--anchor_scales: expected at least one argument"),
    (["--anchor_scales", "8", "x"], "has the element 'x'"),
    (["--anchor_scales", "[8"], "anchor_scales: '[8' cannot be read as a value"),
    (["--keep_ratio", "maybe"], "'maybe' is not a truth value"),
    (["train.yaml"], "'train.yaml' belongs to no key"),
    (["--seed", "1", "2"], "'2' belongs to no key"),
    (["--extends", "a.yaml"], "'extends' is not a key"),
    (["-x"], "'-x' belongs to no key"),
    (["--backbone", "vgg16"], "backbone: 'vgg16' is not one of"),
    (["--num_bboxes", "3"], "num_bboxes: 3 contradicts the other keys"),
    (["--upload_interval", "-1"], "upload_interval: -1 is too small; give at least 0"),
]


@pytest.mark.parametrize(
    ("argv", "expected"), BAD_ARGUMENTS, ids=[" ".join(argv) for argv, _ in BAD_ARGUMENTS]
)
def test_a_bad_command_line_is_one_line(argv, expected):
    line = message(argv)
    assert line.startswith("command line: ")
    assert expected in line


def test_files_that_cannot_be_read(tmp_path):
    assert "no such file" in message(["--config_path", str(tmp_path / "none.yaml")])
    assert "is a folder" in message(["--config_path", str(tmp_path)])
    binary = tmp_path / "model.ckpt"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    assert "is not UTF-8 text" in message(["--config_path", str(binary)])


def test_a_circle_of_two_files(tmp_path):
    write(tmp_path / "b.yaml", "extends: a.yaml")
    path = write(tmp_path / "a.yaml", "extends: b.yaml")
    assert "in a circle (a.yaml -> b.yaml -> a.yaml)" in message(["--config_path", path])


def test_an_error_in_an_extended_file_names_that_file(tmp_path):
    base = write(tmp_path / "base.yaml", "num_gts: 0")
    path = write(tmp_path / "a.yaml", "extends: base.yaml\nseed: 3")
    assert message(["--config_path", path]).startswith(f"{base}: num_gts: 0 ")


def test_a_long_value_is_cut_in_the_message(tmp_path):
    path = write(tmp_path / "a.yaml", f"backbone: {'x' * 5000}")
    assert len(message(["--config_path", path])) < 400 + len(path)


def test_deep_nesting_and_huge_numbers_are_errors(tmp_path):
    for text in ("seed: " + "[" * 5000, "seed: " + "9" * 6000, "base_lr: " + "9" * 400):
        line = message(["--config_path", write(tmp_path / "a.yaml", text)])
        assert line.startswith(f"{tmp_path}/a.yaml: ")


def test_yaml_merge_keys_are_no_duplicates(tmp_path):
    text = "roi_layer:\n  <<: &a {out_size: 5}\n  out_size: 3\n"
    config = load_config(["--config_path", write(tmp_path / "a.yaml", text)])
    assert config.roi_layer["out_size"] == 3


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", ".1e-3", "1.e-4", "+1e-4"])
def test_every_way_to_write_an_exponent_is_a_number(number, tmp_path):
    path = write(tmp_path / "a.yaml", f"weight_decay: {number}\n")
    assert load_config(["--config_path", path]).weight_decay == 1e-4


def test_aliases_of_aliases_end(tmp_path):
    lines = ["seed: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    keys = ["batch_size", "base_lr", "num_gts", "momentum", "img_width", "img_height", "epoch_size"]
    for level, key in enumerate(keys):
        lines.append(f"{key}: &a{level + 1} [{', '.join([f'*a{level}'] * 9)}]")
    line = message(["--config_path", write(tmp_path / "a.yaml", "\n".join(lines))])
    assert "line 4, column 25: more than 20 aliases; correct the YAML" in line
    text = "sgd_step: &a [8, 11]\nanchor_ratios: [*a, *a]"
    line = message(["--config_path", write(tmp_path / "b.yaml", text)])
    assert "anchor_ratios: [[8, 11], [8, 11]] has the element [8, 11]" in line


# --- other programs' names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "program", "meant"),
    [
        ("--lr", "train", "base_lr"),
        ("--lr0", "train", "base_lr"),
        ("--epochs", "train", "epoch_size"),
        ("--batch", "train", "batch_size"),
        ("--imgsz", "train", "img_width and img_height"),
        ("--data-path", "train", "coco_root"),
        ("--weights", "train", "pre_trained"),
        ("--weights", "eval", "checkpoint_path"),
        ("--weights", "export", "ckpt_file"),
        ("--weights", "", "pre_trained or checkpoint_path or ckpt_file"),
        ("--SOLVER.BASE_LR", "train", "base_lr"),
        ("--MODEL.ROI_HEADS.SCORE_THRESH_TEST", "eval", "test_score_thr"),
        ("--config-file", "train", "config_path"),
        ("--work-dir", "train", "output_dir"),
    ],
)
def test_another_programs_name_of_a_key_is_understood(option, program, meant):
    with pytest.raises(UserError) as raised:
        load_config([option, "1"], program=program)
    name = option[2:]
    assert str(raised.value) == f"command line: '{name}' is not a key; did you mean {meant}?"


@pytest.mark.parametrize(
    ("argument", "end"),
    [
        ("epochs=100", "; did you mean epoch_size?"),
        ("seed=3", "; did you mean seed?"),
        ("SOLVER.BASE_LR", "; did you mean base_lr?"),
        ("my pictures", "spaces in quotes"),
    ],
)
def test_options_without_dashes(argument, end):
    with pytest.raises(UserError, match="belongs to no key; write --key value") as raised:
        load_config([argument, "0.01"], program="train")
    assert str(raised.value).endswith(end)


def test_another_programs_name_in_a_file(tmp_path):
    path = write(tmp_path / "a.yaml", "epochs: 100")
    with pytest.raises(UserError, match="'epochs' is not a key; did you mean epoch_size?"):
        load_config(["--config_path", path])


def test_other_programs_names_are_no_keys_and_stand_for_keys():
    assert not OTHER_NAMES.keys() & ({*SETTABLE, CONFIG_PATH} | ZOO_KEYS)
    for name, keys in OTHER_NAMES.items():
        meant = {part for key in keys for part in key.split(" and ")}
        assert name == name.casefold() and meant <= {*SETTABLE, CONFIG_PATH}, name
