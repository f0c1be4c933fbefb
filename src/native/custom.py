# SPDX-License-Identifier: Apache-2.0
"""A function of our library as an operator of MindSpore."""

from collections.abc import Callable
from typing import Any

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .build import Library

Shape = list[int]


def operator(
    library: Library, name: str, shapes: Callable[..., Any], types: Callable[..., Any] | None = None
) -> ops.Custom:
    """Return the operator.

    Args:
        library: our compiled operators, of `build.library()`.
        name: of the function.
        shapes: the inputs' shapes -> that of the output, or a tuple.
        types: the inputs' types -> that of the output, or a tuple; float32 unless given.
    """
    return ops.Custom(f"{library.path}:{name}", shapes, types or _float32, "aot")


def given(tensor: Tensor | None) -> tuple[Tensor, ...]:
    """Return an optional input of an operator as a tuple of one or none.

    Args:
        tensor: None is left out.
    """
    return () if tensor is None else (tensor,)


def no_gradient(tensor: Tensor | None) -> Tensor | None:
    """Return the gradient of an optional input that has none.

    Args:
        tensor: the input.
    """
    return None if tensor is None else ops.zeros_like(tensor)


def agree(fits: bool, *shapes: Shape) -> None:
    """Refuse shapes.

    Args:
        fits: whether they are what an operator takes.
        shapes: for the error.

    Raises:
        ValueError: they are not.
    """
    if not fits:
        raise ValueError(f"the shapes {', '.join(map(str, shapes))} do not fit together")


def _float32(first: mstype.Type, *others: mstype.Type) -> mstype.Type:
    # A parameter's type is a Ref[Tensor[Float32]], which is equal to nothing.
    if "Float32" not in str(first):
        raise TypeError(f"the CPU operators take float32, not {first}")
    return mstype.float32
