# SPDX-License-Identifier: Apache-2.0
"""``python -m faster_rcnn COMMAND ...``: what the program ``faster-rcnn`` does."""

from .commands.main import run

if __name__ == "__main__":
    run()
