# SPDX-License-Identifier: Apache-2.0
"""Which backbone of `names.BACKBONES` the parameters of a file are."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from ..FasterRcnn.names import BACKBONES, TORCH_STYLE, Backbone


class BackboneForm(NamedTuple):
    """What shapes tell of a backbone; where it has its strides they do not tell.

    Attributes:
        blocks: of the third stage.
        is_basic: whether blocks are without 1x1 convolutions.
        groups, base_width: see `Backbone`.
    """

    blocks: int
    is_basic: bool
    groups: int
    base_width: int

    def __str__(self) -> str:
        """What a person would say of it."""
        kind = "basic" if self.is_basic else "bottleneck"
        groups = f"{self.groups} groups of " if self.groups > 1 else ""
        return f"{self.blocks} {kind} blocks in the third stage, {groups}{self.base_width} channels"


def form_of_plan(plan: Backbone) -> BackboneForm:
    """Return the form of a known backbone.

    Args:
        plan: of `names.BACKBONES`.
    """
    return BackboneForm(plan.blocks[2], plan.is_basic, plan.groups, plan.base_width)


def form_of_shapes(shape_of: Callable[[str], tuple[int, ...] | None]) -> BackboneForm | None:
    """Return the form of a file's backbone; None where its first block is no ResNet's.

    Args:
        shape_of: our name of a parameter -> its shape; None where the file has none.
    """
    blocks = next(n for n in count() if shape_of(f"backbone.layer3.{n}.conv1.weight") is None)
    filters = shape_of("backbone.layer1.0.conv2.weight") or ()
    if not blocks or len(filters) != 4 or not all(filters) or filters[0] % filters[1]:
        return None
    is_basic = shape_of("backbone.layer3.0.conv3.weight") is None
    return BackboneForm(blocks, is_basic, filters[0] // filters[1], filters[1])


def backbone_named(form: BackboneForm, style: str) -> str | None:
    """Return the configuration's name of a backbone; None when it has none.

    Args:
        form: of `form_of_shapes`.
        style: `TORCH_STYLE` or `CAFFE_STYLE`. Whatever it is, a ResNeXt has its stride in the 3x3
            convolution, as those of Caffe2 have, and a basic block has no 1x1.
    """
    style = TORCH_STYLE if form.groups > 1 or form.is_basic else style
    for name, plan in BACKBONES.items():
        if (form_of_plan(plan), plan.style) == (form, style):
            return name
    return None


def title_of(form: BackboneForm) -> str | None:
    """Return what people call a backbone, whatever its style; None when it is no known one.

    Args:
        form: of `form_of_shapes`.
    """
    return next((p.title for p in BACKBONES.values() if form_of_plan(p) == form), None)


def known_titles() -> tuple[str, ...]:
    """Return what people call the known backbones."""
    return tuple(dict.fromkeys(plan.title for plan in BACKBONES.values()))
