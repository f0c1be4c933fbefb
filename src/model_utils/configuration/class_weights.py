# SPDX-License-Identifier: Apache-2.0
"""The weights of the classes in the second stage's loss: a list, or by the classes' names."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...base.errors import UserError
from ...base.file_names import one_form
from ...base.messages import short, short_list
from .derived import ConfigLike

_KEY = "rcnn_class_weights"
_MOST_TIMES = 1e6  # the largest weight over the smallest one: float32 has to hold both


def class_weights(config: ConfigLike) -> tuple[float, ...]:
    """Return a weight for each class, the background's first; empty where all count alike.

    Whether they fit the classes is known only here: data can name the classes.

    Args:
        config: its classes are those of the run.

    Raises:
        UserError: the weights are of other classes, all are 0, or some far larger than others.
    """
    given = config.rcnn_class_weights
    if not given:
        return ()
    weights = _by_name(config, given) if isinstance(given, Mapping) else _in_order(config, given)
    if not any(weights):
        raise _error(config, given, "has no weight above 0; give one")
    if max(weights) > _MOST_TIMES * min(weight for weight in weights if weight):
        raise _error(
            config, given, f"has weights that are more than {_MOST_TIMES:g} times others; give 0"
        )
    return weights


def _by_name(config: ConfigLike, given: Mapping[str, float]) -> tuple[float, ...]:
    names = tuple(map(one_form, config.coco_classes))
    weights = {one_form(name): weight for name, weight in given.items()}
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise _error(
            config, unknown[0], f"is no class; the classes are {short_list(list(names), 12)}"
        )
    return tuple(weights.get(name, 1.0) for name in names)


def _in_order(config: ConfigLike, given: Sequence[float]) -> tuple[float, ...]:
    if len(given) != len(config.coco_classes):
        names = short_list(list(config.coco_classes), 12)
        raise _error(
            config,
            list(given),
            f"has {len(given)} weights for {len(config.coco_classes)} classes with the background "
            f"({names}); give one for each in this order, or {{name: weight}}",
        )
    return tuple(given)


def _error(config: ConfigLike, value: Any, problem: str) -> UserError:
    return UserError(f"{config.origin(_KEY)}: {_KEY}: {short(value)} {problem}")
