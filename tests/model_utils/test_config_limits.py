# SPDX-License-Identifier: Apache-2.0
"""Configurations of any size and value: they are taken, or refused in one line, and soon."""

import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.base.errors import UserError
from src.model_utils.config import Config, load_config
from src.model_utils.configuration import memory as config_memory
from src.model_utils.configuration.memory import require_memory
from src.model_utils.configuration.schema import SETTABLE
from tests.helpers.config_helpers import message, write

ABSURD = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**70,
    10**300,
    10**400,
    -(10**400),
    1e308,
    -1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "x",
    "x" * 10**6,
    "\0",
    "\n",
    "\x1b[2J",
    "\udcff",
    "~",
    "off",
    [],
    [[]],
    {},
    {"out_size": 10**9},
    {1, 2},
    {"type": "RoIAlign", "out_size": [1]},
    b"bytes",
    [1] * 10**5,
    [10**30] * 3,
    ["x"] * 10**5,
    [f"class {i}" for i in range(30_000)],
    ["\ud800"],
    list(range(1, 2000)),
    [math.nan] * 4,
    [math.inf] * 4,
    [0.5] * 5,
    "a,b,,c",
    "x.txt",
    object(),
)


@pytest.fixture(scope="module")
def defaults():
    return load_config([])


@pytest.mark.parametrize("key", SETTABLE)
def test_every_key_takes_or_refuses_anything(key, defaults):
    for value in ABSURD:
        try:
            changed = defaults.replace(**{key: value})
        except UserError as error:
            assert key in str(error) and len(str(error)) < 500
        else:
            assert changed == changed.replace() or value != value  # whatever is taken is kept


BILLION = "seed: 1\na: &a [x, x]\n" + "".join(
    f"k{i}: &k{i} [*{'a' if i == 0 else f'k{i - 1}'}, *{'a' if i == 0 else f'k{i - 1}'}]\n"
    for i in range(30)
)
MERGED = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(10_001)) + "}\nb: {<<: *a}\n"

YAML_LIMITS = [
    (BILLION, "line 13, column 12: more than 20 aliases"),
    (MERGED, "line 1, column 4: more than 10000 keys in one mapping"),
    ("seed: " + "[" * 10**5, "line 1, column 26: nested too deeply"),
    ("seed:\n" + "".join(" " * i + "a:\n" for i in range(1, 400)), "nested too deeply"),
    ("a: &a {<<: *a}", "line 1, column 12: the alias *a is inside what it stands for"),
    ("a: &a\n  b: [*a]", "line 2, column 7: the alias *a is inside what it stands for"),
    ("# " + "x" * 2**20, "1.0 MB, of at most 0.5 MB"),
    ("seed: " + "1" * 5000, "line 1, column 7: a number of 5000 characters"),
    ("base_lr: " + "1" * 5000 + ".5", "line 1, column 10: a number of 5002 characters"),
    ("seed: 010", "line 1, column 7: YAML reads 010 as 8; write 8, or '010' for a text"),
    ("seed: 1:30", "YAML reads 1:30 as 90"),
    ("base_lr: 1:30.5", "YAML reads 1:30.5 as 90.5"),
    ("seed: 2024-02-30", "line 1, column 7: a value cannot be read (day"),
    ("seed: !!int x", "line 1, column 7: a value cannot be read (invalid literal"),
    ("seed: !!timestamp x", "line 1, column 7: a value cannot be read"),
    ("seed: !!bool x", "line 1, column 7: a value cannot be read"),
    ("seed: !!float ''", "line 1, column 7: a value cannot be read"),
    ("seed: !!binary é", "line 1, column 7"),
    ("coco_root: !!binary aGFsbG8=", "is a bytes, not a text"),
    ("coco_classes: !!set {cat, dog}", "is not a list of names"),
    ("coco_classes: !!omap [a: 1]", "has the name ('a', 1), which is not a text"),
    ('coco_root: "\\UFFFFFFFF"', "a value cannot be read"),
    ("seed: *missing", "line 1, column 7: found undefined alias"),
    ("? " + "x" * 10**5 + "\n: 1", "is not a key"),
    ("extends: /dev/zero", "not a file, but a pipe, socket or device"),
    ('extends: "a\\0"', "does not exist"),
    ("extends: " + "x" * 5000, "does not exist"),
    ("coco_classes: /dev/zero.txt", "cannot be read"),
    ('coco_classes: ["c\\u2028t"]', "another control character"),
    ('coco_classes: ["c\\ud800t"]', "another control character"),
    ("coco_classes: [" + "c" * 300 + "]", "has a name of 300 characters; give at most 200"),
]


@pytest.mark.parametrize(("text", "expected"), YAML_LIMITS, ids=[e for _, e in YAML_LIMITS])
def test_a_file_that_grows_is_refused_where_it_does(text, expected, tmp_path):
    path = write(tmp_path / "bad.yaml", text)
    line = message(["--config_path", path])
    assert expected in line and len(line) < 1000
    assert line.startswith(f"{path}: ") or "extends" in text


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (str(tmp_path / "pipe.yaml"), "/dev/zero"):
        assert "not a file, but a pipe, socket or device" in message(["--config_path", path])
    os.mkfifo(tmp_path / "names.txt")
    assert "not a file" in message(["--coco_classes", str(tmp_path / "names.txt")])


def test_a_chain_of_files_has_an_end(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i}.yaml", f"seed: 1\nextends: {i + 1}.yaml")
    write(tmp_path / "30.yaml", "seed: 2")
    assert "more than 20 files" in message(["--config_path", str(tmp_path / "0.yaml")])
    assert load_config(["--config_path", str(tmp_path / "15.yaml")]).seed == 1
    for i in range(20, 30):
        write(tmp_path / f"{i}.yaml", f"#{' ' * 60_000}\nextends: {i + 1}.yaml")
    assert "more than 0.5 MB together" in message(["--config_path", str(tmp_path / "20.yaml")])


PIECES = st.sampled_from(
    [
        "seed",
        "coco_classes",
        "roi_layer",
        "extends",
        "<<",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "&b ",
        "*b",
        "!!int ",
        "!!binary ",
        "!!str ",
        "!!timestamp ",
        "!x ",
        "? ",
        ", ",
        "'",
        '"',
        "\\",
        "|\n",
        ">-\n",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "#",
        "1",
        "1_0",
        "0x1f",
        "1e9",
        ".nan",
        "2024-01-01",
        "~",
        "yes",
        "\t",
        "\x00",
        "\ufeff",
        "é",
        "\x85",
        "@",
        "`",
        "1:30",
        "cat",
        "7",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(PIECES, max_size=30))
def test_any_yaml_is_a_configuration_or_one_line(pieces, tmp_path, defaults, yaml_reader):
    path = write(tmp_path / "any.yaml", "".join(pieces))
    try:
        yaml_reader(path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def yaml_reader(defaults):
    """`load_config` without reading the file of defaults every time."""
    from src.model_utils.config import _merge
    from src.model_utils.configuration import yaml_files as config_yaml

    values = {key: getattr(defaults, key) for key in defaults}
    origins = {key: defaults.origin(key) for key in defaults}

    def read(path):
        chain = [(name, os.path.dirname(name), own) for name, own in config_yaml.read_chain(path)]
        own, _ = _merge(chain, ())
        Config({**values, **{k: v for k, v in own.items() if k in values}}, origins, {})

    return read


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--epoch_size 4000000000", "epoch_size: 4000000000 is too large; give at most 1000000"),
        ("--epoch_size 4e9", "epoch_size: 4000000000.0 is not a whole number"),
        (
            "--num_gts 1000000000",
            "num_gts: 1000000000 with img_width 1280, img_height 768 takes at "
            "least 491040 GB of memory, of 256 GB that a device may have; lower one of them",
        ),
        (
            "--img_width 32768 --img_height 32768",
            "img_width: 32768 with img_height 32768, "
            "fpn_out_channels 256, batch_size 2 takes at least 394 GB of memory, of 256 GB",
        ),
        ("--batch_size 60000", "batch_size: 60000 with img_width 1280"),
        ("--test_batch_size 60000", "test_batch_size: 60000 with img_width"),
        ("--fpn_out_channels 60000", "fpn_out_channels: 60000 with rcnn_fc_out_channels 1024"),
        ("--rpn_max_num 1000000 --fpn_out_channels 4096", "GB of memory"),
        ("--seed 4294967297", "give at most 2147483647"),
        ("--num_parallel_workers 1000000", "give at most 4096"),
        ("--rank_timeout 1e300", "give at most 100000000"),
        ("--test_max_per_img 1000000", "give at most 10000"),
    ],
)
def test_absurd_sizes(arguments, expected, monkeypatch):
    monkeypatch.setattr(config_memory, "machine_memory", lambda: 2**34)
    assert expected in message(arguments.split())


def test_what_this_machine_cannot_hold(defaults, monkeypatch):
    monkeypatch.setattr(config_memory, "machine_memory", lambda: 10**9)
    config = defaults.replace(device_target="CPU", batch_size=16)
    require_memory(config.replace(num_gts=10**5))
    with pytest.raises(UserError, match="batch_size: 16 with .* at least 3 GB of memory, of 1 GB"):
        require_memory(config, "batch_size")
    require_memory(config.replace(device_target="Ascend"), "batch_size")
    monkeypatch.setattr(config_memory, "machine_memory", lambda: None)
    require_memory(config, "batch_size")
