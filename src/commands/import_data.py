# SPDX-License-Identifier: Apache-2.0
"""The command `import`: a data set from one format into another."""

import argparse
import os
from collections.abc import Sequence

from ..base.arguments import ArgumentParser
from ..base.errors import UserError
from ..base.foreign_files import is_regular_file
from ..base.messages import short_list
from ..base.program import command
from ..data.coco_file import CocoFile
from ..data.formats.export import coco_content, export_folder, output_name, write_coco
from ..data.formats.findings import findings_of
from ..data.formats.part import Part, ReadOptions
from ..data.formats.recognise import AUTO, KINDS, named_parts, require_parts
from ..data.records import AnnotationReport

DESCRIPTION = """\
Convert the annotations of a data set between COCO, VOC, YOLO and LabelMe.

To coco: writes the file PATH. {} in its name stands for the part's name (train, val, test); without
it, one part is written. Pictures stay where they are, and the folder that their names start from is
printed. To voc or yolo: writes the folder PATH, with links to the pictures or copies of them."""

TARGETS = ("coco", "voc", "yolo")


def main(argv: Sequence[str]) -> int:
    """Convert as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: the data cannot be read, or what is there would be overwritten.
    """
    given = _parser().parse_args(argv)
    (kind, source), (target, path) = given.source, given.target
    if kind not in (AUTO, *KINDS) or target not in TARGETS:
        wrong, known = (target, TARGETS) if kind in (AUTO, *KINDS) else (kind, (AUTO, *KINDS))
        raise UserError(f"command line: {wrong} is no format here; take {short_list(known, 8)}")
    reading = ReadOptions(given.voc_difficult, given.voc_corners)
    parts = named_parts(require_parts(source, kind, reading), given.part, source)
    print(f"{source} is {parts[0].layout} (parts: {short_list([part.name for part in parts], 8)})")
    if target == "coco":
        _to_coco(parts, path, overwrite=given.overwrite)
        return 0
    files = [part.read(to_learn=False) for part in parts]
    corners = "pixels" if given.voc_corners == "pixels" else "edges"
    reports = export_folder(parts, files, path, target, copy=given.copy, corners=corners)
    print_reports(reports)
    print(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=command("import"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        nargs=2,
        required=True,
        metavar=("KIND", "DIR"),
        help=f"{', '.join((AUTO, *KINDS))} and the folder (of yolo also its data.yaml)",
    )
    add(
        "--to",
        dest="target",
        nargs=2,
        required=True,
        metavar=("KIND", "PATH"),
        help="coco and the file to write, voc or yolo and a new folder",
    )
    add("--part", action="append", default=[], metavar="NAME", help="only this part; repeatable")
    add("--overwrite", action="store_true", help="replace a COCO file that is there")
    add_shared(parser)
    return parser


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that several commands on data sets have.

    Args:
        parser: of the command.
    """
    parser.add_argument("--copy", action="store_true", help="copy pictures instead of linking them")
    add_voc(parser)


def add_voc(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how VOC's files are meant.

    Args:
        parser: of the command.
    """
    add = parser.add_argument
    add("--voc_difficult", choices=("ignore", "keep"), default="ignore", help="see the key")
    add("--voc_corners", choices=("auto", "pixels", "edges"), default="auto", help="see the key")


def _to_coco(parts: Sequence[Part], path: str, *, overwrite: bool) -> None:
    if len(parts) > 1 and "{}" not in path:
        names = short_list([part.name for part in parts], 8)
        raise UserError(
            f"command line: --to coco {path}: the data has the parts {names}; put {{}} into the "
            "file's name, which stands for the part's, or name one with --part"
        )
    targets = [path.replace("{}", output_name(part, parts)) for part in parts]
    for target in targets:
        require_free(target, overwrite=overwrite)
        if any(_is_same(target, part.anno_path) for part in parts):
            raise UserError(f"{target} is what is read; give another file")
    for part, target in zip(parts, targets, strict=True):
        file = part.read(to_learn=False)
        content = coco_content(part, file)
        write_coco(target, content)
        print("\n".join([_totals(part, file), *findings_of(part, file)]))
        print(f"written: {target}; file names are relative to {part.image_dir}")


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _totals(part: Part, file: CocoFile) -> str:
    crowd = sum(annotation.get("iscrowd") == 1 for annotation in file.annotations)
    images, boxes = len(file.images), len(file.annotations)
    return AnnotationReport(part.anno_path, images, boxes, crowd).lines()[0]


def require_free(path: str, *, overwrite: bool) -> None:
    """Refuse to replace a file that is there, unless that is wanted.

    Args:
        path: of the file that is to be written.
        overwrite: it is wanted.

    Raises:
        UserError: there is one, or something that is no file.
    """
    if not os.path.lexists(path):
        return
    if not is_regular_file(path):
        raise UserError(f"{path} exists already and is not a file; give another")
    if not overwrite:
        raise UserError(f"{path} exists already; give another, or --overwrite")


def print_reports(reports: Sequence[AnnotationReport]) -> None:
    """Print what was found.

    Args:
        reports: one for each part.
    """
    for report in reports:
        print("\n".join(report.lines()))
