# SPDX-License-Identifier: Apache-2.0
"""Are converted records still what was converted?

``python -m src.record_check DIR ...`` reads the record sets in the folders DIR to the end; a DIR is
a record set, or a folder of them such as MindRecord_COCO. It names what is damaged and ends with 1
if something is; the next run that uses such a set converts it anew. The source images are not
needed.
"""

import os
from collections.abc import Iterator, Sequence

from ..base.arguments import ArgumentParser
from ..base.errors import UserError, run_entry
from ..base.messages import counted, one_line
from ..base.program import command
from ..model_utils.device_adapter import prepare_environment
from .record_index import INDEX
from .record_set import MindRecordSet, open_alone

_COLUMNS = ["image", "boxes", "labels", "crowd", "image_index"]


def find_damage(records: MindRecordSet) -> str | None:
    """Read all records, in their order, and compare them with what was converted.

    Args:
        records: an opened record set.

    Returns:
        What is damaged first, None if nothing is.
    """
    from mindspore import dataset as ds

    row = -1
    try:
        rows = ds.MindDataset(list(records.files), columns_list=_COLUMNS, shuffle=False)
        for row, record in enumerate(rows.create_tuple_iterator(num_epochs=1, output_numpy=True)):
            *content, number = record
            if number.item() != row:
                return f"record {row} has the number {number.item()}"
            damage = records.damage_of(row, *content)
            if damage:
                return damage
    except RuntimeError:
        return f"record {row + 1} cannot be read"
    missing = records.num_images - row - 1
    return f"{counted(missing, 'record is', 'records are')} missing" if missing else None


def main(argv: Sequence[str]) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name.

    Returns:
        The exit code: 1 when something is damaged.
    """
    parser = ArgumentParser(prog=command("check-records"), description=__doc__.partition("\n\n")[2])
    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="a record set, or a folder of record sets"
    )
    folders = [path for folder in parser.parse_args(argv).folders for path in _sets_in(folder)]
    prepare_environment("CPU")
    return int(not all([_check(folder) for folder in folders]))


def _check(folder: str) -> bool:
    try:
        records = open_alone(folder)
        damage = find_damage(records)
        if damage:
            records.damaged(damage)
    except (OSError, ValueError) as error:
        damage = str(error)
    size = "" if damage else f"{counted(records.num_images, 'record')}, "
    print(one_line(f"{folder}: {size}{f'damaged ({damage})' if damage else 'sound'}"), flush=True)
    return not damage


def _sets_in(folder: str) -> Iterator[str]:
    """The record sets in a folder, which may be one itself."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give a folder of records") from None
    if INDEX in names or any(name.endswith(".mindrecord0") for name in names):
        yield folder
        return
    inner = [os.path.join(folder, name) for name in names if not name.startswith(".")]
    found = [path for path in inner if os.path.isdir(path)]
    if not found:
        raise UserError(f"{folder}: has no record sets in it; give a folder of records")
    yield from found


if __name__ == "__main__":
    run_entry(main)
