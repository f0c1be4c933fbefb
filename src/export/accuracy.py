# SPDX-License-Identifier: Apache-2.0
"""What 8-bit files lose of AP, measured before they are published."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .model_card import card_path

# From a model file, with its description beside it, to AP, 0 to 1.
Score = Callable[[Path], float]


def measure_loss(
    score: Score, card: Mapping[str, Any], written: Mapping[Path, Path], folder: Path
) -> dict[str, float]:
    """Return AP of 8-bit files and of the float32 files that they were made of.

    Args:
        score: gives the AP of a model.
        card: the description of the 8-bit files.
        written: where a file belongs -> where it was written; its float32 form lies beside it.
        folder: an empty one on the same file system.
    """
    accuracy = {}
    for key, prefix in (("ap_float32", "float32_"), ("ap", "")):
        place = folder / key
        place.mkdir()
        sizes = {}
        for path, source in written.items():
            file = source.with_name(prefix + source.name)
            os.link(file, place / path.name)
            sizes[path.name] = file.stat().st_size
        model = place / f"{next(iter(written)).name}"
        text = json.dumps(_with_sizes(card, sizes))
        card_path(model).write_text(text, encoding="utf-8")
        accuracy[key] = round(score(model), 4)
    return accuracy


def _with_sizes(card: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    if "files" not in card:
        return {**card, "model_bytes": next(iter(sizes.values()))}
    files = [{**file, "bytes": sizes[file["name"]]} for file in card["files"]]
    return {**card, "files": files}
