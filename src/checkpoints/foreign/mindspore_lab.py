# SPDX-License-Identifier: Apache-2.0
"""The RCNN of mindspore-lab's models: a Faster R-CNN of its own form."""

from .. import families
from ..file import STATE_NAMES, canonical_name
from . import naming
from .classes import pick_classes
from .conversion import Conversion, ConversionOptions, ParameterPool, choose_backbone
from .heads import CLS, bias_length, fill_detector, read_form
from .reading import Source

_OTHERWISE = (
    "proposals by this project's rules: mindspore-lab has a second NMS over all levels together, "
    "and its boxes end a pixel before the canvas does",
    "pictures that shrink are interpolated (resize_like opencv): mindspore-lab averages their "
    "pixels",
)


def convert_mindspore_lab(source: Source, options: ConversionOptions) -> Conversion:
    """Give a checkpoint this project's names, shapes and settings.

    The names are MindSpore's for a backbone, and of its own for neck and heads. The background is
    its last class, and pictures are padded before they are normalised.

    Args:
        source: the file as it was read.
        options: what the user has said about it.

    Raises:
        UserError: something is missing or left over.
    """
    pool = ParameterPool(source, naming.MINDSPORE_LAB, canonical_name)
    state = pool.drop(STATE_NAMES.match)
    backbone = choose_backbone(pool, "torch", options)
    total = bias_length(pool, f"{CLS}bias")
    picker = pick_classes(
        source.path, total, options, background_first=False, background_deltas=False
    )
    conversion = Conversion(source, f"mindspore-lab Faster R-CNN, {total} outputs")
    conversion.settings = families.family_settings(families.MINDSPORE_LAB, backbone)
    form = read_form(pool, naming.MINDSPORE_LAB)
    fill_detector(conversion, pool, backbone, picker, form)
    conversion.drop(state, "state of the optimizer")
    conversion.assumed += _OTHERWISE
    return conversion
