# SPDX-License-Identifier: Apache-2.0
"""What of a MindRecord file is not images: the parts that MindSpore believes without a check.

A damaged bit in a header, in a page of scalars or in the index beside the file ends the process or
takes gigabytes. They are a few kilobytes for a thousand images, and are checked before MindSpore
opens the file. The images have checksums of their own (`src.data.record_set`).
"""

import json

from ..base.digests import Part


def frame_parts(path: str, size: int) -> list[Part]:
    """Return the parts of a file that this program has written just now.

    Args:
        path: a MindRecord file, or its index.
        size: of the file, bytes.
    """
    if path.endswith(".db"):
        return [(0, size)]
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    first, page = header["header_size"], header["page_size"]
    scalars = [
        (first + entry["page_id"] * page, entry["page_size"])
        for entry in header["page"]
        if entry["page_type"] == "RAW_DATA"
    ]
    return [(0, 8 + length), *scalars]
