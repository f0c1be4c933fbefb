# SPDX-License-Identifier: Apache-2.0
"""The form of neck and heads, and a whole detector taken out of a file."""

import numpy as np

from ...base.errors import UserError
from ...base.messages import counted
from ...FasterRcnn.names import NO_NORM
from .classes import ClassPicker
from .conversion import Conversion, ParameterPool
from .naming import BOX_CLS, BOX_CONV, BOX_DENSE, BOX_REG, LATERAL, RPN_STACK, Naming
from .parameters import HeadForm, detector_shapes

CLS, REG = f"{BOX_CLS}.", f"{BOX_REG}."
_DENSE = (1, 2)  # shared dense layers that a box head can have


def read_form(pool: ParameterPool, naming: Naming) -> HeadForm:
    """Return what a file has for neck and heads; whether boxes are class-agnostic is left open.

    Args:
        pool: the file's parameters; none is taken.
        naming: that of the file.

    Raises:
        UserError: there can be no such box head.
    """
    names = pool.left
    dense = naming.count(BOX_DENSE, names)
    if dense not in _DENSE:
        raise UserError(
            f"{pool.path}: its box head has {dense} shared dense layers, where 1 or 2 are "
            "expected; such a detector cannot be converted"
        )
    return HeadForm(
        fpn_norm=_norm_behind(pool, naming, LATERAL),
        rpn_conv_depth=max(naming.count(RPN_STACK, names), 1),
        convs=naming.count(BOX_CONV, names),
        dense=dense,
        norm=_norm_behind(pool, naming, BOX_CONV),
    )


def _norm_behind(pool: ParameterPool, naming: Naming, layer: str) -> str:
    """The normalisation behind layers of a kind: with statistics it is BatchNorm."""
    if layer not in naming.norms:
        return NO_NORM
    at, kinds = naming.norms[layer].at(0), naming.kinds
    if f"{at}.{kinds.get('gamma', 'gamma')}" not in pool.left:
        return NO_NORM
    return "bn" if f"{at}.{kinds.get('moving_mean', 'moving_mean')}" in pool.left else "gn"


def bias_length(pool: ParameterPool, ours: str) -> int:
    """Return the length of a bias in the file.

    Args:
        pool: the file's parameters; none is taken.
        ours: our name of the bias.

    Raises:
        UserError: it is no list of numbers.
    """
    array = pool.look(ours)
    if array.ndim != 1:
        raise UserError(
            f"{pool.path}: {pool.name_in_file(ours)} has the shape {array.shape}, where a number "
            "for each output is expected; is the file whole?"
        )
    return len(array)


def fill_detector(
    conversion: Conversion,
    pool: ParameterPool,
    backbone: str,
    picker: ClassPicker,
    form: HeadForm,
    *,
    transposed: bool = True,
) -> None:
    """Take all parameters of a detector.

    Args:
        conversion: gets them, and the settings that follow from them.
        pool: the file's parameters.
        backbone: a key of `names.BACKBONES`.
        picker: which outputs become which classes.
        form: of neck and heads; whether boxes are class-agnostic follows from the file.
        transposed: the file's dense layers are (out, in).

    Raises:
        UserError: something is missing, of another shape or left over.
    """
    form = _with_boxes(form, pool, picker)

    def fit(name: str, array: np.ndarray) -> np.ndarray:
        if array.ndim != 2 or not name.startswith("rcnn."):
            return _in_order(name, array, picker, form)
        ordered = _in_order(name, array if transposed else array.T, picker, form)
        return ordered.T

    def note(name: str) -> str:
        return ", ".join(_remarks(name, picker, form, transposed=transposed))

    shapes = detector_shapes(
        backbone, len(picker.names) + 1, unused_outputs=len(picker.unused), form=form
    )
    conversion.arrays, conversion.rows = pool.take_all(shapes, fit, note)
    conversion.settings.update(form.settings(), unused_outputs=len(picker.unused))
    conversion.class_names = picker.names
    conversion.kind += f", {backbone}"
    conversion.assumed.append(f"{counted(len(picker.names), 'class', 'classes')}: {picker.origin}")


def _with_boxes(form: HeadForm, pool: ParameterPool, picker: ClassPicker) -> HeadForm:
    """The form, with what the file's box deltas are of: each class, or all of them."""
    deltas = bias_length(pool, f"{REG}bias")
    places = picker.total if picker.background_deltas else picker.total - 1
    if deltas not in (4, 4 * places):
        raise UserError(
            f"{pool.path}: has {deltas} box deltas for {places} classes, where 4 for each or 4 for "
            "all are expected; such a detector cannot be converted"
        )
    return form._replace(class_agnostic=deltas != 4 * places)


def _in_order(name: str, array: np.ndarray, picker: ClassPicker, form: HeadForm) -> np.ndarray:
    """The outputs of scores and deltas as ours are; other arrays as they are."""
    if name.startswith(CLS):
        return picker.scores(array)
    if name.startswith(REG) and not form.class_agnostic:
        return picker.deltas(array)
    return array


def _remarks(name: str, picker: ClassPicker, form: HeadForm, *, transposed: bool) -> list[str]:
    """What happens to a parameter on its way."""
    remarks = []
    is_cls, is_reg = name.startswith(CLS), name.startswith(REG)
    if transposed and name.endswith(".weight") and (is_cls or is_reg or BOX_DENSE in name):
        remarks.append("transposed")
    if is_reg and form.class_agnostic:
        return [*remarks, "the same box for all classes"]
    if (is_cls or is_reg) and picker.unused:
        kept = "kept as unused_outputs" if is_cls else "left out"
        remarks.append(f"{len(picker.unused)} other outputs {kept}")
    if is_cls and picker.background:
        remarks.append("background moved to the front")
    if is_reg and picker.background_deltas:
        remarks.append("background's deltas left out")
    return remarks
