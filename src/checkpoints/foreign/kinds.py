# SPDX-License-Identifier: Apache-2.0
"""The kinds of checkpoints: recognised by names, converted by one function each."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...base.errors import UserError
from ...base.messages import short_list
from .. import families
from ..file import STATE_NAMES, canonical_name
from . import naming
from .classes import pick_classes
from .classifiers import classifier, detectron2_backbone
from .conversion import COUNTERS, Conversion, ConversionOptions, ParameterPool, choose_backbone
from .heads import CLS, bias_length, fill_detector, read_form
from .mindspore_lab import convert_mindspore_lab
from .parameters import USUAL_FORM, HeadForm
from .reading import KEY, Source
from .style import choose_style, pixel_settings, read_config_text

_CELL_ANCHORS = re.compile(r"proposal_generator\.anchor_generator\.cell_anchors\.\d").fullmatch
# How the SHA-256 of torchvision's COCO_V1 file begins; the file's name ends in it.
_COCO_V1 = "258fb6c6"
_NO_EPS = (
    "bn_eps 0: torchvision runs its published COCO_V1 weights so ({}); if these are others, give "
    "--bn_eps 1e-5"
)
_TORCH_EPS = (
    "bn_eps 1e-5, torchvision's for all detectors but its published COCO_V1 one; if these weights "
    "come from that, give --bn_eps 0"
)


def convert(source: Source, options: ConversionOptions) -> Conversion:
    """Recognise a checkpoint and give its parameters this project's names, shapes and settings.

    Args:
        source: the file as it was read.
        options: what the user has said about it.

    Raises:
        UserError: it is of no known kind, or something is missing or left over.
    """
    if source.meta:
        raise UserError(
            f"{source.path}: is a checkpoint of this project already; use it as it is, or give "
            "--to torchvision"
        )
    names = source.arrays.keys()
    for mark, converter in _MARKS:
        if any(re.fullmatch(mark, name) for name in names):
            conversion = converter(source, options)
            conversion.settings.update(options.settings)
            return conversion
    raise UserError(
        f"{source.path}: of no known kind (it holds {short_list(list(names))}); set {KEY} to a "
        "ResNet or ResNeXt classifier or a Faster R-CNN of MindSpore, torchvision, detectron2 "
        "or mmdetection"
    )


def _torchvision(source: Source, options: ConversionOptions) -> Conversion:
    convs = naming.TORCHVISION.count(naming.BOX_CONV, source.arrays)
    names = naming.torchvision(convs)
    pool = ParameterPool(source, names, _modern_torchvision)
    form = read_form(pool, names)
    counters = pool.drop(COUNTERS)
    backbone = choose_backbone(pool, "torch", options)
    total = bias_length(pool, CLS + "bias")
    picker = pick_classes(
        source.path, total, options, background_first=True, background_deltas=True
    )
    eps, why = _torchvision_eps(source, total, backbone, form)
    conversion = Conversion(source, f"torchvision Faster R-CNN, {total} outputs")
    conversion.settings = families.family_settings(families.TORCHVISION, backbone, bn_eps=eps)
    fill_detector(conversion, pool, backbone, picker, form)
    conversion.drop(counters, "counters of training")
    if "bn_eps" not in options.settings:
        conversion.assumed.append(why)
    return conversion


def _modern_torchvision(name: str) -> str:
    """The name since torchvision 0.14 of a parameter that older files call otherwise."""
    name = re.sub(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)", r"\1.0.\2", name)
    return re.sub(r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1", name)


def _torchvision_eps(
    source: Source, total: int, backbone: str, form: HeadForm
) -> tuple[float, str]:
    """The epsilon that the weights were published with, and how it is known."""
    if form != USUAL_FORM:
        return 1e-5, "bn_eps 1e-5, with which torchvision runs version 2"
    if total != families.COCO_OUTPUTS or backbone != "resnet_v1.5_50":
        return 1e-5, _TORCH_EPS
    if _COCO_V1 in source.path.name or source.sha256().startswith(_COCO_V1):
        return 0.0, _NO_EPS.format("this is its file")
    if "backbone.fpn.inner_blocks.0.weight" in source.arrays:
        return 0.0, _NO_EPS.format("this file has their old names and their 91 outputs")
    return 1e-5, _TORCH_EPS


def _detectron2(source: Source, options: ConversionOptions) -> Conversion:
    pool = ParameterPool(source, naming.DETECTRON2)
    form = read_form(pool, naming.DETECTRON2)
    counters = pool.drop(COUNTERS)
    pixels = pool.drop(re.compile("pixel_mean|pixel_std").fullmatch)
    stored = {name: source.arrays[name].reshape(-1).tolist() for name in pixels}
    stored = {name: [round(v, 4) for v in values] for name, values in stored.items()}
    odd = [name for name, values in stored.items() if len(values) != 3]
    if odd:
        raise UserError(
            f"{source.path}: {odd[0]} holds {len(stored[odd[0]])} numbers instead of 3; give "
            "another file"
        )
    anchors = pool.drop(_CELL_ANCHORS)
    _check_anchors(source, anchors)
    style, reason = choose_style(pool, options, stored)
    conversion = _two_stage(
        source,
        options,
        pool,
        families.DETECTRON2,
        (style, reason),
        stored,
        form,
        names=None,
        background_first=False,
    )
    conversion.drop(pixels, "recorded as settings")
    conversion.drop(anchors, "the anchors, checked against the settings")
    conversion.drop(counters, "counters of training")
    conversion.assumed.append(
        "RoIAlign with 4 x 4 samples a bin: detectron2 takes as many as a RoI is large"
    )
    return conversion


def _check_anchors(source: Source, names: Sequence[str]) -> None:
    """Refuse other anchors than the standard ones of a pyramid: 32 to 512, three ratios."""
    for name in names:
        side = 32.0 * 2 ** int(name[-1])
        half = np.array([[side / r**0.5 / 2, side * r**0.5 / 2] for r in (0.5, 1.0, 2.0)])
        expected = np.concatenate([-half, half], 1)
        found = source.arrays[name]
        if found.shape != expected.shape or np.abs(found - expected).max() > 0.1:
            raise UserError(
                f"{source.path}: {name} holds other anchors than sizes 32 to 512 with the ratios "
                "0.5, 1 and 2; such a detector cannot be converted"
            )


def _mmdetection(source: Source, options: ConversionOptions) -> Conversion:
    first = any(name.startswith("bbox_head.") for name in source.arrays)
    names = naming.MMDETECTION_1 if first else naming.MMDETECTION
    pool = ParameterPool(source, names, naming.mmdetection_spelling)
    counters = pool.drop(COUNTERS)
    meta = source.extra.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    stored_style, stored = read_config_text(meta.get("config") or meta.get("cfg"))
    style, reason = choose_style(pool, options, stored, stored_style=stored_style)
    family = families.MMDETECTION_1 if first else families.MMDETECTION
    conversion = _two_stage(
        source,
        options,
        pool,
        family,
        (style, reason),
        stored,
        read_form(pool, names),
        names=_mmdetection_classes(meta),
        background_first=first,
    )
    conversion.drop(counters, "counters of training")
    if not first:
        conversion.assumed.append(
            "RoIAlign with 4 x 4 samples a bin: mmdetection takes as many as a RoI is large"
        )
    return conversion


def _mmdetection_classes(meta: dict[str, Any]) -> list[str] | None:
    """The class names that mmdetection 1 and 2 (CLASSES) or 3 (dataset_meta) store."""
    inner = meta.get("dataset_meta")
    inner = inner if isinstance(inner, dict) else {}
    names = meta.get("CLASSES") or inner.get("classes") or inner.get("CLASSES")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return list(names)


def _two_stage(
    source: Source,
    options: ConversionOptions,
    pool: ParameterPool,
    family: str,
    style: tuple[str, str],
    stored: families.Settings,
    form: HeadForm,
    *,
    names: Sequence[str] | None,
    background_first: bool,
) -> Conversion:
    """What detectron2 and mmdetection have in common."""
    backbone = choose_backbone(pool, style[0], options)
    total = bias_length(pool, CLS + "bias")
    picker = pick_classes(
        source.path,
        total,
        options,
        background_first=background_first,
        background_deltas=background_first,
        stored_names=names,
    )
    title = {families.MMDETECTION_1: "mmdetection 1.x", families.MMDETECTION: "mmdetection"}
    conversion = Conversion(
        source, f"{title.get(family, family)} Faster R-CNN, {total} outputs, {style[0]} style"
    )
    pixels = pixel_settings(style[0], stored, backbone)
    conversion.settings = families.family_settings(family, backbone, **pixels)
    fill_detector(conversion, pool, backbone, picker, form)
    conversion.assumed.append(
        f"{style[0]} style {style[1]}: backbone {backbone}, channel_order "
        f"{pixels['channel_order']}, pixel_mean {pixels['pixel_mean']}, pixel_std "
        f"{pixels['pixel_std']}"
    )
    return conversion


def _model_zoo(source: Source, options: ConversionOptions) -> Conversion:
    pool = ParameterPool(source, str, canonical_name)
    state = pool.drop(STATE_NAMES.match)
    backbone = choose_backbone(pool, "torch", options)
    total = bias_length(pool, CLS + "bias")
    picker = pick_classes(
        source.path, total, options, background_first=True, background_deltas=False
    )
    conversion = Conversion(source, f"model zoo Faster R-CNN, {total} outputs")
    conversion.settings = families.family_settings(families.MODEL_ZOO, backbone)
    fill_detector(conversion, pool, backbone, picker, USUAL_FORM, transposed=False)
    conversion.drop(state, "state of the optimizer")
    if backbone == "resnet_v1.5_50" and "backbone" not in options.settings:
        conversion.assumed.append(
            "backbone resnet_v1.5_50; resnet_v1_50 has the same names and shapes, give --backbone "
            "resnet_v1_50 if it is that"
        )
    return conversion


def _torch_roi_heads(source: Source, options: ConversionOptions) -> Conversion:
    """torchvision and detectron2 call their box predictors alike; their backbones tell."""
    foreign = any(name.startswith("backbone.bottom_up.") for name in source.arrays)
    return (_detectron2 if foreign else _torchvision)(source, options)


# A name that only files of the kind have -> its converter; the first that is found counts.
_MARKS: tuple[tuple[str, Callable[[Source, ConversionOptions], Conversion]], ...] = (
    (r"roi_heads\.box_predictor\..*|backbone\.body\..*", _torch_roi_heads),
    (r"rpn_head\.rpn_feat\..*", convert_mindspore_lab),  # bbox_head.* is both programs'
    (r"(roi_head\.)?bbox_head\..*", _mmdetection),
    (r"rpn_with_loss\..*", _model_zoo),
    (r"res2\.0\.conv1\.weight", detectron2_backbone),
    (
        r"layer1\.0\.bn1\.running_mean",
        classifier(naming.TORCH_CLASSIFIER, r"fc\..*", "torchvision", families.TORCHVISION),
    ),
    (
        r"layer2\.0\.down_sample\.0\.weight",
        classifier(str, r"classifier\..*", "mindcv", families.MODEL_ZOO, canonical_name),
    ),
    (
        r"(backbone\.)?layer1\.0\.bn1\.moving_mean",
        classifier(
            str, r"(end_point|classifier|fc)\..*", "MindSpore", families.MODEL_ZOO, canonical_name
        ),
    ),
    (  # the model zoo's ResNet-18 and 34, which alone pad as torchvision does
        r"(backbone\.)?layer1\.0\.bn1d\.moving_mean",
        classifier(
            str,
            r"(end_point|classifier|fc)\..*",
            "MindSpore",
            families.MODEL_ZOO,
            canonical_name,
            stem_pool="symmetric",
        ),
    ),
)
