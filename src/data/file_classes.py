# SPDX-License-Identifier: Apache-2.0
"""The classes of a training file, where nobody has said which ones are wanted."""

import os

from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.messages import short_list
from ..model_utils.config import Config
from .formats.part import Part
from .source import data_source

_MOST_SHOWN = 20


def with_file_classes(config: Config, *, tolerant: bool = False) -> tuple[Config, list[str]]:
    """Take the classes of the training file in its order, unless it has all of COCO's.

    That is for `coco_classes: auto` and data that names its classes. A list of the user's stays,
    and so do COCO's classes for data that has them all, whatever else it has. Data of other classes
    would be an error otherwise.

    Args:
        config: of the user; uses coco_classes and the keys of the training data's place.
        tolerant: files that cannot be used are passed over; a look at the data reports them.

    Returns:
        The configuration to use, and lines for the user.

    Raises:
        UserError: the file cannot be read, or its names cannot be classes.
    """
    if config.is_given("coco_classes"):
        return config, []
    source = data_source(config, "train")
    annotations = source.annotations.tolerant() if tolerant else source.annotations
    if not isinstance(annotations, Part):
        return config, []
    if os.path.isdir(os.path.join(source.mindrecord_dir, source.name())):
        return config, []  # records of COCO's classes: reading a large file again costs seconds
    file = annotations.classes()
    file.labels(())  # which looks at ids and names
    names = file.class_names()
    if not names or set(map(one_form, config.class_names)) <= set(map(one_form, names)):
        return config, []
    file.labels(names)  # which looks for two of one name
    try:
        adopted = config.adopt({"coco_classes": names}, file.path)
    except UserError as error:
        raise UserError(f"{error} (coco_classes is auto: give a list of your own)") from None
    unused = {category["name"] for category in file.categories} - set(names)
    left_out = [
        f"classes: left out: {short_list(sorted(unused))}, of no box and only above other classes"
    ]
    return adopted, [
        f"classes: the {len(adopted.class_names)} of {file.path}, in its order: "
        f"{short_list(list(adopted.class_names), _MOST_SHOWN)}; coco_classes takes others",
        *(left_out if unused else []),
    ]
