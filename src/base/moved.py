# SPDX-License-Identifier: Apache-2.0
"""Modules under the names that they had in 0.1.0: importable until 1.0, with a warning.

Scripts of users import them. Nothing in this project does.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # at run time it would cost 30 ms of every start
    from importlib.abc import Loader

MOVED = {
    "annotations": "data.coco_annotations data.txt_annotations data.records",
    "arguments": "base.arguments",
    "checkpoint": "checkpoints.file",
    "checkpoint_families": "checkpoints.families",
    "checkpoint_loading": "checkpoints.loading",
    "checkpoint_settings": "checkpoints.settings",
    "coco_eval": "evaluation.coco",
    "compile_cache": "graph_cache.compile_cache",
    "data_source": "data.source",
    "drawing": "pictures.drawing",
    "errors": "base.errors",
    "export_plan": "export.plan",
    "exported_model": "export.exported_model",
    "exporting": "export.run",
    "graph_digest": "graph_cache.graph_digest",
    "image_ops": "images.ops images.reading",
    "launch": "processes.launch",
    "loss_curve": "pictures.loss_curve",
    "mindrecord": "data.mindrecord",
    "model_card": "export.model_card",
    "model_utils.config_cli": "model_utils.configuration.command_line",
    "model_utils.config_derived": "model_utils.configuration.derived",
    "model_utils.config_schema": "model_utils.configuration.schema",
    "model_utils.config_types": "model_utils.configuration.types",
    "model_utils.config_yaml": "model_utils.configuration.yaml_files",
    "model_utils.config_zoo": "model_utils.configuration.zoo",
    "model_utils.object_store": "storage.object_store",
    "model_utils.transfer": "storage.transfer",
    "one_at_a_time": "base.one_at_a_time",
    "postprocessing": "evaluation.postprocessing",
    "prediction": "predicting.run predicting.entries predicting.names",
    "pretrained": "checkpoints.pretrained",
    "process_group": "processes.process_group",
    "rank_table": "processes.rank_table",
    "ranks": "processes.ranks",
    "record_writer": "data.record_writer",
    "records": "data.records",
    "result_files": "evaluation.result_files",
    "resume": "training.resume",
    "safe_zip": "storage.safe_zip",
    "training_run": "training.run",
    "user_cache": "base.user_cache",
}


def admit_old_names(package: str) -> None:
    """Let `import` find the modules of `package` under their old names, when it finds no other.

    Args:
        package: its name, "src" or "faster_rcnn".
    """
    sys.meta_path.append(_OldNames(package))


class _OldNames:
    """A finder and loader: gives the module of today where one of before is asked for."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return (
            ModuleSpec(fullname, cast("Loader", self))
            if package == self.package and name in MOVED
            else None
        )

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        names = [f"{self.package}.{name}" for name in MOVED[spec.name.partition(".")[2]].split()]
        warnings.warn(
            f"{spec.name} is now {', '.join(names)}; the old name goes with version 1.0",
            DeprecationWarning,
            stacklevel=2,
        )
        parts = [importlib.import_module(name) for name in names]
        spec.loader_state = parts[0].__spec__
        if len(parts) == 1:
            return parts[0]
        module = ModuleType(spec.name, parts[0].__doc__)
        for part in reversed(parts):
            vars(module).update({n: v for n, v in vars(part).items() if not n.startswith("__")})
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if (
            spec is not None
            and spec.loader is cast("Loader", self)
            and module.__name__ != spec.name
        ):
            module.__spec__ = spec.loader_state  # the import system has put the old name in
