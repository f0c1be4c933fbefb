# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a YOLO data set are: data.yaml, Darknet's obj.data, or folders alone."""

import os
from typing import Any

from ...base.errors import UserError
from ...base.messages import short
from ...model_utils.configuration.yaml_files import read_documents
from .folder import files_in, folders_in, has_file, pictures_in, read_small_text
from .part import PART_NAMES, WHOLE, Part
from .yolo import YoloPart, resolve

_YAML = (".yaml", ".yml")
_USUAL_YAML = ("data.yaml", "dataset.yaml", "data.yml")
_LARGEST_FILE = 1 << 24  # bytes
_MOST_CLASSES = 100_000
_KEYS = ("train", "val", "valid", "test")
_NEEDED = ("train", "val")
_ROBOFLOW_LAYOUT = "YOLO, as Roboflow exports it"
_DARKNET, _ROBOFLOW_NAMES = "obj.data", "_darknet.labels"
_NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names", _ROBOFLOW_NAMES)


def yolo_parts(root: str, yaml_path: str = "") -> list[Part]:
    """Return the parts of a data set of YOLO's kind, none if it is of another.

    Args:
        root: the folder.
        yaml_path: its description, if that was given.

    Raises:
        UserError: its description cannot be used.
    """
    path = yaml_path or _description(root)
    if path:
        return _from_yaml(root, path)
    darknet = os.path.join(root, _DARKNET)
    return _from_darknet(root, darknet) if os.path.isfile(darknet) else _from_folders(root)


# --------------------------------------------------------------------------- data.yaml


def _description(root: str) -> str:
    """The YAML file that describes the data set; empty if there is none."""
    names = files_in(root, _YAML, deep=False)
    usual = [name for name in _USUAL_YAML if name in names]
    for name in usual or names:
        path = os.path.join(root, name)
        if usual or _describes_data(path):
            return path
    return ""


def _describes_data(path: str) -> bool:
    try:
        content = read_documents(path)[0]
    except UserError:
        return False
    return "names" in content and any(key in content for key in _KEYS)


def _from_yaml(root: str, path: str) -> list[Part]:
    content = read_documents(path)[0]
    names = _names(content.get("names"), path)
    start = content.get("path") or ""
    if not isinstance(start, str):
        raise UserError(f"{path}: path is {short(start)}; give a folder, or take the key out")
    keypoints = "kpt_shape" in content
    parts: list[Part] = []
    missing = []
    for key in _KEYS:
        entries = content.get(key) or []
        entries = entries if isinstance(entries, list) else [entries]
        sources = [_source(root, entry, start, f"{path}: {key}") for entry in entries]
        inside = [source for source in sources if source is not None]
        found = [source for source in inside if os.path.exists(os.path.join(root, source))]
        missing += [source for source in inside if source not in found]
        if None in sources and key in _NEEDED:
            raise UserError(
                f"{path}: {key} {short(content[key])} leads out of {root}; write a folder in it, "
                "or give the folder that holds the pictures too as coco_root"
            )
        if found:
            layout = _ROBOFLOW_LAYOUT if "roboflow" in content else "YOLO, data.yaml"
            anno_path = os.path.normpath(os.path.join(root, found[0]))
            parts.append(
                YoloPart(key, root, anno_path, root, layout, tuple(found), names, path, keypoints)
            )
    if not parts:
        shown = f"{short(missing[0])} does not exist in {root}" if missing else "train is missing"
        raise UserError(f"{path}: {shown}; correct the file, or give another coco_root")
    return parts


def _source(root: str, entry: Any, start: str, where: str) -> str | None:
    """An entry of data.yaml relative to `root`, None if it leads out."""
    if not isinstance(entry, str):
        raise UserError(f"{where} is {short(entry)}; give a folder or a list of pictures")
    starts = [start] if start and not os.path.isabs(start) else []
    name = os.path.join(start, entry) if os.path.isabs(start) else entry
    return resolve(root, name, *starts)


def _names(given: Any, path: str) -> tuple[str, ...]:
    """The classes of data.yaml: a list, or a mapping from 0 on."""
    if isinstance(given, dict):
        numbers = sorted(key for key in given if type(key) is int)
        if len(numbers) != len(given) or numbers != list(range(len(given))):
            raise UserError(f"{path}: names has the numbers {short(list(given))}; count from 0")
        given = [given[number] for number in numbers]
    if not isinstance(given, list) or not given or len(given) > _MOST_CLASSES:
        raise UserError(f"{path}: names is {short(given)}; list the classes by number")
    for number, name in enumerate(given):
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise UserError(
                f"{path}: names[{number}] is {short(name)}, not a text; put it into quotes"
            )
    return _distinct([str(name) for name in given], path)


def _distinct(names: list[str], path: str) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if first.setdefault(name, number) != number:
            raise UserError(
                f"{path}: the classes {first[name]} and {number} are both called {short(name)}; "
                "rename one"
            )
    return tuple(names)


# --------------------------------------------------------------------------- Darknet


def _from_darknet(root: str, path: str) -> list[Part]:
    """The parts of obj.data, as CVAT exports it: `key = value` rows."""
    content: dict[str, str] = {}
    for row in read_small_text(path, _LARGEST_FILE).splitlines():
        key, sign, value = row.partition("=")
        if sign:
            content[key.strip()] = value.strip()
    names_file = resolve(root, content.get("names", "obj.names")) or "obj.names"
    names_path = os.path.join(root, names_file)
    names = _names_of(names_path) if os.path.isfile(names_path) else ()
    parts: list[Part] = []
    for key in _KEYS:
        source = resolve(root, content[key]) if content.get(key) else None
        if source and os.path.exists(os.path.join(root, source)):
            anno_path, layout = os.path.join(root, source), "YOLO, as CVAT exports it"
            parts.append(
                YoloPart(key, root, anno_path, root, layout, (source,), names, names_path, False)
            )
    if not parts:
        raise UserError(f"{path}: names no list of pictures that exists; write train = train.txt")
    return parts


def _names_of(path: str) -> tuple[str, ...]:
    """The classes of a file with a name on each line."""
    rows = [row.strip() for row in read_small_text(path, _LARGEST_FILE).splitlines()]
    while rows and not rows[-1]:
        rows.pop()
    if len(rows) > _MOST_CLASSES or "" in rows:
        raise UserError(f"{path}: write the name of a class on each line, and nothing else")
    return _distinct(rows, path)


# --------------------------------------------------------------------------- folders


def _from_folders(root: str) -> list[Part]:
    """The parts of folders of pictures and label files, without a description."""
    roles = [name for names in PART_NAMES.values() for name in names]
    inner = set(folders_in(root))
    names_path = next(filter(os.path.isfile, (os.path.join(root, n) for n in _NAME_FILES)), "")
    layout = "YOLO, images and labels"
    sources: dict[str, str] = {}
    if {"images", "labels"} <= inner:
        images = os.path.join(root, "images")
        sources = {name: f"images/{name}" for name in folders_in(images) if name.lower() in roles}
        sources = sources or {WHOLE: "images"}
        if os.path.isfile(os.path.join(root, "notes.json")):
            layout = "YOLO, as Label Studio exports it"
    else:
        for name in sorted(inner):
            folder = os.path.join(root, name)
            if name.lower() in roles and {"images", "labels"} <= set(folders_in(folder)):
                sources[name] = f"{name}/images"
            elif has_file(folder, _ROBOFLOW_NAMES):
                sources[name] = name
                names_path = os.path.join(folder, _ROBOFLOW_NAMES)
                layout = "YOLO for Darknet, as Roboflow exports it"
    beside = os.path.join(root, _NAME_FILES[0])
    if not sources and os.path.isfile(beside) and pictures_in(root, deep=False):
        sources, names_path, layout = {WHOLE: "."}, beside, "YOLO, text files beside the pictures"
    names = _names_of(names_path) if names_path else ()
    return [
        YoloPart(
            name,
            root,
            os.path.join(root, source),
            root,
            layout,
            (source,),
            names,
            names_path,
            False,
        )
        for name, source in sources.items()
    ]
