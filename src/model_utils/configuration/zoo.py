# SPDX-License-Identifier: Apache-2.0
"""The model zoo's configuration keys that are not keys here, so that users' own files keep working.

Three kinds: keys that follow from others (`derived.DERIVED`), keys that ask for nothing
while they have the zoo's value (`ACCEPTED`), and keys with another name here (`RENAMED`,
`run_eval`, `interval`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .derived import DERIVED, Values


@dataclass(frozen=True, slots=True)
class Accepted:
    """A model zoo key that changes nothing here.

    Attributes:
        values: those that ask for nothing, or for what happens anyway; None: every value.
        remedy: why another value cannot be, or what to do instead.
        also: one more value that is fine, from the other keys.
    """

    values: tuple[Any, ...] | None
    remedy: str
    also: Callable[[Values], Any] | None = None


_OUT = "take the key out"
_FIXED = f"the network is built one way; {_OUT}"
_PER_LEVEL = f"NMS runs on each level by itself; {_OUT}"
_LAUNCHER = f"the launcher decides it; {_OUT}"

ACCEPTED: dict[str, Accepted] = {
    "without_bg_loss": Accepted((True,), f"background has no box loss; {_OUT}"),
    "activate_num_classes": Accepted((2,), _FIXED),
    "use_sigmoid_cls": Accepted((True,), _FIXED),
    "rpn_head_use_sigmoid": Accepted((True,), _FIXED),
    "rpn_head_weight": Accepted((1.0,), "use rpn_loss_cls_weight and rpn_loss_reg_weight"),
    "rpn_proposal_nms_across_levels": Accepted((False,), _PER_LEVEL),
    "rpn_nms_across_levels": Accepted((False,), _PER_LEVEL),
    # The zoo's files say 0.9 here and 0.91 in momentum, and only momentum is used.
    "sgd_momentum": Accepted((0.9,), "use momentum", lambda v: v["momentum"]),
    "opt_type": Accepted(("sgd", "SGD"), "use optimizer", lambda v: v["optimizer"]),
    "finetune": Accepted(
        (False,),
        "give the detector as pre_trained; heads of another shape start "
        f"fresh by themselves; {_OUT}",
    ),
    "save_checkpoint": Accepted((True,), "use save_checkpoint_epochs"),
    # Only how the zoo prepares images, not what comes out.
    "python_multiprocessing": Accepted((True, False), _OUT),
    "prefix": Accepted(("",), "use mindrecord_dir"),
    "device_num": Accepted((1,), _LAUNCHER),
    "rank_id": Accepted((0,), _LAUNCHER),
}

RENAMED: dict[str, str] = {
    "save_checkpoint_path": "output_dir",
    # As the instructions for ModelArts name them.
    "dataset_path": "data_path",
    "distribute": "run_distribute",
    "checkpoint": "checkpoint_path",
}
_RUN_EVAL, _INTERVAL, _EVAL_INTERVAL = "run_eval", "interval", "eval_interval"

ZOO_KEYS = frozenset(
    (DERIVED.keys() - {"num_classes", "class_names", "canvas_sizes"})
    | ACCEPTED.keys()
    | RENAMED.keys()
    | {_RUN_EVAL, _INTERVAL}
)


def same_value(given: Any, wanted: Any) -> bool:
    """Whether a YAML value says the same as another.

    Lists compare with tuples, whole numbers with floats, null with ""; numbers never with truth
    values.

    Args:
        given: as YAML has it.
        wanted: what it is compared with.
    """
    if isinstance(wanted, tuple | list):
        return (
            isinstance(given, list | tuple)
            and len(given) == len(wanted)
            and all(same_value(a, b) for a, b in zip(given, wanted, strict=True))
        )
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if wanted == "":
        return given is None or given == ""
    return type(given) in (int, float, str) and given == wanted


def problem(
    key: str, given: Any, values: Values, launched: Mapping[str, Callable[[], int]]
) -> str | None:
    """What is wrong with the value of a key of `DERIVED` or `ACCEPTED`; None when nothing is.

    Args:
        key: the model zoo's key.
        given: its value, as YAML gave it.
        values: the checked values of all own keys.
        launched: keys whose value the launcher has decided, with what reads it.
    """
    if key in DERIVED:
        wanted = DERIVED[key](values)
        if same_value(given, wanted):
            return None
        shown = str(wanted).replace("(", "[").replace(")", "]")
        return f"contradicts the other keys, from which {shown} follows; take the key out"
    accepted = ACCEPTED[key]
    allowed = accepted.values
    if allowed is None or any(same_value(given, value) for value in allowed):
        return None
    if accepted.also is not None and same_value(given, accepted.also(values)):
        return None
    if key in launched and same_value(given, launched[key]()):
        return None
    return f"has no effect here: {accepted.remedy}"


class Translator:
    """Gives renamed keys their own names, layer by layer.

    `run_eval: True` with `interval: N` is `eval_interval: N`; either may come from an earlier
    layer.
    """

    def __init__(self) -> None:
        self._run_eval: bool | None = None
        self._interval: Any = 1

    def translate(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the layer's values under their own names.

        Args:
            layer: key and value of one file, or of the command line.

        Raises:
            ValueError: with (key, problem) as arguments: the layer says one thing under two
                names, and the two differ.
        """
        values = dict(layer)
        for old, new in RENAMED.items():
            if old not in values:
                continue
            value = values.pop(old)
            if not same_value(value, values.setdefault(new, value)):
                raise ValueError(old, f"contradicts {new} {values[new]!r}; take {old} out")
        if values.keys() & {_RUN_EVAL, _INTERVAL}:
            self._translate_run_eval(values)
        return values

    def _translate_run_eval(self, values: dict[str, Any]) -> None:
        self._run_eval = values.pop(_RUN_EVAL, self._run_eval)
        self._interval = values.pop(_INTERVAL, self._interval)
        if not isinstance(self._run_eval, bool | None):
            raise ValueError(_RUN_EVAL, "is not a truth value; give True or False")
        if (
            isinstance(self._interval, bool)
            or not isinstance(self._interval, int)
            or self._interval < 1
        ):
            raise ValueError(_INTERVAL, "is not a whole number from 1 on; give one")
        if self._run_eval is None:
            return
        wanted = self._interval if self._run_eval else 0
        if not same_value(wanted, values.setdefault(_EVAL_INTERVAL, wanted)):
            raise ValueError(
                _RUN_EVAL,
                f"with {_INTERVAL} {self._interval} contradicts {_EVAL_INTERVAL} "
                f"{values[_EVAL_INTERVAL]!r}; take {_RUN_EVAL} out",
            )
