# SPDX-License-Identifier: Apache-2.0
"""The page to drop a picture on."""

from collections.abc import Sequence
from pathlib import Path

from ..pages.page import render_page
from ..pictures.drawing import class_color

_TEMPLATES = Path(__file__).parent / "templates"


def upload_page(class_names: Sequence[str], max_bytes: int, min_score: float) -> str:
    """Return the page as HTML; it asks this server's /predict and loads nothing else.

    Args:
        class_names: of labels 1..C.
        max_bytes: of a picture.
        min_score: where the slider stands at first.
    """
    settings = {
        "colors": {name: class_color(i) for i, name in enumerate(class_names)},
        "max_bytes": max_bytes,
    }
    return render_page(
        "upload.html",
        {"class_names": class_names, "settings": settings, "min_score": min_score},
        folder=_TEMPLATES,
        styles=("upload.css",),
        scripts=("upload.js",),
        allow={"connect-src": "'self'", "img-src": "blob:"},
    )
