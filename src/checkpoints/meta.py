# SPDX-License-Identifier: Apache-2.0
"""The meta entry of a checkpoint: what it may say, checked before any of it is used.

The entry is a JSON object under `META_KEY` that says which model the weights belong to and, in
training checkpoints, where the run stood. A checkpoint can come from anybody, so every value that
is used has its check of type, range and length in `FIELDS`; what is not in there is passed over.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..base.errors import DamagedFileError, UserError
from ..base.messages import one_line, short
from ..FasterRcnn.names import LOSS_NAMES
from ..model_utils.configuration.schema import RULES
from ..model_utils.configuration.types import Rule, coerce, coerce_classes
from ..model_utils.configuration.weights import MODEL_KEYS, WEIGHT_KEYS

META_KEY = "faster_rcnn_meta"
META_VERSION = 1  # raise it when an older program would misunderstand what is written
VERSION_KEY = "format_version"
SETTINGS_KEY = "settings"

_LONGEST_TEXT = 200
_LONGEST_METRIC = _LONGEST_TEXT + 10  # that of a class has its name in it
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # what steers a terminal, breaks a line or cannot be written
_LONGEST_LIST = 64
_MOST_CLASSES = 10_000
_MOST_RANKS = 65_536
_MOST_PARTS = 10_000  # of an epoch
# Above what any detector has, where a configuration's own rule has no limit.
_AT_MOST = {
    "fpn_out_channels": 8192,
    "rpn_feat_channels": 8192,
    "rcnn_fc_out_channels": 65_536,
    "unused_outputs": 10_000,
    "rpn_nms_pre": 40_000,
    "rpn_nms_post": 40_000,
    "rpn_max_num": 20_000,
    "test_pre_nms_num": 40_000,
    "test_max_per_img": 40_000,
}

_COUNT = Rule("int", low=0, high=2**31 - 1)  # what the optimizer's int32 counter can hold
_FROM_ONE = Rule("int", low=1, high=2**31 - 1)
_FINITE = Rule("float")


def dump_meta(meta: Mapping[str, Any]) -> str:
    """Return the text of a meta entry.

    Args:
        meta: plain JSON values.
    """
    return json.dumps({VERSION_KEY: META_VERSION, **meta})


def parse_meta(text: str | None, path: Path) -> dict[str, Any]:
    """Read and check a meta entry.

    Args:
        text: the entry, None in the files of other programs.
        path: the file, for errors.

    Returns:
        what it says, of the keys in `FIELDS`; empty for None. A file without a version is one of
        the first.

    Raises:
        DamagedFileError: it is not JSON, or a value cannot be.
        UserError: a later version of this project wrote it.
    """
    if text is None:
        return {}
    try:
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise ValueError(f"it is {short(meta)}, not an object")
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{path}: its entry {META_KEY} cannot be read ({error}); take another checkpoint"
        ) from None
    try:
        version = coerce(_FROM_ONE, meta.get(VERSION_KEY, META_VERSION))
    except ValueError as error:
        raise _error(path, VERSION_KEY, meta[VERSION_KEY], str(error)) from None
    if version > META_VERSION:
        raise UserError(
            f"{path}: {VERSION_KEY} {version}: a later version of this project wrote it, this one "
            f"reads {VERSION_KEY} up to {META_VERSION}; use that version, or another checkpoint"
        )
    checked = {}
    for key in FIELDS.keys() & meta.keys():
        try:
            checked[key] = FIELDS[key](meta[key])
        except ValueError as error:
            raise _error(path, key, meta[key], str(error)) from None
    return checked


def require_run(meta: Mapping[str, Any], path: Path) -> None:
    """Check that a training checkpoint says all of where its run stood, and nothing impossible.

    Args:
        meta: what `parse_meta` returned.
        path: the file, for errors.

    Raises:
        DamagedFileError: it does not.
    """
    missing = [key for key in RUN_KEYS if key not in meta]
    if missing:
        raise DamagedFileError(
            f"{path}: its entry {META_KEY} lacks {missing[0]}; take another checkpoint"
        )
    done, steps, epoch = meta["step_in_epoch"], meta["steps_per_epoch"], meta["epoch"]
    if done > steps:
        raise _error(path, "step_in_epoch", done, f"is above steps_per_epoch {steps}")
    if meta["global_step"] != (epoch - 1) * steps + done:
        raise _error(
            path,
            "global_step",
            meta["global_step"],
            f"is not what epoch {epoch}, step_in_epoch {done} and steps_per_epoch {steps} make",
        )
    _require_parts(meta, path)
    ranks, logs = meta["world_size"], meta.get("loss_logs")
    if logs and len(logs) != ranks:
        raise _error(path, "loss_logs", logs, f"are {len(logs)} of world_size {ranks}")


def _require_parts(meta: Mapping[str, Any], path: Path) -> None:
    """Check that the parts of an epoch follow each other, and the run's own step them."""
    parts, seen = meta.get("epoch_parts", []), 0
    for batch, last in (*parts, (images_of_step(meta), meta["step_in_epoch"])):
        if -(-seen // batch) > last:  # the first whole step behind what has been seen
            raise _error(path, "epoch_parts", parts, "do not follow each other")
        seen = batch * last


def images_of_step(meta: Mapping[str, Any]) -> int:
    """Return the images of a step of a checkpoint's run, over all its processes.

    Args:
        meta: of a training checkpoint.
    """
    count: int = meta.get("accumulate_steps", 1)
    return int(meta["batch_size"] * meta["world_size"] * count)


def _error(path: Path, key: str, value: Any, problem: str) -> DamagedFileError:
    said = f"{key}: {short(value)} {one_line(problem, 200)}"
    return DamagedFileError(
        f"{path}: its entry {META_KEY} says {said}, so the file is damaged; take another checkpoint"
    )


def _text(value: Any, most: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"is not a text of at most {most} characters")
    if any(unicodedata.category(character) in _UNSEEN for character in value):
        raise ValueError("holds a control character")
    return value


def _class_names(value: Any) -> list[str]:
    """Check class names; returns them without the background."""
    if not isinstance(value, list) or len(value) > _MOST_CLASSES:
        raise ValueError(f"is not a list of at most {_MOST_CLASSES} names")
    for name in value:
        _text(name)
    return list(coerce_classes(value)[1:])


def check_setting(key: str, value: Any) -> Any:
    """Check the value of a key that belongs to weights, and that somebody else's file sets.

    Args:
        key: the setting's name.
        value: what the file says, of any type.

    Returns:
        the value in plain types.

    Raises:
        ValueError: by the key's own rule, or above the limits of size here; the text says why.
    """
    if key == "coco_classes":
        return ["background", *_class_names(value)]
    if isinstance(value, str):
        value = _text(value)
    if isinstance(value, list | dict) and len(value) > _LONGEST_LIST:
        raise ValueError(f"has {len(value)} elements; at most {_LONGEST_LIST} can be")
    checked = coerce(RULES[key], value)
    if key in _AT_MOST and checked > _AT_MOST[key]:
        raise ValueError(f"is too large; at most {_AT_MOST[key]} can be")
    return list(checked) if isinstance(checked, tuple) else checked


def _settings(value: Any) -> dict[str, Any]:
    """Check the settings that belong to the weights; others keep their place, with no value."""
    settings = _object(value)
    if len(settings) > len(RULES):
        raise ValueError(f"has {len(settings)} keys; there are {len(RULES)}")
    checked = {}
    for key, item in settings.items():
        try:
            checked[key] = check_setting(key, item) if key in WEIGHT_KEYS else None
        except ValueError as error:
            raise ValueError(f"with {key}: {short(item)}, which {error}") from None
    return checked


def _object(value: Any, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    missing = [key for key in keys if key not in value]
    if missing:
        raise ValueError(f"lacks {missing[0]}")
    return value


def _loss_scaler(value: Any) -> dict[str, Any]:
    state = _object(value, ("scale", "good_steps"))
    return {
        "scale": coerce(Rule("float", above=0.0, high=2.0**30), state["scale"]),
        "good_steps": coerce(_COUNT, state["good_steps"]),
    }


def _loss_log(value: Any) -> dict[str, Any]:
    state = _object(value, ("sums", "count"))
    sums = coerce(Rule("floats", length=len(LOSS_NAMES)), state["sums"])
    return {"sums": list(sums), "count": coerce(_COUNT, state["count"])}


def _loss_logs(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > _MOST_RANKS:
        raise ValueError(f"is not a list of at most {_MOST_RANKS} states")
    return [_loss_log(state) for state in value]


def _epoch_parts(value: Any) -> list[list[int]]:
    if not isinstance(value, list) or len(value) > _MOST_PARTS:
        raise ValueError(f"is not a list of at most {_MOST_PARTS} parts")
    return [list(coerce(Rule("ints", length=2, low=1, high=2**31 - 1), part)) for part in value]


def _best(value: Any) -> dict[str, Any]:
    """Check what says which weights were the best; before there were other metrics it was `ap`."""
    state = _object(value)
    if not state:
        return {}
    if "ap" in state:
        state = {"metric": "ap", "value": state["ap"], **state}
    _object(state, ("metric", "value", "epoch"))
    number = coerce(_FINITE, state["value"])
    return {
        "metric": _text(state["metric"], _LONGEST_METRIC),
        "value": number,
        "epoch": coerce(_FROM_ONE, state["epoch"]),
        "level": coerce(_FINITE, state.get("level", number)),
        "waited": coerce(_COUNT, state.get("waited", 0)),
        "judged": coerce(_COUNT, state.get("judged", 0)),
    }


def _mean(value: Any) -> dict[str, Any]:
    """Check the unfinished mean of a number."""
    state = _object(value, ("sum", "count"))
    return {"sum": coerce(_FINITE, state["sum"]), "count": coerce(_COUNT, state["count"])}


# Of a training run; all of these are needed to go on from a checkpoint.
_RUN_FIELDS: dict[str, Callable[[Any], Any]] = {
    "batch_size": partial(coerce, _FROM_ONE),
    "world_size": partial(coerce, _FROM_ONE),
    "steps_per_epoch": partial(coerce, _FROM_ONE),
    "epoch": partial(coerce, _FROM_ONE),
    "step_in_epoch": partial(coerce, _COUNT),
    "global_step": partial(coerce, _COUNT),
    "loss_scaler": _loss_scaler,
    "skipped": partial(coerce, _COUNT),
    "loss_log": _loss_log,
    "best": _best,
}
RUN_KEYS = tuple(_RUN_FIELDS)
FIELDS: dict[str, Callable[[Any], Any]] = {
    **{key: partial(check_setting, key) for key in MODEL_KEYS},
    "class_names": _class_names,
    "source": _text,
    SETTINGS_KEY: _settings,
    "frozen_stages": partial(coerce, RULES["frozen_stages"]),
    "num_images": partial(coerce, _FROM_ONE),
    "seed": partial(coerce, RULES["seed"]),
    "annotations_sha256": _text,
    "train_sampler": _text,
    "repeat_threshold": partial(coerce, RULES["repeat_threshold"]),
    **_RUN_FIELDS,
    "accumulate_steps": partial(coerce, RULES["accumulate_steps"]),
    "loss_logs": _loss_logs,
    "gradient_norm": _mean,
    "epoch_parts": _epoch_parts,  # of an epoch in which the number of processes has changed
}
