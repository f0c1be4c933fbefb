# SPDX-License-Identifier: Apache-2.0
"""Who may name a program (`callbacks`): the user alone."""

import pytest

from src.base.errors import UserError
from src.checkpoints.run_config import adopt_run_config
from src.model_utils.config import load_config
from src.model_utils.configuration.schema import CODE_KEYS
from src.model_utils.configuration.weights import WEIGHT_KEYS


def test_the_command_line_and_the_user_s_own_file(tmp_path):
    given = load_config(["--callbacks", "my.Hook", "other.Hook"])
    assert given.callbacks == ("my.Hook", "other.Hook")
    (tmp_path / "mine.yaml").write_text("callbacks: [my.Hook]\n")
    (tmp_path / "more.yaml").write_text("extends: mine.yaml\nseed: 2\n")
    assert load_config(["--config_path", str(tmp_path / "more.yaml")]).callbacks == ("my.Hook",)


def test_a_run_does_not_save_it(tmp_path):
    config = load_config(["--callbacks", "my.Hook", "--seed", "5"])
    config.save(str(tmp_path / "config.yaml"))
    assert "my.Hook" not in (tmp_path / "config.yaml").read_text()
    again = load_config(["--config_path", str(tmp_path / "config.yaml")])
    assert again == config.replace(callbacks=[])


@pytest.mark.parametrize("beside", ["ckpt_0", "metrics.jsonl", "environment.json", None])
def test_no_file_of_a_run_s_folder_names_programs(tmp_path, beside):
    """Neither one that says it was saved by a run, nor one that lies where a run was."""
    run = tmp_path / "run"
    run.mkdir()
    path = run / "config.yaml"
    if beside:
        (run / beside).touch()
        path.write_text("callbacks: [evil.Hook]\n")
    else:
        load_config([]).save(str(path))
        path.write_text(path.read_text() + "callbacks: [evil.Hook]\n")
    (tmp_path / "mine.yaml").write_text("extends: run/config.yaml\n")
    (tmp_path / "link.yaml").symlink_to(path)
    for name in ("run/config.yaml", "mine.yaml", "link.yaml"):
        with pytest.raises(
            UserError, match="callbacks: .*evil.Hook.* names programs, which a file"
        ):
            load_config(["--config_path", str(tmp_path / name)])
    path.write_text("seed: 3\n")
    assert load_config(["--config_path", str(tmp_path / "mine.yaml")]).seed == 3


def test_a_file_that_nobody_has_named_sets_none(tmp_path):
    (tmp_path / "config.yaml").write_text("callbacks: [evil.Hook]\nimg_width: 320\n")
    config = load_config(["--checkpoint_path", str(tmp_path / "a.ckpt")])
    adopted, lines = adopt_run_config(config)
    assert adopted.callbacks == () and adopted.img_width == 320
    assert "not callbacks" in lines[-1]
    with pytest.raises(UserError, match="names programs"):
        config.adopt({"callbacks": ["evil.Hook"]}, "a file")
    assert CODE_KEYS == ("callbacks",) and not set(CODE_KEYS) & set(WEIGHT_KEYS)
