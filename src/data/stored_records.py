# SPDX-License-Identifier: Apache-2.0
"""The image records of a converted split, each made when it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from ..base.file_names import find_image
from .records import ImageRecord


class StoredRecords(Sequence[ImageRecord]):
    """Records over the arrays of a record set's index: a hundred thousand cost nothing to open.

    Args:
        image_dir: folder of the source images.
        index: as `record_index.read_index` gives it.
    """

    def __init__(self, image_dir: str, index: Mapping[str, Any]) -> None:
        self._image_dir = image_dir
        self._ids: list[int | str] = index["image_ids"]
        self._names: list[str] = index["file_names"]
        self._offsets: list[int] = index["offsets"].tolist()
        self._boxes, self._labels, self._crowd = index["boxes"], index["labels"], index["crowd"]

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, row: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, row: slice) -> list[ImageRecord]: ...

    def __getitem__(self, row: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        at = range(len(self))[row]  # which raises what a list raises
        own = slice(self._offsets[at], self._offsets[at + 1])
        return ImageRecord(
            image_id=self._ids[at],
            file_name=self._names[at],
            image_path=find_image(self._image_dir, self._names[at]),
            boxes=self._boxes[own],
            labels=self._labels[own],
            crowd=self._crowd[own],
        )
