# SPDX-License-Identifier: Apache-2.0
"""Frozen statistics and stages belong to pretrained weights: what is used without, and later."""

import pytest

from src.base.errors import UserError
from src.checkpoints.file import read_checkpoint
from src.model_utils.config import load_config
from src.training.frozen_parts import settings_from_scratch, settings_of_run
from tests.helpers.tiny_run import make_data, tiny_config
from tests.helpers.tiny_training import train_tiny

CPU = ("--device_target", "CPU")
DEEPER = ("--config_path", "default_config_101.yaml")


@pytest.mark.parametrize("files", [(), DEEPER])
def test_defaults_give_way_without_weights(files, repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    config, lines = settings_from_scratch(load_config([*CPU, *files]))
    assert (config.norm, config.frozen_stages) == ("bn", 0)
    assert lines == [
        "no weights given (pre_trained is empty): training from scratch, with norm bn and "
        "frozen_stages 0"
    ]


@pytest.mark.parametrize(
    "given, norm, frozen, parts",
    [
        (["--norm", "gn"], "gn", 0, ["training from scratch, with frozen_stages 0"]),
        (["--norm", "bn", "--frozen_stages", "0"], "bn", 0, []),
        (
            ["--norm", "frozen_bn"],
            "frozen_bn",
            0,
            ["with frozen_stages 0", "but norm frozen_bn keeps random values"],
        ),
        (["--frozen_stages", "2"], "bn", 2, ["with norm bn", "but frozen_stages 2 keeps random"]),
        (
            ["--norm", "frozen_bn", "--frozen_stages", "2"],
            "frozen_bn",
            2,
            [
                "WARNING: .* but norm frozen_bn and frozen_stages 2 keeps "
                ".* --norm bn --frozen_stages"
            ],
        ),
    ],
)
def test_what_is_set_stays_with_a_warning(given, norm, frozen, parts):
    import re

    config, lines = settings_from_scratch(load_config([*CPU, *given]))
    assert (config.norm, config.frozen_stages) == (norm, frozen)
    assert len(lines) == len(parts)
    for part, line in zip(parts, lines, strict=True):
        assert re.search(part, line)


def test_a_run_goes_on_with_its_own():
    plain = load_config(CPU)
    assert settings_of_run(plain, {"norm": "bn", "frozen_stages": 0}).frozen_stages == 0
    assert settings_of_run(plain, {"norm": "frozen_bn"}) == plain  # of before this was stored
    given = load_config([*CPU, "--norm", "gn"])
    assert settings_of_run(given, {"norm": "bn", "frozen_stages": 1}).norm == "gn"
    with pytest.raises(UserError, match="resume x: its checkpoint says: .*norm: 'x'"):
        settings_of_run(load_config([*CPU, "--resume", "x"]), {"norm": "x"})


def test_what_a_run_really_has_is_kept_and_gone_on_with(tmp_path, capsys):
    root = make_data(tmp_path / "data")

    def run(output, **changes):
        config = tiny_config(root, tmp_path / output, steps_per_epoch_limit=1, **changes)
        assert train_tiny(config) == 0
        saved = load_config(["--config_path", str(tmp_path / output / "config.yaml")])
        return (saved.norm, saved.frozen_stages), capsys.readouterr().out

    def stored(output, epoch):
        path = tmp_path / output / "ckpt_0" / f"faster_rcnn-{epoch}_1.ckpt"
        return [read_checkpoint(path).meta[key] for key in ("norm", "frozen_stages")]

    assert run("scratch", epoch_size=1)[0] == ("bn", 0) and stored("scratch", 1) == ["bn", 0]
    kept, out = run("scratch", epoch_size=2, resume="auto")
    assert kept == ("bn", 0) and stored("scratch", 2) == ["bn", 0]
    assert "from scratch" not in out and "changed since the run's last start: norm" not in out

    weights = tmp_path / "scratch" / "ckpt_0" / "faster_rcnn-1_1.ckpt"
    assert run("tuned", epoch_size=1, pre_trained=weights)[0] == ("frozen_bn", 2)
    assert run("tuned", epoch_size=2, resume="auto")[0] == ("frozen_bn", 2)  # without pre_trained
    kept, out = run("anew", epoch_size=1, resume="auto")
    assert kept == ("bn", 0) and "nothing to resume" in out and "from scratch" in out
