# SPDX-License-Identifier: Apache-2.0
"""What MindSpore says about the phases of its compilations, summed up. Standard library only."""

import re
from collections.abc import Iterator

READING = "read and type the source"
GRADIENTS = "differentiate"
TYPING = "type again after changes"
SIMPLIFYING = "other passes over the graph"
BACKEND = "kernels and memory"
OTHER = "everything else"
PHASES = (READING, GRADIENTS, TYPING, SIMPLIFYING, BACKEND, OTHER)

_TOTAL = re.compile(r"^TotalTime = ([0-9.e+-]+)", re.MULTILINE)
_STEP = re.compile(r"^( *)\[([^\]]+)\]: ([0-9.e+-]+)", re.MULTILINE)
_END = "\nSums"
_OF_STEPS = {"bootstrap": READING, "type_inference": READING, "task_emit": BACKEND}
_PASSES = "optimize"
# Within the passes, at any depth; what is inside them is theirs.
_OF_PASSES = {"meta_fg_expand": GRADIENTS, "renormalize": TYPING}


def compile_phases(text: str) -> list[dict[str, float]]:
    """Return the seconds of `PHASES` for each graph that was compiled, in order.

    Args:
        text: what the process wrote with MindSpore's COMPILE_PROFILE switched on.
    """
    return [_phases(float(total), block) for total, block in _blocks(text)]


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """The total and the lines of each graph."""
    for found in _TOTAL.finditer(text):
        block, _, _ = text[found.end() :].partition(_END)
        yield found[1], block


def _phases(total: float, block: str) -> dict[str, float]:
    seconds = dict.fromkeys(PHASES, 0.0)
    in_passes, inside = False, None  # the depth of the pass that is counted as a whole
    for indent, name, value in _STEP.findall(block):
        depth = len(indent)
        if depth == 0:
            in_passes, inside = name == _PASSES, None
            phase = SIMPLIFYING if in_passes else _OF_STEPS.get(name, OTHER)
            seconds[phase] += float(value)
            continue
        if inside is not None and depth > inside:
            continue
        inside = None
        if in_passes and name in _OF_PASSES:
            inside = depth
            seconds[_OF_PASSES[name]] += float(value)
            seconds[SIMPLIFYING] -= float(value)
    seconds[OTHER] += total - sum(seconds.values())
    return seconds
