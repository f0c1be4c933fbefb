# SPDX-License-Identifier: Apache-2.0
"""The data that a command line names: a folder, or annotations and a folder of pictures."""

import os
from collections.abc import Sequence
from dataclasses import replace

from ..base.errors import UserError
from ..base.program import command
from ..data.file_classes import with_file_classes
from ..data.formats.recognise import require_unpacked
from ..data.record_index import INDEX
from ..data.source import DataSource, data_source
from ..model_utils.config import Config, load_config

_DESCRIPTIONS = (".yaml", ".yml")  # files that say where the rest of a data set is
_MOST_FOLDERS = 100  # of a folder that are looked into for records
# What --help says of DATA, for every command that takes it.
DATA_HELP = """\
DATA is what a training takes: a folder in COCO's layout (as --coco_root), or a COCO JSON or TXT
file and the folder that its file names start from. Without DATA the keys say where it is."""


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the DATA in front and the rest, which are keys.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: there are more than two arguments in front.
    """
    count = next((i for i, text in enumerate(argv) if text.startswith("-")), len(argv))
    if count > 2:
        raise UserError(
            f"command line: {argv[2]!r} is too much: give DATA, or an annotation file and the "
            "folder of its pictures"
        )
    return list(argv[:count]), list(argv[count:])


def data_keys(data: Sequence[str]) -> list[str]:
    """Return the keys that say the same as DATA, as arguments.

    Args:
        data: none, a folder, or an annotation file and a folder.

    Raises:
        UserError: something of it does not exist, or it is neither.
    """
    if not data:
        return []
    for path in data:
        if not os.path.exists(path):
            raise UserError(f"command line: DATA {path}: no such file or folder")
    first = data[0]
    require_unpacked(first)
    if os.path.isdir(first) or first.lower().endswith(_DESCRIPTIONS):
        if len(data) > 1:
            raise UserError(f"command line: {data[1]!r} is too much after {first}")
        if _holds_records(first):
            raise UserError(
                f"command line: DATA {first} holds converted records: `{command('check-records')} "
                f"{first}` looks for damage in them; give the data that they were made from"
            )
        return ["--coco_root", first]
    if len(data) < 2 or not os.path.isdir(data[1]):
        raise UserError(
            f"command line: DATA {first} is a file: give the folder of its pictures after it"
        )
    images = os.path.abspath(data[1])
    if first.lower().endswith(".json"):
        keys = {
            "dataset": "coco",
            "coco_root": os.path.dirname(images),
            "instance_set": os.path.abspath(first),
            "train_data_type": os.path.basename(images),
        }
    else:
        keys = {"dataset": "txt", "anno_path": first, "image_dir": images}
    return [part for key, value in keys.items() for part in (f"--{key}", value)]


def _holds_records(folder: str) -> bool:
    """Whether a folder is a record set, or one of record sets."""
    try:
        names = os.listdir(folder) if os.path.isdir(folder) else []
    except OSError:
        return False
    places = [folder, *(os.path.join(folder, name) for name in names[:_MOST_FOLDERS])]
    return any(os.path.isfile(os.path.join(place, INDEX)) for place in places)


def load_data_config(
    argv: Sequence[str], description: str, program: str
) -> tuple[Config, list[str]]:
    """Read the configuration of a command line that begins with DATA.

    Args:
        argv: DATA and keys.
        description: for --help.
        program: whose keys --help shows.

    Returns:
        The configuration, with the data's own classes where none were given, and lines to print.

    Raises:
        UserError: as `load_config`, or the data cannot be used.
    """
    data, keys = split_arguments(argv)
    config = load_config([*data_keys(data), *keys], description, program=program)
    return with_file_classes(config, tolerant=True)


def sources(config: Config) -> tuple[list[DataSource], list[str]]:
    """Return where the splits are that there are, and lines on the one that there is not.

    Args:
        config: uses the keys of `data_source`. Bad pictures and annotations never end a check.

    Raises:
        UserError: there is no training split.
    """
    train = data_source(config, "train")
    found, notes = [train], list(train.notes)
    try:
        val = data_source(config, "val")
        missing = "" if os.path.exists(val.anno_path) else f"{val.anno_path} does not exist"
        if (val.anno_path, val.image_dir) == (train.anno_path, train.image_dir):
            missing = "it is the training split"
        notes += [note for note in val.notes if not missing and note not in notes]
    except UserError as error:
        missing = str(error)
    if missing:
        notes.append(f"note: no validation split is looked at: {missing}")
    else:
        found.append(val)
    return [
        replace(source, skip_bad_images=True, annotations=source.annotations.tolerant())
        for source in found
    ], notes
