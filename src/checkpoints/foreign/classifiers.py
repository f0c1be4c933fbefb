# SPDX-License-Identifier: Apache-2.0
"""Classifiers, whose backbones detectors start from."""

import re
from collections.abc import Callable
from typing import Any

from ...FasterRcnn.names import BACKBONES
from .. import families
from ..file import STATE_NAMES
from . import naming
from .conversion import COUNTERS, Conversion, ConversionOptions, ParameterPool, choose_backbone
from .parameters import backbone_shapes
from .reading import Source
from .style import choose_style, pixel_settings


def classifier(
    names: Callable[[str], str],
    head: str,
    title: str,
    family: str,
    spelling: Callable[[str], str] = str,
    **changes: Any,
) -> Callable[[Source, ConversionOptions], Conversion]:
    """Return the converter of a kind of classifier.

    Args:
        names: our name -> the file's.
        head: regular expression of what is not backbone.
        title: for people.
        family: whose settings it shares.
        spelling: see `ParameterPool`.
        changes: settings that differ from the family's.
    """

    def converter(source: Source, options: ConversionOptions) -> Conversion:
        pool = ParameterPool(source, names, spelling)
        dropped = [
            (pool.drop(re.compile(head).fullmatch), "the classifier"),
            (pool.drop(COUNTERS), "counters of training"),
            (pool.drop(STATE_NAMES.match), "state of the optimizer"),
        ]
        backbone = choose_backbone(pool, "torch", options)
        plan = BACKBONES[backbone]
        conversion = Conversion(source, f"{title} {plan.title} backbone, {backbone}")
        settings = {**families.FAMILIES[family], **changes}
        conversion.settings = {k: settings[k] for k in families.BACKBONE_KEYS}
        conversion.settings["backbone"] = backbone
        conversion.arrays, conversion.rows = pool.take_all(backbone_shapes(backbone))
        for group, why in dropped:
            conversion.drop(group, why)
        return conversion

    return converter


def detectron2_backbone(source: Source, options: ConversionOptions) -> Conversion:
    """Convert detectron2's form of an ImageNet classifier: names of stages, as Caffe2 has them.

    Args:
        source: the file.
        options: what the user has said about it.
    """
    pool = ParameterPool(source, naming.DETECTRON2_BACKBONE)
    dropped = pool.drop(re.compile(r"(stem\.fc|linear|fc)\..*").fullmatch)
    counters = pool.drop(COUNTERS)
    style, reason = choose_style(pool, options, {})
    backbone = choose_backbone(pool, style, options)
    conversion = Conversion(source, f"detectron2 backbone, {style} style, {backbone}")
    settings = {**families.FAMILIES[families.DETECTRON2], **pixel_settings(style, {}, backbone)}
    conversion.settings = {k: settings[k] for k in families.BACKBONE_KEYS}
    conversion.settings["backbone"] = backbone
    conversion.arrays, conversion.rows = pool.take_all(backbone_shapes(backbone))
    conversion.drop(dropped, "the classifier")
    conversion.drop(counters, "counters of training")
    conversion.assumed.append(f"{style} style {reason}")
    return conversion
