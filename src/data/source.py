# SPDX-License-Identifier: Apache-2.0
"""Where a split's annotations and images are by the configuration, and what of them is wanted."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..base.digests import json_digest
from ..base.errors import UserError
from ..base.file_names import one_form
from ..base.messages import short
from ..model_utils.config import Config
from .annotation_files import annotation_digest
from .coco_annotations import read_coco
from .records import AnnotationReport, ImageRecord
from .txt_annotations import read_txt

FORMAT_VERSION = 2


@dataclass(frozen=True)
class _Kind:
    """A kind of data set.

    Attributes:
        read: an annotation file -> records and report; `read_coco` says what it is given.
        corners: boxes are written as corners (not as a corner, width and height).
        without_effect: keys that it does not look at, and what it takes instead.
        locate: (config, data type, split) -> where its files are.
        digest: of the content of the annotations at a path: when it differs, records are made anew.
    """

    read: Callable[..., tuple[list[ImageRecord], AnnotationReport]]
    corners: bool
    without_effect: Mapping[str, str]
    locate: Callable[[Config, str, str], "_Location"]
    digest: Callable[[str], str] = annotation_digest


class _Location(NamedTuple):
    """Where the files of a split are.

    Attributes:
        root: folder of the data set.
        anno_path: the annotations.
        image_dir: what file names start from.
        default_dir: for record sets, where mindrecord_dir is not set.
        keys: that name the folder of images, for errors.
    """

    root: str
    anno_path: str
    image_dir: str
    default_dir: str
    keys: str


def _locate_coco(config: Config, data_type: str, split: str) -> _Location:
    root = _needed(config, "coco_root", "the folder with images and annotations")
    anno_path = os.path.join(root, config.instance_set.replace("{}", data_type))
    last = os.path.join(root, config.instance_set.replace("{}", os.path.basename(data_type)))
    if os.path.isfile(last) and not os.path.isfile(anno_path):
        anno_path = last  # images/Train has annotations/instances_Train.json
    if split == "val" and config.anno_path:
        anno_path = config.anno_path
    folder = os.path.join(root, "MindRecord_COCO")
    keys = f"coco_root and {split}_data_type"
    return _Location(root, anno_path, os.path.join(root, data_type), folder, keys)


def _locate_txt(config: Config, data_type: str, split: str) -> _Location:
    named = _needed(config, "image_dir", "the folder that the rows' file names start from")
    anno_path = _needed(config, "anno_path", "the TXT file").replace("{}", data_type)
    root, image_dir = named.split("{}")[0], named.replace("{}", data_type)
    return _Location(root, anno_path, image_dir, os.path.join(root, "MindRecord_TXT"), "image_dir")


_KINDS = {
    "coco": _Kind(
        read_coco,
        corners=False,
        without_effect={
            "image_dir": "images are in coco_root, in the folder that train_data_type or "
            "val_data_type names (which may be a path, as images/Train)"
        },
        locate=_locate_coco,
    ),
    "txt": _Kind(
        read_txt,
        corners=True,
        without_effect={"coco_root": "images are in image_dir and the rows in anno_path"},
        locate=_locate_txt,
    ),
}


_OTHER_NAMES = {"other": "txt"}  # the model zoo's


@dataclass(frozen=True)
class DataSource:
    """Where a split comes from and what of it is wanted.

    Attributes:
        kind: a key of `_KINDS`.
        split: "train" or "val".
        anno_path, image_dir: as given (relative to the working folder or absolute).
        class_names: without the background, in label order.
        keep_empty: keep images without boxes.
        max_boxes: largest boxes kept an image; 0 = all.
        skip_bad_images: leave out missing and undecodable images.
        max_image_pixels: larger images are bad ones.
        mindrecord_dir: folder of the record sets.
        place: the annotation file's folder, for those with files of equal names: below the data's
            root, or elsewhere its last part.
        notes: lines about keys that have no effect.
    """

    kind: str
    split: str
    anno_path: str
    image_dir: str
    class_names: tuple[str, ...]
    keep_empty: bool
    max_boxes: int
    skip_bad_images: bool
    max_image_pixels: int
    mindrecord_dir: str
    place: str = ""
    notes: tuple[str, ...] = ()

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
        return _KINDS[self.kind].read(
            self.anno_path,
            self.image_dir,
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
        return _KINDS[self.kind].digest(self.anno_path)

    @property
    def corners(self) -> bool:
        """Whether boxes are written as corners (not as a corner, width and height)."""
        return _KINDS[self.kind].corners


def data_source(config: Config, split: str) -> DataSource:
    """The source of split "train" or "val" as the configuration describes it.

    dataset coco: coco_root/<instance_set with {} = the split's data type, or its last part>, images
    in coco_root/<data type>; for "val", anno_path replaces the annotation file if given. Otherwise:
    TXT, anno_path and image_dir, in both of which {} stands for the split's data type too.

    Args:
        config: uses dataset, the keys of the data's place, class_names, num_gts, skip_empty_images,
            skip_bad_images, max_image_pixels and mindrecord_dir.
        split: "train" or "val".

    Raises:
        UserError: a needed key is empty or its folder is missing.
    """
    data_type = config.train_data_type if split == "train" else config.val_data_type
    named = str(config.dataset).lower()
    kind = _OTHER_NAMES.get(named, named)
    location = _KINDS[kind].locate(config, data_type, split)
    anno_path, image_dir = location.anno_path, location.image_dir
    folder = os.path.abspath(config.mindrecord_dir or location.default_dir)
    if not _is_utf8(folder) or not _is_utf8(os.path.basename(anno_path)):
        raise UserError(
            f"mindrecord_dir {folder}: MindRecord files need a path in UTF-8; set mindrecord_dir "
            "to one, and name the annotation file so"
        )
    source = DataSource(
        kind=kind,
        split=split,
        anno_path=anno_path,
        image_dir=image_dir,
        class_names=tuple(map(one_form, config.class_names)),
        keep_empty=split != "train" or not config.skip_empty_images,
        max_boxes=int(config.num_gts) if split == "train" else 0,
        skip_bad_images=bool(config.skip_bad_images),
        max_image_pixels=int(config.max_image_pixels),
        mindrecord_dir=folder,
        place=_place(anno_path, location.root),
        notes=_without_effect(config, kind, split),
    )
    # Records hold all of their images: they may have been brought here without them.
    if not os.path.isdir(image_dir) and not os.path.isdir(os.path.join(folder, source.name())):
        notes = "".join(f" ({note})" for note in source.notes)
        raise UserError(f"image folder {image_dir} does not exist; check {location.keys}{notes}")
    return source


def _without_effect(config: Config, kind: str, split: str) -> tuple[str, ...]:
    """Say which keys are given that this kind of data set does not look at."""
    notes = [
        f"note: {key} {short(getattr(config, key))} has no effect with dataset {config.dataset}: "
        f"{instead}"
        for key, instead in _KINDS[kind].without_effect.items()
        if getattr(config, key)
    ]
    if kind == "coco" and split == "train" and config.anno_path:
        notes.append(
            f"note: anno_path {short(config.anno_path)} is the validation file alone with dataset "
            "coco: training takes the file that coco_root, instance_set and train_data_type name"
        )
    return tuple(notes)


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
