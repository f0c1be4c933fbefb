# SPDX-License-Identifier: Apache-2.0
"""What a description says of the tensors of its files, which are the same in all of them."""

from typing import Any

from ..base.errors import UserError
from .model_card import ModelCard

INPUTS, OUTPUTS = "inputs", "outputs"
_LONGEST_AXIS = 2**31


def tensor_names(card: ModelCard, side: str) -> list[str]:
    """Return what this project calls the tensors of a side, in the files' order.

    Args:
        card: the description.
        side: `INPUTS` or `OUTPUTS`.

    Returns:
        Those that the first file has; empty where the description does not say it.
    """
    return [str(tensor.get("name")) for tensor in _tensors(_entries(card)[0], side)]


def tensor_dtype(card: ModelCard, side: str, name: str) -> str:
    """Return the dtype of a tensor in the first file; empty where the description does not say it.

    Args:
        card: the description.
        side: `INPUTS` or `OUTPUTS`.
        name: of the tensor.
    """
    found = [t for t in _tensors(_entries(card)[0], side) if t.get("name") == name]
    return str(found[0].get("dtype", "")) if found else ""


def takes_any_batch(card: ModelCard) -> bool:
    """Say whether the files take any number of images, whatever number their shapes show.

    Args:
        card: the description.
    """
    form = card.content.get("form")
    return isinstance(form, dict) and form.get("dynamic_batch") is True


def axis_length(card: ModelCard, path: object, side: str, name: str, axis: int) -> int | None:
    """Return an axis' length of a tensor, which all files share; None where any length goes.

    Args:
        card: the description.
        path: of the description, for errors.
        side: `INPUTS` or `OUTPUTS`.
        name: of the tensor.
        axis: number of the axis.

    Raises:
        UserError: the description does not say it, or not the same of all files.
    """
    found = set()
    for entry in _entries(card):
        shapes = [t.get("shape") for t in _tensors(entry, side) if t.get("name") == name]
        shape = shapes[0] if shapes and isinstance(shapes[0], list) else []
        found.add(_length(shape[axis]) if len(shape) > axis else -1)
    length = found.pop() if len(found) == 1 else -1
    if length == -1:
        raise UserError(
            f"{path}: {side} does not say one shape of {name} for all files; export the model again"
        )
    return length


def _length(side: object) -> int | None:
    """An axis as a description has it: a number, or a name or null where any length goes."""
    if side is None or (isinstance(side, str) and side.isidentifier()):
        return None
    return side if type(side) is int and 0 < side < _LONGEST_AXIS else -1


def _entries(card: ModelCard) -> list[Any]:
    files = card.content.get("files")
    return files if isinstance(files, list) and files else [card.content]


def _tensors(entry: object, side: str) -> list[dict[str, Any]]:
    tensors = entry.get(side) if isinstance(entry, dict) else None
    return [t for t in tensors if isinstance(t, dict)] if isinstance(tensors, list) else []
