# SPDX-License-Identifier: Apache-2.0
"""Faster R-CNN on MindSpore.

In a checkout this package is called `src`, installed it is `faster_rcnn`: imports in it are
relative. `from faster_rcnn import Detector` gives programs a detector; MindSpore is imported when
one is made.
"""

from typing import TYPE_CHECKING, Any

from .base.moved import admit_old_names

if TYPE_CHECKING:
    from .inference import Detector, Found

__version__ = "0.1.0"
__all__ = ["Detector", "Found", "__version__"]

admit_old_names(__name__)


def __getattr__(name: str) -> Any:
    if name in ("Detector", "Found"):
        from . import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
