# SPDX-License-Identifier: Apache-2.0
"""What a run was asked for: its configuration beside the defaults."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..base.messages import counted
from ..model_utils.config import DEFAULT_CONFIG
from ..model_utils.configuration import yaml_files
from ..model_utils.configuration.schema import RULES
from ..model_utils.configuration.zoo import same_value
from ..pages.elements import Cell, Column, Table
from . import checked

_MOST_KEYS = 1000
_LONGEST_VALUE = 160  # letters
_DEEPEST = 3  # lists in lists
_COLUMNS = (Column("key"), Column("this run"), Column("default"), Column("meaning"))


class SettingTables(NamedTuple):
    """The configuration of a run.

    Attributes:
        changed: keys whose value is not the default.
        same: all others, None when there are none.
    """

    changed: Table
    same: Table | None

    @property
    def differ(self) -> str:
        """How many keys differ, as a sentence begins."""
        return counted(len(self.changed.rows), "key differs", "keys differ")


def setting_tables(settings: Mapping[str, Any]) -> SettingTables:
    """Compare a configuration with the defaults of this version.

    Args:
        settings: key -> value as the run's file has them; keys of other versions are shown too.
    """
    defaults, helps, _ = yaml_files.read_documents(DEFAULT_CONFIG)
    order = {key: place for place, key in enumerate(RULES)}
    names = [key for key in settings if isinstance(key, str)]
    names.sort(key=lambda key: order.get(key, len(order)))
    changed: list[tuple[Cell, ...]] = []
    same: list[tuple[Cell, ...]] = []
    for key in names[:_MOST_KEYS]:
        value, default = settings[key], defaults.get(key)
        # null: a key that follows from others
        is_same = value is None or (
            key in defaults and (value == default or same_value(value, default))
        )
        row = (
            Cell(checked.text(key)),
            Cell(_as_text(value)),
            Cell(_as_text(default) if key in defaults else "(no key of this version)"),
            Cell(str(helps.get(key, ""))),
        )
        (same if is_same else changed).append(row)
    return SettingTables(Table(_COLUMNS, changed), Table(_COLUMNS, same) if same else None)


def _as_text(value: object, depth: int = 0) -> str:
    """A value as the command line takes it."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, list | tuple):
        inner = ", ".join(_as_text(item, depth + 1) for item in value[:_LONGEST_VALUE])
        return checked.text(f"[{inner}]", _LONGEST_VALUE)
    if isinstance(value, dict):
        pairs = list(value.items())[:_LONGEST_VALUE]
        inner = ", ".join(
            f"{checked.text(key)}: {_as_text(item, depth + 1)}" for key, item in pairs
        )
        return checked.text(f"{{{inner}}}", _LONGEST_VALUE)
    if value is None or value == "":
        return "(empty)"
    return checked.text(value, _LONGEST_VALUE)
