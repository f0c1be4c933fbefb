#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the lines of a requirements file that the running interpreter's environment lacks.

``python missing_requirements.py FILE`` prints one requirement a line, nothing when all are there.
Knows comments, version ranges and ``-r FILE``. Works in a bare virtual environment too, where
``packaging`` is there as pip's own copy.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

# The desktop package is the same library with windows; installing both breaks both.
TWINS = {"opencv-python-headless": "opencv-python"}


def read_requirements(path: Path) -> list[str]:
    """Requirement lines of ``path`` and of the files it includes, without comments."""
    lines = []
    for raw in path.read_text(encoding="utf-8").splitlines():
        line = raw.split("#", 1)[0].strip()
        if line.startswith("-r "):
            lines += read_requirements(path.parent / line[3:].strip())
        elif line:
            lines.append(line)
    return lines


def is_fulfilled(line: str) -> bool:
    """Whether an installed distribution has the name and a version in the range of ``line``."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement

    requirement = Requirement(line)
    for name in (requirement.name, TWINS.get(requirement.name)):
        try:
            if name and requirement.specifier.contains(metadata.version(name), prereleases=True):
                return True
        except metadata.PackageNotFoundError:
            continue
    return False


def main(argv: list[str]) -> int:
    """Print what is missing from the requirements file ``argv[0]``."""
    for line in read_requirements(Path(argv[0])):
        if not is_fulfilled(line):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
