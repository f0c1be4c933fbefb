# SPDX-License-Identifier: Apache-2.0
"""Which kind of data set a folder holds, and its parts."""

import os
from collections.abc import Callable

from ...base.errors import UserError
from ...base.messages import counted, short_list
from .coco import coco_parts
from .folder import files_in, folders_in, pictures_in
from .labelme import labelme_parts
from .part import Part, ReadOptions, in_usual_order
from .voc import voc_parts
from .yolo_layout import yolo_parts

AUTO = "auto"
_YAML = (".yaml", ".yml")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")

_Finder = Callable[[str, str, ReadOptions], list[Part]]
# In the order in which they are looked for. COCO comes first: it is what data is mostly brought to,
# beside the files that it came from.
_FINDERS: dict[str, _Finder] = {
    "coco": lambda root, _yaml, reading: coco_parts(root, splits=reading.splits),
    "yolo": lambda root, yaml, _reading: yolo_parts(root, yaml),
    "voc": lambda root, _yaml, reading: voc_parts(root, reading),
    "labelme": lambda root, _yaml, _reading: labelme_parts(root),
}
KINDS = tuple(_FINDERS)
# How each is recognised, in short.
_MARKS = {
    "coco": (
        "COCO (annotations/instances_train2017.json, train/_annotations.coco.json, result.json)"
    ),
    "yolo": "YOLO (data.yaml, obj.data or classes.txt, and a text file a picture)",
    "voc": "VOC (Annotations/*.xml, or XML files beside the pictures)",
    "labelme": "LabelMe (JSON files beside the pictures)",
}
_ANNOTATIONS = (".json", ".xml", ".txt", ".yaml", ".yml", ".zip", ".csv")


def find_parts(given: str, kind: str = AUTO, reading: ReadOptions | None = None) -> list[Part]:
    """Return the parts of the data set in a folder, in their usual order; none if none is known.

    Args:
        given: the folder; of a YOLO data set also its data.yaml.
        kind: one of `KINDS`, or "auto" for whichever it is.
        reading: how the annotations are meant.

    Raises:
        UserError: it looks like a data set, but cannot be used; or it is an archive.
    """
    require_unpacked(given)
    is_yaml = given.lower().endswith(_YAML) and os.path.isfile(given)
    root, yaml_path = (os.path.dirname(given) or ".", given) if is_yaml else (given, "")
    if not os.path.isdir(root):
        return []
    if is_yaml and kind == AUTO:
        kind = "yolo"
    for name, find in _FINDERS.items():
        if kind in (AUTO, name):
            parts = find(root, yaml_path, reading or ReadOptions())
            if parts:
                return in_usual_order(parts)
    return []


def require_unpacked(path: str) -> None:
    """Refuse an archive where a data set is wanted.

    Args:
        path: of a folder or file.

    Raises:
        UserError: it is a file that is called as archives are.
    """
    if path.lower().endswith(_ARCHIVES) and os.path.isfile(path):
        raise UserError(f"{path} is an archive: unpack it first, and give its folder")


def require_parts(given: str, kind: str = AUTO, reading: ReadOptions | None = None) -> list[Part]:
    """Return the parts of the data set in a folder; see `find_parts`.

    Args:
        given: the folder; of a YOLO data set also its data.yaml.
        kind: one of `KINDS`, or "auto" for whichever it is.
        reading: how the annotations are meant.

    Raises:
        UserError: no data set of that kind is there.
    """
    parts = find_parts(given, kind, reading)
    if parts:
        return parts
    if not os.path.isdir(given):
        raise UserError(f"{given}: no such folder; give the folder of a data set")
    raise UserError(f"{given}: {unrecognised(given, kind)}")


def unrecognised(root: str, kind: str = AUTO) -> str:
    """Say what was looked for in a folder in vain, and what is in it.

    Args:
        root: the folder.
        kind: one of `KINDS`, or "auto".
    """
    wanted = _MARKS.values() if kind == AUTO else [_MARKS[kind]]
    which = "" if kind == AUTO else f" of kind {kind}"
    return (
        f"no data set{which} was recognised in it; looked for {', '.join(wanted)}. "
        f"{_content(root)}; docs/data_formats.md shows the layouts that are known"
    )


def _content(root: str) -> str:
    """What is in a folder, in words."""
    folders, pictures = folders_in(root), pictures_in(root, deep=False)
    texts = [name for name in files_in(root, _ANNOTATIONS, deep=False) if name not in pictures]
    parts = [f"the folders {short_list(folders)}"] if folders else []
    parts += [f"the files {short_list(texts)}"] if texts else []
    parts += [counted(len(pictures), "picture")] if pictures else []
    return f"It has {', '.join(parts)}" if parts else "It has no picture and no annotations"


def named_parts(parts: list[Part], names: list[str], given: str) -> list[Part]:
    """Return the parts of these names, or all where none is named.

    Args:
        parts: of a data set.
        names: of parts.
        given: the data set, for the error.

    Raises:
        UserError: there is no such part.
    """
    by_name = {part.name: part for part in parts}
    for name in names:
        if name not in by_name:
            raise UserError(f"{given} has no part {name}; it has {short_list(list(by_name), 8)}")
    return [by_name[name] for name in names] or parts
