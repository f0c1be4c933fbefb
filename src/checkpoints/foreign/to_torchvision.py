# SPDX-License-Identifier: Apache-2.0
"""A detector of this project as a state_dict of torchvision's Faster R-CNN."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import UserError
from ...base.messages import short_list
from ...FasterRcnn.names import BACKBONES, MODERN
from ...model_utils.configuration.derived import BY_CONVENTION
from ..families import COCO_IDS, COCO_OUTPUTS, FAMILIES, TORCHVISION
from ..file import STATE_NAMES, canonical_name
from . import naming
from .conversion import Conversion, ParameterPool, Row
from .heads import CLS, REG
from .parameters import HeadForm, detector_shapes
from .reading import Source

NO_TORCH = (
    "needs PyTorch, which is not installed; run `pip install torch` (its CPU build will do), or "
    "use a .safetensors file"
)
SUFFIXES = (".pth", ".pt", ".safetensors")
# The score of an output that stands for no class: its probability is exactly 0.
_NEVER = -1.0e4
# Neck and heads of its two versions; the same boxes for all classes are written once for each.
_V1 = HeadForm()
_V2 = HeadForm("bn", 2, convs=4, dense=1, norm="bn")
_BACKBONES = tuple(name for name, plan in BACKBONES.items() if plan.torchvision)
# What torchvision's network does in one way only; another way changes its numbers.
_COMPARED = (
    "bn_eps",
    "stem_pool",
    "anchor_scales",
    "anchor_ratios",
    "anchor_rounding",
    "rpn_target_means",
    "rpn_target_stds",
    "rcnn_target_means",
    "rcnn_target_stds",
    "roi_layer",
    "roi_align_aligned",
    "roi_align_finest_scale",
    "roi_level_formula",
    "channel_order",
    "pixel_mean",
    "pixel_std",
    "pad_before_normalize",
)


def has_torch() -> bool:
    """Return whether PyTorch is installed; does not import it."""
    return importlib.util.find_spec("torch") is not None


def to_torchvision(source: Source) -> Conversion:
    """Give a detector's parameters the names, shapes and class places of torchvision's.

    COCO's 80 classes go to their places among 91 outputs, other classes to 1 + C outputs in their
    order.

    Args:
        source: a checkpoint of this project.

    Returns:
        a conversion whose `rows` lead from our names to torchvision's.

    Raises:
        UserError: no detector of this project, or one that torchvision would compute otherwise.
    """
    meta = source.meta
    _check_meta(source)
    pool = ParameterPool(source, str, canonical_name)
    state = pool.drop(STATE_NAMES.match)
    names, unused = tuple(meta["class_names"]), meta.get("unused_outputs", 0)
    form = HeadForm.of_settings(meta)
    shapes = detector_shapes(meta["backbone"], len(names) + 1, unused_outputs=unused, form=form)
    arrays, rows = pool.take_all(shapes)
    as_coco = len(names) == len(COCO_IDS) and set(names) == COCO_IDS.keys()
    total = COCO_OUTPUTS if as_coco else len(names) + 1 + unused
    outputs = [COCO_IDS[name] for name in names] if as_coco else list(range(1, len(names) + 1))
    others = [output for output in range(1, total) if output not in outputs]
    if unused not in (0, len(others)):
        raise UserError(
            f"{source.path}: has {unused} unused_outputs, but {total} outputs leave room for "
            f"{len(others)}; convert it from its origin anew"
        )

    conversion = Conversion(source, f"detector for torchvision's Faster R-CNN, {total} outputs")
    for row in rows:
        target = naming.torchvision(form.convs)(row.target)
        array = arrays[row.target]
        if form.class_agnostic and row.target.startswith(REG):
            array = np.tile(array, len(names))
        places = [0, *others[:unused], *outputs]
        array, note = _for_torchvision(row.target, array, places, total)
        conversion.arrays[target] = array
        conversion.rows.append(Row(row.source, target, array.shape, note))
    if state:
        conversion.dropped.append((state, "state of the optimizer"))
    conversion.class_names = names
    conversion.assumed = _remarks(meta, as_coco, total)
    return conversion


def _check_meta(source: Source) -> None:
    """Refuse what torchvision's network would compute otherwise, or files that do not say."""
    meta, path = source.meta, source.path
    missing = [k for k in ("backbone", "norm", "box_convention", "class_names") if k not in meta]
    if missing:
        raise UserError(
            f"{path}: does not say its {short_list(missing)}, so it cannot become a torchvision "
            "model; convert it without --to first, and set --ckpt_file to the result"
        )
    for key, fine in (
        ("box_convention", (MODERN,)),
        ("norm", ("frozen_bn", "bn")),
        ("backbone", _BACKBONES),
    ):
        if meta[key] not in fine:
            raise UserError(
                f"{path}: has {key} {meta[key]}, but torchvision's Faster R-CNN has "
                f"{' or '.join(fine)}; train with that to use --to torchvision"
            )
    form = HeadForm.of_settings(meta)._replace(class_agnostic=False)
    nearest = meta.get("fpn_upsample", "nearest") == "nearest"
    if form not in (_V1, _V2) or not nearest:
        raise UserError(
            f"{path}: has {_shown_form(meta)}, but torchvision's Faster R-CNN has "
            f"{_shown_form(_V1.settings())} or {_shown_form(_V2.settings())}; train with one of "
            "them to use --to torchvision"
        )


def _shown_form(settings: Mapping[str, Any]) -> str:
    """The keys that torchvision has two values of, and fpn_upsample where it is another."""
    form = HeadForm.of_settings(settings).settings()
    keys = ["fpn_norm", "rpn_conv_depth", "rcnn_head"]
    text = ", ".join(f"{key} {form[key]}".replace("'", "") for key in keys)
    upsample = settings.get("fpn_upsample", "nearest")
    return text if upsample == "nearest" else f"{text}, fpn_upsample {upsample}"


def _for_torchvision(
    name: str, array: np.ndarray, outputs: list[int], total: int
) -> tuple[np.ndarray, str]:
    """Return our parameter's array in torchvision's shape, and what was done to it.

    `outputs`: torchvision's output of each of our scores, the background's first.
    """
    if not name.startswith("rcnn.") or array.ndim > 2:
        return array, ""
    remarks = []
    if array.ndim == 2:
        array = array.T
        remarks.append("transposed")
    if name.startswith(CLS):
        spread = np.zeros((total, *array.shape[1:]), np.float32)
        if name.endswith(".bias"):
            spread[:] = _NEVER
        spread[outputs] = array
        array = spread
        if total > len(outputs):
            remarks.append("classes at COCO's ids, the others never win")
    elif name.startswith(REG):
        spread = np.zeros((total, 4, *array.shape[1:]), np.float32)
        deltas = array.reshape(-1, 4, *array.shape[1:])
        spread[outputs[-len(deltas) :]] = deltas
        array = spread.reshape(total * 4, *array.shape[1:])
        remarks.append("zeros for the background")
    return np.ascontiguousarray(array), ", ".join(remarks)


def _remarks(meta: dict[str, Any], as_coco: bool, total: int) -> list[str]:
    """What the user of the file has to tell torchvision."""
    backbone = BACKBONES[meta["backbone"]].torchvision
    is_v2 = HeadForm.of_settings(meta).convs > 0
    builder = f"FasterRCNN(resnet_fpn_backbone('{backbone}'), num_classes={total})"
    if backbone == "resnet50":
        builder = f"fasterrcnn_resnet50_fpn{'_v2' if is_v2 else ''}(num_classes={total})"
    elif is_v2:
        builder = (
            f"a FasterRCNN of {total} classes with neck and heads of fasterrcnn_resnet50_fpn_v2 on "
            + backbone
        )
    places = "COCO's category ids" if as_coco else "1 to C in the order of coco_classes"
    lines = [f"for {builder}; its labels are {places}"]
    used = {**meta, **meta.get("settings", {})}
    formula = BY_CONVENTION["roi_level_formula"][MODERN]
    usual = {**FAMILIES[TORCHVISION], "roi_level_formula": formula}
    lines += [
        f"{key} is {used[key]} here and {usual[key]} in torchvision: its numbers will differ "
        "unless it is told"
        for key in _COMPARED
        if key in used and used[key] != usual[key]
    ]
    return lines


def write_state_dict(path: Path, suffix: str, arrays: dict[str, np.ndarray]) -> None:
    """Write a state_dict into a file.

    Args:
        path: whatever its name.
        suffix: ".safetensors", or ".pth" and ".pt", which need PyTorch.
        arrays: name -> array.

    Raises:
        UserError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        try:
            save_file(arrays, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from error
    else:
        require_torch(Path(path))
        import torch

        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        try:
            torch.save(tensors, path)
        except RuntimeError as error:  # a full disk
            raise OSError(str(error)) from error


def require_torch(path: Path) -> None:
    """Refuse a .pth file where PyTorch is missing.

    Args:
        path: the file to write, for the error.

    Raises:
        UserError: it is.
    """
    if not has_torch():
        raise UserError(f"{path}: {NO_TORCH}")
