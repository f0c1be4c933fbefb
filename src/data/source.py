# SPDX-License-Identifier: Apache-2.0
"""Where a split's annotations and images are by the configuration, and what of them is wanted."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..base.digests import json_digest
from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.messages import short, short_list
from ..model_utils.config import Config
from .formats.coco import CocoPart, picture_folder
from .formats.part import Annotations, Part, ReadOptions, choose_part, only_trains
from .formats.recognise import AUTO, find_parts, unrecognised
from .records import AnnotationReport, ImageRecord
from .txt_annotations import TxtAnnotations
from .validation_part import no_validation_part

FORMAT_VERSION = 2
_TXT, _COCO = "txt", "coco"
_OTHER_NAMES = {"other": _TXT}  # the model zoo's
# Keys that a kind of data set does not look at, and what it takes instead.
_IN_ROOT = (
    "images are in coco_root, in the folder that train_data_type or val_data_type names (which may "
    "be a path, as images/Train)"
)
_RECOGNISED = "annotations and pictures are in coco_root"
_WITHOUT_EFFECT: dict[str, Mapping[str, str]] = {
    _COCO: {"image_dir": _IN_ROOT},
    _TXT: {"coco_root": "images are in image_dir and the rows in anno_path"},
}
_OF_OTHERS = {"image_dir": _RECOGNISED, "anno_path": _RECOGNISED}


class _Location(NamedTuple):
    """Where the annotations of a split are.

    Attributes:
        annotations: how they are read.
        root: folder of the data set.
        keys: that name the folder of images, for errors.
        notes: a line that says what was recognised; none where the keys say all.
        is_found: something of a data set is there.
    """

    annotations: Annotations
    root: str
    keys: str
    notes: tuple[str, ...] = ()
    is_found: bool = True


def _locate(config: Config, kind: str, split: str) -> _Location:
    """Where a split is: as the keys say it, or as the folder's layout is recognised."""
    data_type = config.train_data_type if split == "train" else config.val_data_type
    if kind == _TXT:
        return _locate_txt(config, data_type)
    root = _needed(config, "coco_root", "the folder of the data set")
    keys = f"coco_root and {split}_data_type"
    stated = _stated_coco(config, root, data_type, split) if kind in (AUTO, _COCO) else None
    given = split == "val" and config.anno_path  # a file that is named is not looked for elsewhere
    if stated and (given or os.path.isfile(stated.anno_path)):
        return _Location(stated, root, keys)
    reading = ReadOptions(str(config.voc_difficult), str(config.voc_corners))
    parts = find_parts(root, kind, reading)
    part = choose_part(parts, split, data_type)
    if part:
        return _Location(part, part.root, keys, (_recognised(part, parts, root, split),))
    if split == "val" and only_trains(parts, data_type):
        names = [part.name for part in parts]
        raise UserError(f"{root}: {parts[0].layout}: {no_validation_part(root, names)}")
    if parts:
        raise UserError(
            f"{root}: {parts[0].layout}, has no part {short(data_type)} ({split}_data_type); it "
            f"has {short_list([part.name for part in parts], 8)}: name one of them, or make parts "
            f"with the command split{_in_brackets(_without_effect(config, parts[0].kind, split))}"
        )
    if stated:  # its absence is said when it is read
        return _Location(stated, root, keys, is_found=False)
    raise UserError(f"coco_root {root}: {unrecognised(root, kind)}")


def _stated_coco(config: Config, root: str, data_type: str, split: str) -> CocoPart:
    """The COCO file that the keys name, whether it is there or not."""
    anno_path = os.path.join(root, config.instance_set.replace("{}", data_type))
    last = os.path.join(root, config.instance_set.replace("{}", os.path.basename(data_type)))
    if os.path.isfile(last) and not os.path.isfile(anno_path):
        anno_path = last  # images/Train has annotations/instances_Train.json
    if split == "val" and config.anno_path:
        anno_path = config.anno_path
    images = picture_folder(root, data_type, anno_path)
    return CocoPart(data_type, root, anno_path, images, "COCO")


def _locate_txt(config: Config, data_type: str) -> _Location:
    named = _needed(config, "image_dir", "the folder that the rows' file names start from")
    anno_path = _needed(config, "anno_path", "the TXT file").replace("{}", data_type)
    root, image_dir = named.split("{}")[0], named.replace("{}", data_type)
    return _Location(TxtAnnotations(anno_path, image_dir), root, "image_dir")


def _recognised(part: Part, parts: list[Part], root: str, split: str) -> str:
    use = "training" if split == "train" else "evaluation"
    names = short_list([part.name for part in parts], 8)
    return f"data: {root} is {part.layout} (parts: {names}); {use} takes {part.name}"


@dataclass(frozen=True)
class DataSource:
    """Where a split comes from and what of it is wanted.

    Attributes:
        annotations: how they are read.
        split: "train" or "val".
        class_names: without the background, in label order.
        keep_empty: keep images without boxes.
        max_boxes: largest boxes kept an image; 0 = all.
        skip_bad_images: leave out missing and undecodable images.
        max_image_pixels: larger images are bad ones.
        mindrecord_dir: folder of the record sets.
        place: the annotation file's folder, for those with files of equal names: below the data's
            root, or elsewhere its last part.
        notes: lines about what was recognised, and keys that have no effect.
    """

    annotations: Annotations
    split: str
    class_names: tuple[str, ...]
    keep_empty: bool
    max_boxes: int
    skip_bad_images: bool
    max_image_pixels: int
    mindrecord_dir: str
    place: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Kind of data set: coco, voc, yolo, labelme or txt."""
        return self.annotations.kind

    @property
    def anno_path(self) -> str:
        """What stands for the annotations (relative to the working folder or absolute)."""
        return self.annotations.anno_path

    @property
    def image_dir(self) -> str:
        """Folder that the images' names are relative to."""
        return self.annotations.image_dir

    def settings(self) -> dict[str, Any]:
        """Everything but the content that decides what the records are."""
        settings = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "split": self.split,
            "class_names": list(self.class_names),
            "keep_empty": self.keep_empty,
            "max_boxes": self.max_boxes,
            "skip_bad_images": self.skip_bad_images,
            **self.annotations.options(),
        }
        if self.skip_bad_images:  # without, no image is left out because of its size
            settings["max_image_pixels"] = self.max_image_pixels
        return settings

    def name(self) -> str:
        """Folder name of the record set: readable, and different for different settings."""
        stem = os.path.splitext(os.path.basename(self.anno_path))[0]
        usual = self.place == ("annotations" if self.kind == "coco" else ".")
        content = self.settings() if usual else [self.settings(), self.place]
        return f"{stem}-{self.split}-{json_digest(content)[:8]}"

    def read(self, *, max_boxes: int) -> tuple[list[ImageRecord], AnnotationReport]:
        """Read the annotations.

        Args:
            max_boxes: largest boxes kept an image; 0 = all.

        Raises:
            UserError: there is nothing usable in them.
        """
        return self.annotations.records(
            self.class_names,
            keep_empty=self.keep_empty,
            max_boxes=max_boxes,
            to_learn=self.split == "train",
        )

    def digest(self) -> str:
        """Return the digest of the annotations' content.

        Raises:
            UserError: they cannot be read.
        """
        return self.annotations.digest()

    @property
    def corners(self) -> bool:
        """Whether boxes are written as corners (not as a corner, width and height)."""
        return self.annotations.corners


def data_source(config: Config, split: str) -> DataSource:
    """The source of split "train" or "val" as the configuration describes it.

    dataset coco: coco_root/<instance_set with {} = the split's data type, or its last part>, images
    in coco_root/<data type>; for "val", anno_path replaces the annotation file if given. Where
    there is no such file, and with the other kinds: the layout of coco_root is recognised. TXT:
    anno_path and image_dir, in both of which {} stands for the split's data type too.

    Args:
        config: uses dataset, the keys of the data's place, class_names, num_gts, skip_empty_images,
            skip_bad_images, max_image_pixels and mindrecord_dir.
        split: "train" or "val".

    Raises:
        UserError: a needed key is empty, its folder is missing, or no data set is recognised in it.
    """
    named = str(config.dataset).lower()
    location = _locate(config, _OTHER_NAMES.get(named, named), split)
    annotations = location.annotations
    default = os.path.join(location.root, f"MindRecord_{annotations.kind.upper()}")
    folder = os.path.abspath(config.mindrecord_dir or default)
    if not _is_utf8(folder) or not _is_utf8(os.path.basename(annotations.anno_path)):
        raise UserError(
            f"mindrecord_dir {folder}: MindRecord files need a path in UTF-8; set mindrecord_dir "
            "to one, and name the annotation file so"
        )
    source = DataSource(
        annotations=annotations,
        split=split,
        class_names=tuple(map(one_form, config.class_names)),
        keep_empty=split != "train" or not config.skip_empty_images,
        max_boxes=int(config.num_gts) if split == "train" else 0,
        skip_bad_images=bool(config.skip_bad_images),
        max_image_pixels=int(config.max_image_pixels),
        mindrecord_dir=folder,
        place=_place(annotations.anno_path, location.root),
        notes=(*location.notes, *_without_effect(config, annotations.kind, split)),
    )
    # Records hold all of their images: they may have been brought here without them.
    image_dir = source.image_dir
    if not os.path.isdir(image_dir) and not os.path.isdir(os.path.join(folder, source.name())):
        notes = _in_brackets(source.notes)
        if not location.is_found and os.path.isdir(location.root):
            raise UserError(f"coco_root {location.root}: {unrecognised(location.root)}{notes}")
        raise UserError(
            f"image folder {image_dir} does not exist{_where_cvat_has_it(annotations)}; check "
            f"{location.keys}{notes}"
        )
    return source


def _where_cvat_has_it(annotations: Annotations) -> str:
    """Where an export of CVAT's has its pictures, if it has them: that is chosen there."""
    if not isinstance(annotations, CocoPart):
        return ""
    folder = os.path.join(annotations.root, "images", annotations.name)
    return f", nor {folder}, where CVAT puts them (export with Save images)"


def _without_effect(config: Config, kind: str, split: str) -> list[str]:
    """Say which keys are given that this kind of data set does not look at."""
    named = kind if str(config.dataset).lower() == AUTO else config.dataset
    notes = [
        f"note: {key} {short(getattr(config, key))} has no effect with dataset {named}: {instead}"
        for key, instead in _WITHOUT_EFFECT.get(kind, _OF_OTHERS).items()
        if getattr(config, key)
    ]
    if kind == _COCO and split == "train" and config.anno_path:
        notes.append(
            f"note: anno_path {short(config.anno_path)} is the validation file alone with dataset "
            "coco: training takes the file that coco_root, instance_set and train_data_type name"
        )
    return notes


def _in_brackets(notes: Sequence[str]) -> str:
    return "".join(f" ({note})" for note in notes)


def _place(anno_path: str, root: str) -> str:
    """The annotation file's folder relative to `root`, or its name when it is elsewhere."""
    named = os.path.abspath(os.path.dirname(anno_path)), os.path.abspath(root)
    for folder, base in (named, tuple(map(os.path.realpath, named))):  # before links are followed
        if os.path.commonpath([folder, base]) == base:
            return os.path.relpath(folder, base)
    return os.path.basename(named[0])


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:  # of a byte that Python holds as half a surrogate pair
        return False
    return True


def _needed(config: Config, key: str, meaning: str) -> str:
    value = getattr(config, key)
    if not value:
        raise UserError(f"{key} is empty; set it to {meaning}")
    return value
