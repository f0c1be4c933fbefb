# SPDX-License-Identifier: Apache-2.0
"""The imports between the rooms of `src` are those that docs/architecture.md allows; and sizes."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.paths import REPO

SOURCES = REPO / "src"
PAGE = REPO / "docs" / "architecture.md"
MOST_LINES, MOST_FUNCTION_LINES, MOST_MODULES = 400, 60, 12
INNER_ROOMS = {("checkpoints", "foreign"), ("model_utils", "configuration")}
SCRIPTS = {"processes/rank_process.py": "lifetime"}  # started by its path: imports its neighbour

Module = tuple[str, ...]


@cache
def modules() -> dict[Module, Path]:
    """Every module of `src` by its dotted name within it; packages by the folder's."""
    found = {}
    for path in SOURCES.rglob("*.py"):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts] = path
    return found


def room(module: Module) -> str:
    """Name the room that a module belongs to."""
    return ".".join(module[:2]) if module[:2] in INNER_ROOMS else module[0]


def imports(module: Module, path: Path) -> Iterator[Module]:
    """Yield the modules of `src` that a module imports, within functions too."""
    is_package = path.name == "__init__.py"
    package = module if is_package and module != ("__init__",) else module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        base += tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            inner = (*base, alias.name)
            yield inner if inner in modules() else base or ("__init__",)


@cache
def rows(heading: str) -> tuple[tuple[str, ...], ...]:
    """The cells of the page's table whose first column has this heading, without backquotes."""
    text = PAGE.read_text(encoding="utf-8").replace("`", "")
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, f"docs/architecture.md has no table of {heading}s"
    lines = table[1].splitlines()
    return tuple(tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines)


@cache
def allowed() -> dict[str, set[str]]:
    """What each room may import, from the page."""
    return {name: set(filter(None, may.split(", "))) for name, _, may in rows("room")}


def arrows() -> dict[tuple[str, str], list[str]]:
    """The imports between rooms, with the files that have them; without the page's exceptions."""
    exceptions = {(file, target) for file, target, _ in rows("file")}
    found: dict[tuple[str, str], list[str]] = {}
    for module, path in modules().items():
        file = path.relative_to(SOURCES).as_posix()
        for target in map(room, imports(module, path)):
            if target != room(module) and (file, target) not in exceptions:
                found.setdefault((room(module), target), []).append(file)
    return found


def test_the_page_names_the_rooms():
    # util.py may not be there yet or no more: users' scripts need it, nothing here does.
    assert set(map(room, modules())) - {"util"} == set(allowed()) - {"util"}


def test_the_page_allows_no_way_up_and_no_circle():
    """A row imports only from rows below it."""
    below: set[str] = set()
    for name, _, _ in reversed(rows("room")):
        assert allowed()[name] <= below, f"{name} may import from rows above it"
        below.add(name)


def test_rooms_import_what_the_page_allows():
    wrong = {
        f"{source} -> {target}: {', '.join(sorted(set(files)))}"
        for (source, target), files in arrows().items()
        if target not in allowed()[source]
    }
    assert not wrong


def test_modules_import_in_no_circle():
    exceptions = {(file, target) for file, target, _ in rows("file")}
    targets = {}
    for module, path in modules().items():
        file = path.relative_to(SOURCES).as_posix()
        found = set(imports(module, path)) - {module}
        targets[module] = {t for t in found if (file, room(t)) not in exceptions}
    while targets:  # take away what imports nothing that is left
        done = {module for module, found in targets.items() if not found & targets.keys()}
        assert done, f"a circle among {sorted('.'.join(module) for module in targets)}"
        targets = {module: found for module, found in targets.items() if module not in done}


def test_imports_within_the_package_are_relative():
    """So that it works under both of its names."""
    for path in modules().values():
        file = path.relative_to(SOURCES).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names if not getattr(node, "level", 0) else ():
                own = name.partition(".")[0] in ("src", "faster_rcnn", "tests", "benchmarks")
                neighbour = (path.parent / f"{name}.py").is_file() and path.parent != SOURCES
                assert not own, f"{file} imports {name}"
                assert not neighbour or SCRIPTS.get(file) == name, f"{file} imports {name}"


def test_few_modules_lie_in_the_package_itself():
    assert len(list(SOURCES.glob("*.py"))) <= MOST_MODULES


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "scripts"])
def test_files_and_functions_are_short(folder):
    long = []
    for path in sorted((REPO / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > MOST_LINES and folder == "src":
            long.append(f"{path.relative_to(REPO)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    long.append(f"{path.relative_to(REPO)}: {node.name} has {lines} lines")
    assert not long
