# SPDX-License-Identifier: Apache-2.0
"""The command line: every configuration key as an option."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from ...base.arguments import HELP, ArgumentParser
from ...base.errors import UserError
from ...base.messages import short
from . import yaml_files
from .derived import ConfigLike
from .near_keys import CONFIG_PATH, nearest
from .schema import RULES, SECTIONS, SETTABLE
from .types import element_kind, is_list
from .zoo import ZOO_KEYS

_ALL = "all"  # --help all
COMMAND_LINE = "command line"  # where the values come from


class UnknownArgumentError(Exception):
    """An option that is not a key.

    Args:
        key: the option's name, without the dashes.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def parse(
    argv: Sequence[str],
    description: str,
    defaults: Mapping[str, Any],
    helps: Mapping[str, str],
    choices: Mapping[str, Sequence[Any]],
    shown: Collection[str] = (),
) -> tuple[str | None, dict[str, Any]]:
    """Parse the arguments of an entry script.

    Args:
        argv: the arguments after the script's name.
        description, defaults, helps, choices: for `--help`.
        shown: the keys that `--help` shows; empty: all. `--help all` shows every key, `--help WORD`
            those with the word in their name.

    Returns:
        The value of --config_path or None, and the given keys with the values that a YAML file
        would have given; they are not checked.

    Raises:
        UnknownArgumentError: an option is not a key.
        UserError: an option without its value, a value without an option, a value that is not YAML.
        SystemExit: after `--help`.
    """
    given_arguments = [str(argument) for argument in argv]
    shown = _keys_of_help(given_arguments, shown)
    parser = _build(description, defaults, helps, choices, shown)
    namespace, rest = parser.parse_known_args(given_arguments)
    for argument in rest:
        if argument.startswith("--"):
            raise UnknownArgumentError(argument[2:].split("=")[0])
        meant = nearest(argument.split("=")[0], shown, fuzzy=False)  # epochs=100 is ultralytics'
        raise UserError(
            f"{COMMAND_LINE}: {argument!r} belongs to no key; write --key value, and a value with "
            f"spaces in quotes{meant}"
        )
    given = vars(namespace)
    config_path = given.pop(CONFIG_PATH, None)
    return config_path, {key: _to_value(key, text) for key, text in given.items()}


def output_folder(config: ConfigLike, usual: str) -> str:
    """Return where a command writes that is not a training.

    Args:
        config: its output_dir counts from the command line; a file's is where a training writes.
        usual: the folder otherwise.
    """
    return config.output_dir if config.origin("output_dir") == COMMAND_LINE else usual


def _keys_of_help(argv: Sequence[str], usual: Collection[str]) -> Collection[str]:
    """The keys that `--help` shows: the usual ones, or what the word behind it asks for."""
    place = next((i for i, argument in enumerate(argv) if argument in HELP), len(argv))
    words = [word for word in argv[place + 1 : place + 2] if not word.startswith("-")]
    if words == [_ALL] or not (words or usual):
        return SETTABLE
    if not words:
        return usual
    wanted = words[0].replace("-", "_").casefold()
    found = [key for key in SETTABLE if wanted in key]
    if not found:
        raise UserError(
            f"{COMMAND_LINE}: --help {short(words[0])}: no key has this in its name; see --help "
            f"{_ALL}"
        )
    return found


def _build(
    description: str,
    defaults: Mapping[str, Any],
    helps: Mapping[str, str],
    choices: Mapping[str, Sequence[Any]],
    keys: Collection[str],
) -> ArgumentParser:
    """The parser; only options that are given end up in its namespace."""
    parser = ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the description's lines
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s [--config_path FILE] [--key value ...]",
        epilog=_epilog(len(keys)),
        add_help=False,
    )
    parser.add_argument(*HELP, action="help", help=f"these keys; --help {_ALL}: every key")
    parser.add_argument(
        f"--{CONFIG_PATH}",
        metavar="FILE",
        help="YAML file; keys that it leaves out keep their defaults",
    )
    for title, rules in SECTIONS.items():
        group = parser.add_argument_group(title)
        for key in rules:
            if key not in SETTABLE:
                continue
            kind = rules[key].kind
            shown = (
                "{" + ",".join(map(str, choices[key])) + "}"
                if key in choices
                else element_kind(kind).upper()
            )
            text = f"{helps.get(key, '')} (default: {_default_text(key, defaults[key])})"
            text = text if key in keys else argparse.SUPPRESS
            group.add_argument(
                f"--{key}",
                nargs="+" if is_list(kind) else "?" if kind == "bool" else None,
                const="True" if kind == "bool" else None,  # --report is --report True
                metavar=shown,
                help=text.replace("%", "%%"),
            )
    for key in sorted(ZOO_KEYS):
        parser.add_argument(f"--{key}", nargs="+", help=argparse.SUPPRESS)
    return parser


def _epilog(count: int) -> str:
    lists = "Lists are written as '[8, 16]' or as several values: 8 16."
    if count == len(SETTABLE):
        return lists
    return (
        f"{count} of {len(SETTABLE)} keys are shown: --help {_ALL} shows every key, --help WORD "
        f"those with the\nword in their name, as --help lr. {lists}"
    )


def _default_text(key: str, value: Any) -> str:
    if key == "coco_classes":
        return f"the {len(value) - 1} of COCO"
    text = yaml.safe_dump(value, default_flow_style=True, width=10000)
    return text.removesuffix("...\n").strip()


def _to_value(key: str, given: str | list[str]) -> Any:
    """Turn the text of an option into the value that a YAML file would have given."""
    kind = RULES[key].kind if key in RULES else "any"
    if kind in ("str", "path"):
        return given
    if isinstance(given, str):
        return _parse_yaml(key, given)
    text = " ".join(given)  # a list in brackets may come in several pieces
    if not is_list(kind) or text.lstrip().startswith("["):
        return _parse_yaml(key, text)
    if kind == "classes":
        return given if len(given) > 1 else given[0]
    items = given if len(given) > 1 else given[0].split(",")
    return [_parse_yaml(key, item) for item in items]


def _parse_yaml(key: str, text: str) -> Any:
    try:
        return yaml_files.parse_text(text)
    except Exception:  # as in `yaml_files.read_documents`
        raise UserError(
            f"{COMMAND_LINE}: {key}: {text!r} cannot be read as a value; see --help"
        ) from None
