# SPDX-License-Identifier: Apache-2.0
"""An exported model in the place of a network, with the settings of its description."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..base.messages import short_list
from ..export.model_card import description_of
from ..export.model_set import ExportedModel
from ..images.batching import NetworkInput
from ..images.geometry import canvas_text
from ..images.views import views_of
from ..model_utils.config import Config
from .choosing import exported_format, runs_in_mindspore, runtime_choice
from .interface import OpenBackend


class ExportedBackend:
    """A `Backend` of an exported model.

    Args:
        model: of one description.
        config: with the settings of the model.

    Attributes:
        views: the one that the model has.
    """

    def __init__(self, model: ExportedModel, config: Config) -> None:
        self.views = views_of(config)
        self._model = model

    def __call__(self, inputs: Sequence[NetworkInput]) -> list[np.ndarray]:
        """See `Backend.__call__`."""
        return self._model(*inputs[0])

    def detect(self, image: np.ndarray, meta: np.ndarray) -> list[np.ndarray]:
        """See `Backend.detect`."""
        return self._model(image, meta)


def open_exported(config: Config) -> OpenBackend:
    """Open the exported model that `checkpoint_path` names, with all its canvases.

    Args:
        config: of the user; what belongs to the model is taken from its description.

    Raises:
        UserError: it cannot be used, or the configuration wants of it what it does not have.
    """
    file_format = exported_format(config.checkpoint_path)
    path = description_of(os.path.expanduser(config.checkpoint_path), f".{file_format.lower()}")
    model = ExportedModel(path, runtime_choice(config))
    if model.card.content.get("file_format") != file_format:
        raise UserError(f"{path}: describes no {file_format} model; export the model again")
    refuse_views(config, path)
    config, replaced = with_model(config, model)
    model.load()
    lines = []
    if replaced:
        lines.append(f"of the model, not of the configuration: {short_list(replaced)}")
    checkpoint = model.card.content.get("checkpoint")
    epoch = checkpoint.get("epoch") if isinstance(checkpoint, dict) else None
    return OpenBackend(
        ExportedBackend(model, config),
        config,
        source=f"model {path}",
        runtime=model.runtime,
        lines=lines,
        epoch=epoch if type(epoch) is int else None,
        folder=file_format.lower(),
    )


def refuse_views(config: Config, path: Path) -> None:
    """Refuse test-time augmentation: it puts views together before NMS, which is in the file.

    Args:
        config: uses test_flip and test_scales.
        path: of the description, for the error.

    Raises:
        UserError: the user asks for it.
    """
    if len(views_of(config)) > 1 or list(config.test_scales) != [1.0]:
        key = "test_flip" if config.test_flip else "test_scales"
        raise UserError(
            f"{config.origin(key)}: {key}: {path} is an exported model, which looks at one view; "
            f"leave {key} out, or give the checkpoint"
        )


def with_model(config: Config, model: ExportedModel) -> tuple[Config, list[str]]:
    """Return the configuration with what belongs to an exported model.

    Args:
        config: of the user.
        model: as it has been exported.

    Returns:
        The configuration, and the keys that the user had set to something else.
    """
    picture, rule = model.input, model.input.rule
    changes: dict[str, Any] = {
        "resize": rule.kind,
        "canvases": [canvas_text(canvas) for canvas in rule.canvases],
        "min_size": list(rule.min_sizes),
        "max_size": rule.max_size,
        "resize_like": rule.like,
        "pixel_mean": list(picture.mean),
        "pixel_std": list(picture.std),
        "channel_order": picture.channel_order,
        "pad_before_normalize": picture.pad_before_normalize,
        "coco_classes": list(model.card.class_names),
        "num_classes": None,
        "test_max_per_img": model.rows,
    }
    if not runs_in_mindspore(config):
        changes["device_target"] = "CPU"
    if model.batch is not None:
        changes["test_batch_size"] = model.batch
    changed = config.replace(**changes)
    differ = [key for key in changes if getattr(config, key) != getattr(changed, key)]
    return changed, [key for key in differ if config.is_given(key)]
