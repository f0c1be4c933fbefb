# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of configuration files: strict YAML, `extends`, atomic saving.

Knows nothing of the keys' meaning; `config_schema.py` does.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import yaml

from src.errors import UserError

EXTENDS = "extends"
MAX_ALIASES = 20  # in a file


class _StrictLoader(yaml.SafeLoader):
    """The safe loader that refuses duplicate keys and takes `1e-4` for the number it is.

    YAML 1.1 wants a point and a sign in the exponent and reads a text otherwise. It refuses more
    than a few aliases too: lists of aliases of lists of aliases grow beyond all bounds.
    """

    _aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise yaml.composer.ComposerError(
                    None, None, f"more than {MAX_ALIASES} aliases", self.peek_event().start_mark
                )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            if key is not None and key != "<<":
                seen.add(key)
        return super().construct_mapping(node, deep)


class _StrictDumper(yaml.SafeDumper):
    """The safe dumper that quotes a text which `_StrictLoader` would take for a number."""


for _class in (_StrictLoader, _StrictDumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def parse_text(text: str) -> Any:
    """Parse one YAML value, such as an argument of the command line.

    Raises:
        yaml.YAMLError: when `text` is not YAML.
    """
    return yaml.load(text, Loader=_StrictLoader)


def read_documents(path: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file, each a mapping.

    Raises:
        UserError: the file is missing, unreadable, not UTF-8, not YAML, empty, has a duplicate
            key, or one of its documents is not a mapping.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise UserError(f"{path}: config_path: no such file; give an existing YAML file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: config_path: is a folder; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: config_path: byte {error.start} is not UTF-8 text; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: config_path: cannot be read ({error.strerror})") from None
    try:
        documents = list(yaml.load_all(text, Loader=_StrictLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_yaml_problem(error)}; correct the YAML") from None
    except Exception as error:  # an impossible date, endless nesting, a tag that does not fit, ...
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
    if not path:
        raise UserError("command line: config_path: is empty; give a YAML file or leave it out")
    while path:
        real = os.path.realpath(path)
        if real in visited:
            raise UserError(
                f"{path}: {EXTENDS}: the files extend each other in a circle "
                f"({' -> '.join(map(os.path.basename, [*visited, real]))}); take one link out"
            )
        visited.append(real)
        values = read_documents(path)[0]
        base = values.pop(EXTENDS, None)
        chain.insert(0, (path, values))
        if base is None or base == "":
            break
        if not isinstance(base, str):
            raise UserError(f"{path}: {EXTENDS}: {base!r} is not a file name; give one YAML file")
        base_path = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if not os.path.exists(base_path):
            raise UserError(
                f"{path}: {EXTENDS}: {base!r} does not exist "
                "(the name is relative to this file); correct it"
            )
        path = base_path
    return chain


def write_atomic(path: str, values: Mapping[str, Any], comments: tuple[str, ...] = ()) -> None:
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
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".config-", suffix=".yaml", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the run's settings from its readers
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"{path}: the configuration cannot be written ({error.strerror}); "
            "choose another output_dir"
        ) from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
