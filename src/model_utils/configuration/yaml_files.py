# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of configuration files: strict YAML, `extends`, atomic saving.

Knows nothing of the keys' meaning; `schema.py` does.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import yaml

from ...base.errors import UserError
from ...base.files import write_text_atomic
from ...base.foreign_files import read_bounded
from ...base.messages import short

EXTENDS = "extends"
MAX_BYTES = 1 << 19  # of all files together; a thousand class names take 20 kB
MAX_ALIASES = 20  # in a file
MAX_DEPTH = 20
MAX_FILES = 20  # that extend each other
_MAX_MERGED = 10_000  # keys that `<<` brings into a mapping
_MAX_DIGITS = 400  # more than any float has

_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_OTHER_BASE = re.compile(r"[-+]?0[xb][0-9a-fA-F_]+")


class _StrictLoader(yaml.SafeLoader):
    """The safe loader that refuses duplicate keys and takes `1e-4` for the number it is.

    YAML 1.1 wants a point and a sign in the exponent and reads a text otherwise. What it reads as
    another number than is meant (010 is eight, 1:30 is ninety) is refused, as are files that grow
    beyond all bounds: lists of aliases of lists of aliases, deep nesting, numbers of many digits.
    """

    _aliases = 0

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open_anchors: list[str | None] = []  # of what is being read, outermost first

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                problem = f"more than {MAX_ALIASES} aliases"
            elif event.anchor in self._open_anchors:
                problem = f"the alias *{event.anchor} is inside what it stands for"
        elif len(self._open_anchors) >= MAX_DEPTH:
            problem = "nested too deeply"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self._open_anchors.append(getattr(event, "anchor", None))
        node = super().compose_node(parent, index)
        self._open_anchors.pop()
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise _wrong(key_node, f"the key {short(key)} is given twice")
            if key is not None and key != "<<":
                seen.add(key)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MAX_MERGED:
            raise _wrong(node, f"more than {_MAX_MERGED} keys in one mapping")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # An impossible date, a tag that does not fit, ...
            raise _wrong(node, f"a value cannot be read ({error})") from None

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if len(text) > _MAX_DIGITS:
            raise _wrong(node, f"a number of {len(text)} characters")
        value = super().construct_yaml_int(node)
        plain = _DECIMAL.fullmatch(text) or _OTHER_BASE.fullmatch(text)
        return value if plain else _refuse_reading(node, text, value)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node)
        if len(text) > _MAX_DIGITS:
            raise _wrong(node, f"a number of {len(text)} characters")
        value = super().construct_yaml_float(node)
        return value if ":" not in text else _refuse_reading(node, text, value)


class _StrictDumper(yaml.SafeDumper):
    """The safe dumper that quotes a text which `_StrictLoader` would take for a number."""


def _wrong(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _refuse_reading(node: yaml.Node, text: str, value: float) -> NoReturn:
    raise _wrong(node, f"YAML reads {text} as {value}; write {value}, or {text!r} for a text")


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)
for _class in (_StrictLoader, _StrictDumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def parse_text(text: str) -> Any:
    """Parse one YAML value, such as an argument of the command line.

    Args:
        text: YAML, untrusted.

    Raises:
        yaml.YAMLError: when `text` is not YAML.
    """
    return yaml.load(text, Loader=_StrictLoader)


def read_documents(path: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file, each a mapping.

    Args:
        path: as the user has given it; errors name it so.

    Raises:
        UserError: the file is missing, unreadable, larger than `MAX_BYTES`, not UTF-8, not YAML,
            empty, has a duplicate key, or one of its documents is not a mapping.
    """
    try:
        documents = list(yaml.load_all(_read(path), Loader=_StrictLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_yaml_problem(error)}; correct the YAML") from None
    except UserError:
        raise
    except Exception as error:  # what PyYAML's scanner does not foresee
        raise UserError(
            f"{path}: a value cannot be read ({type(error).__name__}: {error}); correct the YAML"
        ) from None
    if not documents or documents[0] is None:
        raise UserError(f"{path}: the file is empty; write `key: value` lines into it")
    for document in documents:
        if not isinstance(document, dict | None):
            raise UserError(
                f"{path}: holds a {type(document).__name__}, not `key: value` lines; "
                "write one key and its value on each line"
            )
    return [document or {} for document in documents]


def _read(path: str) -> str:
    """The text of a configuration file."""
    try:
        return read_bounded(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: config_path: no such file; give an existing YAML file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: config_path: is a folder; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: config_path: byte {error.start} is not UTF-8 text; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: config_path: cannot be read ({error.strerror}); give a YAML file"
        ) from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    """One line from PyYAML's message of several: `line 3, column 5: the problem`."""
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{problem}"


def read_chain(path: str) -> list[tuple[str, dict[str, Any]]]:
    """Read a file and all it extends.

    Args:
        path: a YAML file; its first document holds the values, further ones are left alone.

    Returns:
        (file, values) pairs, the most basic file first; `extends` itself is taken out of the
        values.

    Raises:
        UserError: as `read_documents`; also an `extends` that is not a file name or leads back to
            itself.
    """
    chain: list[tuple[str, dict[str, Any]]] = []
    visited: list[str] = []
    size = 0
    if not path:
        raise UserError("command line: config_path: is empty; give a YAML file or leave it out")
    while path:
        real = os.path.realpath(path)
        if real in visited:
            raise UserError(
                f"{path}: {EXTENDS}: the files extend each other in a circle "
                f"({' -> '.join(map(os.path.basename, [*visited, real]))}); take one link out"
            )
        if len(visited) == MAX_FILES:
            raise UserError(f"{path}: {EXTENDS}: more than {MAX_FILES} files; put them together")
        visited.append(real)
        values = read_documents(path)[0]
        size += os.path.getsize(path)
        if size > MAX_BYTES:
            raise UserError(
                f"{path}: {EXTENDS}: the files have more than {MAX_BYTES / 1e6:.1f} MB together; "
                "take out what they do not need"
            )
        base = values.pop(EXTENDS, None)
        chain.insert(0, (path, values))
        if base is None or base == "":
            break
        if not isinstance(base, str):
            raise UserError(
                f"{path}: {EXTENDS}: {short(base)} is not a file name; give one YAML file"
            )
        base_path = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if not _exists(base_path):
            raise UserError(
                f"{path}: {EXTENDS}: {short(base)} does not exist "
                "(the name is relative to this file); correct it"
            )
        path = base_path
    return chain


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a zero byte, in Python 3.10 and 3.11
        return False


def write_yaml(path: str, values: Mapping[str, Any], comments: tuple[str, ...] = ()) -> None:
    """Write `values` as YAML so that the file is there whole or not at all.

    Args:
        path: the file; its folder is made when missing.
        values: plain YAML values (dict, list, str, numbers, bool, None).
        comments: lines that go before the values.

    Raises:
        UserError: the file cannot be written.
    """
    text = "".join(f"# {line}\n" for line in comments)
    text += yaml.dump(
        dict(values),
        Dumper=_StrictDumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )
    path = os.path.abspath(path)
    try:
        write_text_atomic(path, text)
    except OSError as error:
        raise UserError(
            f"{path}: the configuration cannot be written ({error.strerror}); "
            "choose another output_dir"
        ) from None
