# SPDX-License-Identifier: Apache-2.0
"""The configuration: default_config.yaml, then the user's files, then the command line.

`load_config` reads and checks everything once; the resulting `Config` does not change any more.
"""

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.foreign_files import read_bounded
from ..base.messages import short
from .configuration import command_line, derived, memory, shipped, yaml_files, zoo
from .configuration.command_line import COMMAND_LINE
from .configuration.near_keys import nearest
from .configuration.program_keys import PROGRAM_KEYS
from .configuration.schema import CODE_KEYS, RULES, SETTABLE
from .configuration.types import coerce, is_list
from .local_adapter import get_rank, get_world_size

DEFAULT_CONFIG = str(shipped.FOLDER / shipped.DEFAULT_NAME)
DEFAULT_ORIGIN = DEFAULT_CONFIG  # of values that nobody has set
SAVED_BY_A_RUN = "The effective configuration of a run; --config_path takes it as it is."
PROGRAM = "program"
# The model zoo's keys whose value the launcher decides.
_LAUNCHED = {"device_num": get_world_size, "rank_id": get_rank}
_OF_RUN_FOLDERS = ("ckpt_0", "metrics.jsonl", "environment.json")
_LONGEST_KEY = 100  # characters that are compared with the known ones


class Config:
    """All settings of a run, checked; read-only.

    Keys are attributes: `config.img_width`. Lists come as tuples, `roi_layer` as a dict. What
    follows from the keys is an attribute too (`derived.DERIVED`): `num_classes`,
    `class_names` (without background), `feature_shapes`, `num_anchors`, `num_bboxes`, ... Two
    configurations are equal when all their keys are. Iteration yields the keys.

    Args:
        values: every key but `extends`.
        origins: where each value came from.
        choices: the allowed values of the keys that have some.
        files: the YAML files that it was read from, also an attribute.
        adopted: keys whose values nobody has asked for, see `adopt`.

    Raises:
        UserError: a value is wrong by itself or contradicts another.
    """

    files: tuple[str, ...] = ()

    def __init__(
        self,
        values: Mapping[str, Any],
        origins: Mapping[str, str],
        choices: Mapping[str, Sequence[Any]],
        files: Sequence[str] = (),
        adopted: Iterable[str] = (),
    ) -> None:
        checked = {key: _check(key, values[key], origins[key], choices) for key in SETTABLE}
        found = derived.contradiction(checked) or memory.too_large(checked)
        if found:
            keys, problem = found
            # The file to correct is the one that changed something, not the file of defaults.
            sources = [origins[key] for key in keys]
            changed = [name for name in sources if name != DEFAULT_ORIGIN]
            raise _value_error([*changed, *sources][0], keys[0], values[keys[0]], problem)
        object.__setattr__(self, "_values", checked)
        object.__setattr__(self, "_origins", dict(origins))
        object.__setattr__(self, "_choices", choices)
        object.__setattr__(self, "files", tuple(files))
        object.__setattr__(self, "_adopted", frozenset(adopted))

    def __getattr__(self, name: str) -> Any:
        # Names with an underscore are looked up here only while a copy is being made.
        if not name.startswith("_"):
            if name in derived.DERIVED:
                return derived.DERIVED[name](self._values)
            if name in self._values:
                value = self._values[name]
                return dict(value) if isinstance(value, dict) else value
        raise AttributeError(f"the configuration has no key {name!r}{nearest(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the configuration is read-only; use config.replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"the configuration is read-only; {name} stays")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    # This takes the hash away, as it should: roi_layer is a dict.
    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Config) else NotImplemented

    def __repr__(self) -> str:
        return f"Config({self.to_dict()!r})"

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value as plain YAML types (lists, not tuples); a copy."""
        return {key: _plain(value) for key, value in self._values.items()}

    def origin(self, key: str) -> str:
        """Where a key's value came from: a YAML file as it was named, "command line" or "program".

        Args:
            key: a key of the configuration.

        Raises:
            KeyError: no such key.
        """
        return self._origins[key]

    def is_given(self, key: str) -> bool:
        """Whether the user, or a program that uses this one, has set a key.

        Args:
            key: a key of the configuration.
        """
        return self._origins[key] != DEFAULT_ORIGIN and key not in self._adopted

    def replace(self, **changes: Any) -> "Config":
        """A copy with some keys changed, checked like the original.

        Args:
            changes: key -> value, as YAML has it.

        Raises:
            UserError: an unknown key, a wrong value, a contradiction.
        """
        for key in changes:
            if key not in SETTABLE:
                raise _unknown_key(PROGRAM, key)
        return self._with(changes, PROGRAM, self._adopted - changes.keys())

    def adopt(self, changes: Mapping[str, Any], origin: str) -> "Config":
        """A copy with keys of a file that nobody has named; `is_given` stays false for them.

        Args:
            changes: key -> value.
            origin: what `origin` says of them: the file's path.

        Raises:
            UserError: a wrong value, a contradiction, or a key that names programs.
        """
        for key in CODE_KEYS:
            if key in changes:
                raise _code_error(origin, key, changes[key])
        return self._with(changes, origin, self._adopted | changes.keys())

    def _with(self, changes: Mapping[str, Any], origin: str, adopted: Iterable[str]) -> "Config":
        origins = {**self._origins, **dict.fromkeys(changes, origin)}
        return Config({**self._values, **changes}, origins, self._choices, self.files, adopted)

    def save(self, path: str) -> None:
        """Write a YAML file that loads again to an equal configuration; atomic.

        But for what names programs (`callbacks`): a run's folder is passed on to others.

        Args:
            path: of the file; its folder is made when missing.

        Raises:
            UserError: the file cannot be written.
        """
        names = ("num_classes", "feature_shapes", "num_bboxes")
        computed = ", ".join(f"{name} {_plain(getattr(self, name))}" for name in names)
        values = {key: value for key, value in self.to_dict().items() if key not in CODE_KEYS}
        comments = (SAVED_BY_A_RUN, f"Computed: {computed}")
        yaml_files.write_yaml(path, values, comments=comments)

    def path_in(self, folder: str | Path, name: str = "config.yaml") -> Path:
        """Where it belongs in a run's folder: never over a file of the user that was read.

        Args:
            folder: the run's.
            name: the file's name; `effective_<name>` where it would replace a file of the user.
        """
        path = Path(folder, name)
        while any(_same_file(str(path), read) for read in self.files) and not is_saved(path):
            path = path.with_name(f"effective_{path.name}")
        return path

    def save_in(self, folder: str | Path, name: str = "config.yaml") -> Path:
        """Save at `path_in(folder, name)`, in a folder that is made when missing; return the file.

        Args:
            folder, name: see `path_in`.

        Raises:
            UserError: the file cannot be written.
        """
        path = self.path_in(folder, name)
        self.save(str(path))
        return path


def load_config(
    argv: Sequence[str],
    description: str = "",
    default_path: str = DEFAULT_CONFIG,
    program: str = "",
) -> Config:
    """Read the configuration of an entry script.

    Args:
        argv: the arguments after the script's name: `--config_path FILE`, `--key value`,
            `--key=value`; lists as `"[8, 16]"` or as several arguments. `--help` prints the keys
            of the program, `--help all` every key, and leaves with exit code 0.
        description: what the script does, for `--help`.
        default_path: YAML file of three documents: values, help lines, choices.
        program: a name of `PROGRAM_KEYS`, whose keys `--help` shows; empty: all.

    Raises:
        UserError: a file, key, type, value or combination that cannot work; names file, key and
            remedy.
    """
    defaults, helps, choices = _read_default(default_path)
    shown = PROGRAM_KEYS.get(program, ())
    try:
        config_path, arguments = command_line.parse(
            argv, description, defaults, helps, choices, shown
        )
    except command_line.UnknownArgumentError as error:
        raise _unknown_key(COMMAND_LINE, error.key, shown) from None
    layers = [(default_path, os.path.dirname(default_path), defaults)]
    if config_path is not None:
        layers += [
            (path, os.path.dirname(path), values)
            for path, values in yaml_files.read_chain(shipped.find_config(config_path))
            if not _same_file(path, default_path)
        ]
    files = [os.path.abspath(path) for path, *_ in layers[1:]]
    for path, _, layer in layers[1:]:
        _refuse_code(path, layer)
    layers.append((COMMAND_LINE, "", arguments))

    values, origins = _merge(layers, shown)
    if values["coco_classes"] == derived.AUTO:  # as if nobody had set it: see `data.file_classes`
        values["coco_classes"], origins["coco_classes"] = defaults["coco_classes"], default_path
    config = Config({key: values[key] for key in SETTABLE}, origins, choices, files)
    for key in values.keys() - RULES.keys():
        problem = zoo.problem(key, values[key], config._values, _LAUNCHED)
        if problem:
            raise _value_error(origins[key], key, values[key], problem)
    return config


def _read_default(path: str) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """The three documents of the file of defaults."""
    documents = yaml_files.read_documents(path)
    different = documents[0].keys() ^ RULES.keys()
    if len(documents) != 3 or different:
        raise UserError(
            f"{path}: is not this version's file of defaults (keys that differ: "
            f"{', '.join(sorted(map(str, different))) or 'none'}); restore it"
        )
    values, helps, choices = documents
    values.pop(yaml_files.EXTENDS)
    return values, helps, choices


def is_saved(path: str | Path) -> bool:
    """Say whether a file is what `Config.save` has written, and not a user's.

    Args:
        path: of the file; may be missing.
    """
    try:
        first = read_bounded(path, yaml_files.MAX_BYTES).partition(b"\n")[0]
        return first.decode("utf-8").strip() == f"# {SAVED_BY_A_RUN}"
    except (OSError, UnicodeDecodeError):
        return False


def _refuse_code(path: str, values: Mapping[str, Any]) -> None:
    """Check that no file of a run's folder names programs: it may have come with a checkpoint.

    Raises:
        UserError: it does.
    """
    for key in CODE_KEYS:
        if key in values and (is_saved(path) or _is_in_run_folder(path)):
            raise _code_error(path, key, values[key])


def _is_in_run_folder(path: str) -> bool:
    folder = os.path.dirname(os.path.realpath(path))
    return any(os.path.lexists(os.path.join(folder, name)) for name in _OF_RUN_FOLDERS)


def _code_error(origin: str, key: str, value: Any) -> UserError:
    return _value_error(
        origin,
        key,
        value,
        f"names programs, which a file in a run's folder cannot; give --{key} on the command "
        "line, or write it into a file of your own in another folder",
    )


def _same_file(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _merge(
    layers: Iterable[tuple[str, str, Mapping[str, Any]]], shown: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay (origin, folder, values) layers over each other; returns values and origins of all keys.

    Raises:
        UserError: an unknown key, or one key under two names with two values.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    zoo_names = zoo.Translator()
    for origin, folder, layer in layers:
        for key in layer:
            if key not in RULES and key not in zoo.ZOO_KEYS:
                raise _unknown_key(origin, key, shown)
        try:
            own = zoo_names.translate(layer)
        except ValueError as error:
            key, problem = error.args
            raise _value_error(origin, key, layer.get(key), problem) from None
        except RecursionError:
            raise UserError(f"{origin}: a list holds itself; take the alias out") from None
        if "coco_classes" in own:
            own["coco_classes"] = _read_class_file(own["coco_classes"], folder, origin)
        values.update(own)
        origins.update(dict.fromkeys(own, origin))
    return values, origins


def _read_class_file(value: Any, folder: str, origin: str) -> Any:
    """The names in a text file with one on each line, when `value` names a `.txt` file."""
    if not isinstance(value, str) or not value.endswith(".txt"):
        return value
    try:
        content = read_bounded(Path(folder, os.path.expanduser(value)), yaml_files.MAX_BYTES)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _value_error(
            origin,
            "coco_classes",
            value,
            f"cannot be read ({getattr(error, 'strerror', '') or error}); give a text file with a "
            "name on each line",
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _check(key: str, value: Any, origin: str, choices: Mapping[str, Sequence[Any]]) -> Any:
    """The value in its kept form, or a `UserError` that names where it came from."""
    try:
        checked = coerce(RULES[key], value)
    except ValueError as error:
        raise _value_error(origin, key, value, str(error)) from None
    allowed = choices.get(key)
    chosen = checked if is_list(RULES[key].kind) else (checked,)
    wrong = [item for item in chosen if item not in allowed] if allowed else []
    if not wrong:
        return checked
    folded = {str(choice).casefold(): choice for choice in allowed or ()}
    near = difflib.get_close_matches(str(wrong[0])[:_LONGEST_KEY].casefold(), folded, 1, 0.5)
    hint = f"; did you mean {folded[near[0]]}?" if near else ""
    raise _value_error(
        origin, key, wrong[0], f"is not one of {', '.join(map(str, folded.values()))}{hint}"
    )


def _value_error(origin: str, key: str, value: Any, problem: str) -> UserError:
    text = short(list(value) if isinstance(value, tuple) else value)
    return UserError(f"{origin}: {key}: {text} {problem}")


def _unknown_key(origin: str, key: Any, shown: Collection[str] = ()) -> UserError:
    name = str(key)
    return UserError(
        f"{origin}: {short(name)} is not a key{nearest(name, shown) or '; see --help all'}"
    )


def _plain(value: Any) -> Any:
    """The value with lists in place of tuples."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, dict) else value
