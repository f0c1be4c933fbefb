# SPDX-License-Identifier: Apache-2.0
"""The advice as a YAML file that --config_path takes."""

import os
import textwrap
from typing import Any

from ..model_utils.config import Config, load_config
from ..model_utils.configuration.command_line import COMMAND_LINE
from ..model_utils.configuration.schema import RULES, SECTIONS
from ..model_utils.configuration.yaml_files import EXTENDS, write_yaml
from .advice import Advised

_WIDTH = 98


def write_advice(path: str, config: Config, advised: Advised, *, evaluates: bool) -> Config:
    """Write the data's place, its classes and the advised values; return what they load to.

    The file goes on from the user's own: it extends it, and repeats what the command line said.

    Args:
        path: of the file.
        config: the present settings, with the data's classes.
        advised: what to change.
        evaluates: there is a validation part: unless the user has said otherwise, every epoch ends
            with a look at it, which tells the best weights.

    Raises:
        UserError: it cannot be written.
    """
    values: dict[str, Any] = {EXTENDS: config.files[-1]} if config.files else {}
    plain = config.to_dict()
    for key in SECTIONS["Data"]:
        if config.is_given(key):
            values[key] = _absolute(key, plain[key])
    values |= {k: plain[k] for k in plain if config.origin(k) == COMMAND_LINE and k not in values}
    for key in ("num_classes", "output_dir"):  # it follows from the classes; it is the check's
        values.pop(key, None)
    values["coco_classes"] = list(config.class_names)
    values |= advised.keys()
    if evaluates and not config.is_given("eval_interval"):
        values["eval_interval"] = 1
    write_yaml(path, values, comments=_comments(advised))
    return load_config(["--config_path", path])


def _absolute(key: str, value: Any) -> Any:
    return os.path.abspath(value) if RULES[key].kind == "path" and value else value


def _comments(advised: Advised) -> tuple[str, ...]:
    lines = ["Advice of a data check; --config_path takes it. Change what you know better."]
    for item in advised.items:
        if item.keys:
            lines.append(f"{item.topic}: {', '.join(item.keys)}")
            lines += [f"  {line}" for line in textwrap.wrap(item.why, _WIDTH - 4)]
    return tuple(lines)
