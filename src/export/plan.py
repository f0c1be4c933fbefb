# SPDX-License-Identifier: Apache-2.0
"""What export.py is to do, checked before anything is built. Without MindSpore."""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..base.errors import UserError
from ..model_utils.config import Config
from .formats import FORMATS, Format, missing
from .onnx_form import OnnxForm


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """Where from, where to and what for.

    Attributes:
        checkpoint: the file with the weights.
        checkpoint_key: the setting that named it.
        path: the model file that is to be written.
        target: "CPU", "GPU" or "Ascend": the device whose operators the graph is made of.
        form: of an ONNX file.
    """

    checkpoint: str
    checkpoint_key: str
    path: Path
    target: str
    form: OnnxForm = field(default_factory=OnnxForm)


def plan_export(config: Config) -> ExportPlan:
    """Decide what an export writes.

    Args:
        config: uses ckpt_file or checkpoint_path, file_name, file_format, export_target,
            device_target, compute_type, check, and what `OnnxForm` uses.

    Raises:
        UserError: it cannot be done here, or a needed setting is empty.
    """
    name, file_format = config.file_format, FORMATS[config.file_format]
    if file_format.only_on not in ("", config.device_target):
        raise UserError(
            f"file_format {name} ({config.origin('file_format')}) with device_target "
            f"{config.device_target}: MindSpore writes {name} on {file_format.only_on} hardware "
            f"only; give --device_target {file_format.only_on} on such a machine, or --file_format "
            "MINDIR"
        )
    if config.compute_type == "bf16":
        raise UserError(
            f"{config.origin('compute_type')}: compute_type: 'bf16' is for training and "
            "evaluation; export in fp16 or fp32"
        )
    key = "ckpt_file" if config.ckpt_file or not config.checkpoint_path else "checkpoint_path"
    checkpoint = getattr(config, key)
    if not checkpoint:
        raise UserError(
            f"ckpt_file is empty ({config.origin('ckpt_file')}); give the detector to export with "
            "--ckpt_file FILE"
        )
    for package in file_format.needs:
        if not importlib.util.find_spec(package):
            raise UserError(f"file_format {name}: {missing(package)}")
    package = file_format.package
    if config.check and file_format.open and not importlib.util.find_spec(package):
        raise UserError(
            f"check True: comparing an {name} file needs the package {package}; install it "
            f"(pip install {package}), or give --check False"
        )
    form = OnnxForm.from_config(config)
    path = _model_path(config, file_format.ending)
    return ExportPlan(checkpoint, key, path, _target(config, file_format), form)


def _target(config: Config, file_format: Format) -> str:
    target = config.export_target
    if target == "auto":
        return file_format.target or config.device_target
    if target in file_format.unfit:
        raise UserError(
            f"export_target {target} with file_format {config.file_format}: "
            f"{file_format.unfit[target]}; give --file_format MINDIR, or leave export_target out"
        )
    return target


def _model_path(config: Config, ending: str) -> Path:
    """The file to write: `file_name` with the format's ending, in a folder that exists."""
    name = os.path.expanduser(config.file_name)
    if name.lower().endswith(ending):
        name = name[: -len(ending)]
    path = Path(name + ending)  # in small letters: MindSpore loads no other
    if not path.parent.is_dir():
        raise UserError(f"file_name {config.file_name}: there is no folder {path.parent}; make it")
    if path.is_dir():
        raise UserError(f"file_name {config.file_name}: {path} is a folder; choose another name")
    return path
