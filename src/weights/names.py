# SPDX-License-Identifier: Apache-2.0
"""What a setting that names weights says: a file, or a name in the table."""

import difflib
import os
from pathlib import Path

from ..base.errors import UserError
from ..base.messages import short
from ..base.program import command
from ..checkpoints.foreign.reading import SUFFIXES
from ..FasterRcnn.names import BACKBONES
from ..model_utils.configuration.schema import SETTABLE
from .table import PUBLISHERS, TABLE, Published

_BACKBONE_KEYS = ("pre_trained",)  # take a backbone alone


def named(value: str | os.PathLike[str], key: str) -> Published | None:
    """Return the published weights that a setting names; None where it names a file.

    Args:
        value: of the setting.
        key: its name, for errors.

    Raises:
        UserError: a name of nothing, or of what cannot be used there.
    """
    text = os.fspath(value)
    if text.partition("/")[0] not in PUBLISHERS or Path(text).suffix in SUFFIXES:
        return None
    if os.path.isfile(text):
        return None
    row = find(text, key)
    if not row.is_detector and key not in _BACKBONE_KEYS:
        raise UserError(
            f"{key}: {row.name} is a classifier, of which there is a backbone; give it as "
            f"pre_trained, and a detector as {key}: `{command('weights')}` lists both"
        )
    return row


def find(name: str, key: str) -> Published:
    """Return the row of a name.

    Args:
        name: as in the table.
        key: what gave it, for errors.

    Raises:
        UserError: there is none, or this version cannot use it.
    """
    row = TABLE.get(name)
    if row is None:
        near = difflib.get_close_matches(name[:100], TABLE, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"{key}: {short(name)} is neither a file nor the name of published weights{hint}; "
            f"`{command('weights')}` lists the names"
        )
    missing = missing_here(row)
    if missing:
        raise UserError(f"{key}: {name} needs {missing}, which this version does not have")
    return row


def missing_here(row: Published) -> str:
    """Return what weights need that is not in this version; "" when they can be used.

    Args:
        row: of the table.
    """
    if row.backbone not in BACKBONES:
        return f"the backbone {row.backbone}"
    keys = [key for key in row.needs if key not in SETTABLE]
    return f"the keys {', '.join(keys)}" if keys else ""
