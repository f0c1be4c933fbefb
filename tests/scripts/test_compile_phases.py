# SPDX-License-Identifier: Apache-2.0
"""benchmarks/compile_phases.py: MindSpore's own account of a compilation, summed up."""

import pytest

from benchmarks.compile_phases import (
    BACKEND,
    GRADIENTS,
    OTHER,
    PHASES,
    READING,
    SIMPLIFYING,
    TYPING,
    compile_phases,
)

GRAPH = """\
a warning

TotalTime = 10.5, [25]
[bootstrap]: 0.25
[type_inference]: 4.0
[auto_monad]: 5e-1
[optimize]: 4.5, [54]
    [py_interpret_to_execute]: 0.125
    [opt_a]: 4.0, [3]
        [Cycle 1]: 3.0, [45]
            [a_1]: 0.5
            [meta_fg_expand]: 1.0, [2]
                [Cycle 1]: 0.75, [1]
                    [resolve]: 0.75
                    [renormalize]: 0.5
            [renormalize]: 1.5
        [Cycle 2]: 1.0, [45]
            [renormalize]: 0.25
[renormalize]: 0.125
[task_emit]: 1.0
Sums
    optimize.opt_a : 4.0s : 40.00%
    [type_inference]: 99
"""


def test_each_second_counts_once():
    (graph,) = compile_phases(GRAPH)
    assert graph == {
        READING: 4.25,
        GRADIENTS: 1.0,
        TYPING: 1.75,
        SIMPLIFYING: 1.75,
        BACKEND: 1.0,
        OTHER: 0.75,
    }
    assert sum(graph.values()) == pytest.approx(10.5)
    assert tuple(graph) == PHASES


def test_every_graph_has_its_own():
    first, second = compile_phases(GRAPH + GRAPH.replace("task_emit]: 1.0", "task_emit]: 0.5"))
    assert (first[BACKEND], second[BACKEND]) == (1.0, 0.5)
    assert compile_phases("nothing of this kind") == []
