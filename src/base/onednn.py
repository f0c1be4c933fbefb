# SPDX-License-Identifier: Apache-2.0
"""The instructions that oneDNN may take, which libraries bring along: MindSpore's is to leave out
AVX-512 on a CPU, OpenVINO's is not, and both read the same variable once."""

import contextlib
import os
from collections.abc import Iterator

ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
# With AVX-512, oneDNN takes its reference kernel for the plain NCHW convolutions that MindSpore
# hands over, which is a hundred times slower than what it takes with AVX2.
MINDSPORE_ISA = "AVX2"


def limit_for_mindspore() -> None:
    """Keep MindSpore from slow convolutions; what the user has set stays."""
    if not os.environ.get(ISA_VARIABLE):
        os.environ[ISA_VARIABLE] = MINDSPORE_ISA


@contextlib.contextmanager
def without_limit() -> Iterator[None]:
    """Hide MindSpore's limit from a library that is loaded meanwhile, but nothing else that is set:
    OpenVINO with it is slow, and in bfloat16 wrong."""
    limited = os.environ.get(ISA_VARIABLE) == MINDSPORE_ISA
    if limited:
        del os.environ[ISA_VARIABLE]
    try:
        yield
    finally:
        if limited:
            os.environ[ISA_VARIABLE] = MINDSPORE_ISA
