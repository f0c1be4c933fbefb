# SPDX-License-Identifier: Apache-2.0
"""matplotlib, imported only where something is drawn, and without a word about its cache."""

import atexit
import os
import shutil
import tempfile
from types import ModuleType

from .user_cache import home_folder


def import_matplotlib() -> ModuleType:
    """Import matplotlib; its cache goes into a temporary folder where the user has no home.

    (It would say on every start that it has done so.)
    """
    home = home_folder()
    if not os.environ.get("MPLCONFIGDIR") and not (home and os.access(home, os.W_OK)):
        folder = tempfile.mkdtemp(prefix="matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder
    import matplotlib

    return matplotlib
