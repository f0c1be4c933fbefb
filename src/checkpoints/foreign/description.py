# SPDX-License-Identifier: Apache-2.0
"""What a converted checkpoint says about itself."""

from typing import Any

from ...model_utils.config import Config
from ..file import describe_model
from .conversion import Conversion


def make_meta(conversion: Conversion, config: Config) -> dict[str, Any]:
    """Return what the converted checkpoint says about itself.

    A detector has all that `describe_model` says of a configuration, and `settings`: the keys that
    have to be set for the weights' own numbers. A backbone only has its own part of that. Both have
    `source`.

    Args:
        conversion: what `convert` returned.
        config: gives the keys that the conversion leaves open.
    """
    settings = conversion.settings
    known = {key: value for key, value in settings.items() if key in config}
    meta: dict[str, Any] = {"source": conversion.kind, "settings": dict(settings)}
    names = conversion.class_names
    if names is None:
        return {**{key: known[key] for key in known if key != "bn_eps"}, **meta}
    meta["settings"]["coco_classes"] = ["background", *names]
    described = describe_model(config.replace(**known, coco_classes=names))
    described = {k: v for k, v in described.items() if k not in ("img_width", "img_height")}
    return {**described, **meta}
