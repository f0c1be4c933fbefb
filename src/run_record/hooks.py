# SPDX-License-Identifier: Apache-2.0
"""The hooks of a run: those of the user are found and made, and all are called.

A hook is a program. So only the user names one, on the command line or in a file of the user's own
(`Config` sees to that), and Python finds it where it finds every module.
"""

import importlib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from ..base.console import tell_listeners, warn
from ..base.errors import UserError
from .callback import Callback

METHODS = tuple(name for name in vars(Callback) if name.startswith("on_"))
_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_LONGEST_NAME = 500  # letters


def is_hook_name(name: object) -> bool:
    """Say whether something is written like the name of a hook, `module.Class`.

    Args:
        name: such as a file of somebody else has it.
    """
    return isinstance(name, str) and len(name) <= _LONGEST_NAME and bool(_NAME.fullmatch(name))


def load_callback(name: str) -> Any:
    """Make a hook.

    Args:
        name: `module.Class`; the module is imported as Python does it, from its own path and
            PYTHONPATH.

    Raises:
        UserError: there is no such class, it has no method of `Callback`, or it cannot be made.
    """
    if not is_hook_name(name):
        raise UserError(f"callbacks: {name!r} is no name of a class; write module.Class")
    module_name, _, class_name = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        raise UserError(
            f"callbacks: {name}: there is no module {error.name}; set PYTHONPATH to its "
            "folder, or install it"
        ) from None
    except Exception as error:
        raise _failed(f"the module {module_name} cannot be imported", name, error) from error
    if not isinstance(found, type):
        raise UserError(f"callbacks: {name}: the module {module_name} has no class {class_name}")
    if not any(callable(getattr(found, method, None)) for method in METHODS):
        raise UserError(
            f"callbacks: {name}: has none of the methods of a hook: {', '.join(METHODS)}"
        )
    try:
        return found()
    except UserError:
        raise
    except Exception as error:
        raise _failed("cannot be made", name, error) from error


class Hooks:
    """Calls the hooks of a run, in their order. One that fails later on is left out from then on.

    Args:
        hooks: objects with some of the methods of `Callback`.
    """

    def __init__(self, hooks: Sequence[Any] = ()) -> None:
        self._hooks = list(hooks)
        # Looked up once: the one of every step is to cost nothing.
        self._of_step = self._with("on_step")

    def start(self, *arguments: Any) -> None:
        """Call `on_start` of all.

        Args:
            arguments: of that method.

        Raises:
            UserError: one of them raises.
        """
        for hook in self._with("on_start"):
            try:
                hook.on_start(*arguments)
            except UserError:
                raise
            except Exception as error:
                raise _failed("on_start fails", _title(hook), error) from error

    def step(self, number: int) -> None:
        """Call `on_step` of those that have it.

        Args:
            number: of the step.
        """
        if self._of_step:
            self._call(self._of_step, "on_step", number)

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of all that have it.

        Args:
            method: of `Callback`.
            arguments: of that method.
        """
        self._call(self._with(method), method, *arguments)

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def _with(self, method: str) -> list[Any]:
        """The hooks that have a method other than `Callback`'s own, which does nothing."""
        empty = getattr(Callback, method)
        return [
            hook
            for hook in self._hooks
            if callable(getattr(hook, method, None))
            and getattr(type(hook), method, None) is not empty
        ]

    def _call(self, hooks: Iterable[Any], method: str, *arguments: Any) -> None:
        for hook in tuple(hooks):
            try:
                getattr(hook, method)(*arguments)
            except Exception as error:
                for line in traceback.format_exc().splitlines():
                    tell_listeners(line)
                warn(
                    f"WARNING: {_title(hook)}: {method} fails ({type(error).__name__}: {error}); "
                    "it is left out from now on, the training goes on"
                )
                self._hooks.remove(hook)
                self._of_step = self._with("on_step")


def _title(hook: Any) -> str:
    return f"{type(hook).__module__}.{type(hook).__qualname__}"


def _failed(what: str, name: str, error: Exception) -> UserError:
    place = traceback.extract_tb(sys.exc_info()[2])[-1]
    return UserError(
        f"callbacks: {name}: {what} ({type(error).__name__}: {error}; {place.filename} line "
        f"{place.lineno}); correct it, or leave it out of callbacks"
    )
