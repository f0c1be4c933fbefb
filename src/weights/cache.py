# SPDX-License-Identifier: Apache-2.0
"""Published files in the user's cache: downloaded once, and checked each time.

A file that the user has put there counts as one that was downloaded.
"""

import os
import sys
import time
from pathlib import Path

from ..base.errors import UserError
from ..base.files import make_folder
from ..base.one_at_a_time import Task, exclusive, report_failure
from ..base.progress import Display
from ..base.user_cache import user_cache
from ..checkpoints.foreign.reading import MOST_BYTES
from ..storage.http_download import Wanted, download_file
from ..storage.https_client import require_safe
from .table import Published

FOLDER_VARIABLE = "FASTERRCNN_WEIGHTS_DIR"
MIRROR_VARIABLE = "FASTERRCNN_WEIGHTS_MIRROR"
WAIT_SECONDS = 3600.0  # for another process that downloads the same file
_ROUNDING = 0.001  # mebibytes, of the sizes that publishers state
_DOWNLOAD = Task("download", "download", "", FOLDER_VARIABLE)


def cached_path(row: Published) -> Path:
    """Return where a file is kept: $FASTERRCNN_WEIGHTS_DIR or the user's cache, PUBLISHER/FILE.

    Args:
        row: need not be there.

    Raises:
        UserError: there is no place.
    """
    folder = os.environ.get(FOLDER_VARIABLE, "")
    cache = user_cache()
    if not folder and cache is None:
        raise UserError(
            f"{row.name}: there is no home folder to keep it in; set {FOLDER_VARIABLE} to a folder"
        )
    root = Path(os.path.expanduser(folder)) if folder else Path(str(cache)) / "weights"
    return root.absolute() / row.publisher / row.file_name


def url_of(row: Published) -> str:
    """Return where a file comes from: below $FASTERRCNN_WEIGHTS_MIRROR as in the cache, if set.

    Args:
        row: the file.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return f"{mirror}/{row.publisher}/{row.file_name}" if mirror else row.url


def published_file(row: Published, display: Display | None = None) -> Path:
    """Return the file of published weights, downloaded if it is not in the cache.

    Args:
        row: the file.
        display: where the download is shown; default the standard error.

    Raises:
        UserError: it cannot be had, or what is there is not what its publisher states.
    """
    path = cached_path(row)
    if _is_there(row, path):
        return path
    started = time.time()
    make_folder(path.parent, FOLDER_VARIABLE)
    with exclusive(str(path), started, WAIT_SECONDS, _DOWNLOAD):
        if _is_there(row, path):  # by the process that was waited for
            return path
        try:
            _download(row, path, display or Display(sys.stderr))
        except BaseException as error:
            report_failure(str(path), error)
            raise
    return path


def _download(row: Published, path: Path, display: Display) -> None:
    most = MOST_BYTES
    if row.mebibytes:
        most = int((row.mebibytes + _ROUNDING) * 2**20) + 1
    wanted = Wanted(row.name, url_of(row), most, row.digest)
    require_safe(wanted.url, wanted.name)  # before it is shown
    display.say(f"downloading {row.name} from {wanted.url} to {path}")
    download_file(wanted, path, display)
    if row.digest is None:
        display.say(f"note: {row.name}: its publisher states no digest, so nothing was compared")


def _is_there(row: Published, path: Path) -> bool:
    """Say whether a file is in the cache and what it should be.

    Raises:
        UserError: it is there and is something else.
    """
    if not os.path.lexists(path):
        return False
    try:
        fits = path.stat().st_size > 0 and (row.digest is None or row.digest.fits(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); remove it") from None
    if not fits:
        algorithm = row.digest.algorithm if row.digest else "content"
        raise UserError(
            f"{path}: does not have the {algorithm} that its publisher states for {row.name}; "
            "remove it, and it is downloaded again"
        )
    return True
