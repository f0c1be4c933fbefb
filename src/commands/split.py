# SPDX-License-Identifier: Apache-2.0
"""The command `split`: parts to train on and to evaluate on, made of a data set."""

import argparse
import functools
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..base.arguments import ArgumentParser, within
from ..base.errors import UserError
from ..base.file_names import find_image
from ..base.messages import counted, short_list
from ..base.program import command
from ..data.formats.coco import is_of_a_split
from ..data.formats.export import write_coco
from ..data.formats.part import ReadOptions, choose_part
from ..data.formats.recognise import find_parts, named_parts, require_parts
from ..data.formats.split import group_names, split_part, summary
from ..data.groups import together
from ..model_utils.config import load_config
from .import_data import add_voc, require_free

NAMES = ("train", "val", "test")

DESCRIPTION = """\
Split a data set into train, val and test: DIR/annotations/instances_{train,val,test}.json.

Every class gets its share of the pictures in each part. The pictures stay where they are. Whatever
format the data has, the files are COCO's; what is said of DIR afterwards is read from them."""


def main(argv: Sequence[str]) -> int:
    """Split as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: the data cannot be read or split, or files are there already.
    """
    given = _parser().parse_args(argv)
    shares = _shares(given.val, given.test)
    # Another split is made of what the first one was made of.
    reading = ReadOptions(given.voc_difficult, given.voc_corners, splits=not given.overwrite)
    parts = named_parts(require_parts(given.folder, "auto", reading), given.part, given.folder)
    _refuse_again(parts[0].root, shares, overwrite=given.overwrite)
    if len(parts) > 1:
        raise UserError(
            f"{given.folder} has the parts {short_list([part.name for part in parts], 8)}; name "
            "the one to split with --part"
        )
    folder = os.path.join(parts[0].root, "annotations")
    targets = {name: os.path.join(folder, f"instances_{name}.json") for name in NAMES}
    for name, target in targets.items():
        _require_replaceable(target, written=name in shares, overwrite=given.overwrite)
    targets = {name: targets[name] for name in shares}
    grouping = functools.partial(_group, parts[0].image_dir, given.group_by, given.group_alike)
    contents, findings = split_part(parts[0], shares, group=grouping, seed=given.seed)
    for name, content in contents.items():
        write_coco(targets[name], content)
    print("\n".join([*summary(contents), *findings]))
    print(f"written: {', '.join(targets.values())}")
    print(f"next: {_next_command(parts[0].root, reading)}")
    return 0


def _next_command(root: str, reading: ReadOptions) -> str:
    """The check of the parts; it names those that would not be taken otherwise."""
    config = load_config([])
    made = find_parts(root, "auto", replace(reading, splits=True))
    chosen: list[str] = []
    for split, given in (("train", config.train_data_type), ("val", config.val_data_type)):
        part = choose_part(made, split, given)
        if part is None or part.name != split:
            chosen += [f"--{split}_data_type", split]
    return f"{command('check')} {shlex.join([root, *chosen])}"


def _refuse_again(root: str, names: Iterable[str], *, overwrite: bool) -> None:
    """Refuse to split what has been split, unless that is wanted."""
    files = [os.path.join(root, "annotations", f"instances_{name}.json") for name in names]
    made = [path for path in files if is_of_a_split(path)]
    if made and not overwrite:
        raise UserError(
            f"{root} is already split: {short_list(made)}; --overwrite makes the parts again"
        )


def _group(folder: str, separator: str, alike: bool, names: Sequence[str]) -> list[str]:
    """The group of each picture in a folder: by its name, and by what it shows."""
    groups = group_names(names, separator)
    if not alike:
        return groups
    from ..data_check.pictures import alike_pictures  # only now: it needs OpenCV

    paths = [find_image(folder, name) for name in names]
    found, seen = alike_pictures(paths, workers=os.cpu_count() or 1)
    extra = sum(map(len, found))
    print(
        f"alike: {counted(extra, 'picture')} in {counted(len(found), 'group')}, of "
        f"{counted(seen, 'picture')} that can be read"
    )
    return together(groups, found)


def _require_replaceable(path: str, *, written: bool, overwrite: bool) -> None:
    """Refuse to replace what no split has written, and to leave a part of an earlier split."""
    if written:
        require_free(path, overwrite=overwrite)
        if os.path.lexists(path) and not is_of_a_split(path):
            raise UserError(
                f"{path} was not written by an earlier split, and is not replaced; give it another "
                "name, or move it elsewhere"
            )
    elif overwrite and is_of_a_split(path):
        raise UserError(
            f"{path} is of an earlier split and would share pictures with this one; delete it, or "
            "give a share for it"
        )


def _shares(val: float, test: float) -> dict[str, float]:
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise UserError(
            f"command line: --val {val:g} and --test {test:g} leave nothing to train on, or are no "
            "shares; give numbers between 0 and 1"
        )
    shares = dict(zip(NAMES, (1 - val - test, val, test), strict=True))
    return {name: share for name, share in shares.items() if share > 0}


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=command("split"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="DIR", help="the data set, in any layout that is known")
    add("--val", type=float, default=0.2, metavar="SHARE", help="of the pictures (default: 0.2)")
    add("--test", type=float, default=0.0, metavar="SHARE", help="of the pictures (default: 0)")
    add(
        "--group_by",
        default="",
        metavar="TEXT",
        help="keep pictures together whose file names are equal up to this text",
    )
    add(
        "--group_alike",
        action="store_true",
        help="keep pictures together that are (nearly) the same, as the command check finds them",
    )
    add("--part", action="append", default=[], metavar="NAME", help="the part to split")
    add(
        "--seed",
        type=within(0, 2**32 - 1),
        default=1,
        metavar="N",
        help="decides among equals (default: 1)",
    )
    add("--overwrite", action="store_true", help="replace the files of an earlier split")
    add_voc(parser)
    return parser
