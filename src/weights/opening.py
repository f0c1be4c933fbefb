# SPDX-License-Identifier: Apache-2.0
"""The one way from a setting that names weights to a checkpoint, be it a file or a name.

Published weights are converted in memory, each time: what was converted once would have to be known
for too old after every change of the converter, and takes as much room again.
"""

from pathlib import Path

from ..checkpoints.file import Checkpoint, require_file
from ..checkpoints.foreign.conversion import ConversionOptions
from ..checkpoints.foreign.description import make_meta
from ..checkpoints.foreign.kinds import convert
from ..checkpoints.foreign.reading import read_source
from ..checkpoints.meta import dump_meta, parse_meta
from ..checkpoints.settings import open_checkpoint
from ..model_utils.config import load_config
from .cache import published_file
from .names import named
from .table import Published


def require_weights(value: str | Path, key: str) -> None:
    """Check before long work that a setting names weights; those with a name are brought here.

    Args:
        value: of the setting.
        key: its name, for errors.

    Raises:
        UserError: there is no such file or name, or it cannot be had.
    """
    row = named(value, key)
    if row is None:
        require_file(value, key)
    else:
        published_file(row)


def open_weights(value: str | Path, key: str) -> Checkpoint:
    """Read the weights that a setting names.

    Args:
        value: a .ckpt file, or a name of the table.
        key: the setting's name, for errors.

    Raises:
        UserError: as `require_weights` and `open_checkpoint`; or published weights are not what
            the table says.
    """
    row = named(value, key)
    return open_checkpoint(value, key) if row is None else _converted(row)


def _converted(row: Published) -> Checkpoint:
    """The checkpoint that `convert` would write, read again."""
    config = load_config([])
    options = ConversionOptions(config.class_names, settings=dict(row.settings))
    source = read_source(published_file(row))
    conversion = convert(source, options)
    meta = parse_meta(dump_meta(make_meta(conversion, config)), source.path)
    return Checkpoint(source.path, conversion.arrays, meta)
