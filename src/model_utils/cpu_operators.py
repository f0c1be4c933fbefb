# SPDX-License-Identifier: Apache-2.0
"""Which of our C++ operators a configuration uses, and what they multiply."""

from typing import TYPE_CHECKING

from ..native.build import Library, NotBuilt, library
from .configuration.derived import AUTO
from .device_adapter import compute_dtype, say_once

if TYPE_CHECKING:
    from .config import Config


def cpu_library(config: "Config") -> "Library | None":
    """Return the operators of our own (`src.native`), compiled when they are not yet.

    None where they are of no use: on another device, in float16, with `cpu_kernels: off`, or when
    they cannot be compiled (said once); MindSpore's operators then compute the same, slower. With
    `compute_type: bf16` they multiply in bfloat16 where the processor does; where nothing does, a
    line says so, and everything is computed in float32.

    Args:
        config: its `device_target`, `compute_type` and `cpu_kernels` are read.
    """
    if config.device_target != "CPU" or compute_dtype(config) != "float32":
        return None
    found, reason = _try_library(config)
    if config.compute_type != "bf16":
        return found
    if found is not None and found.has_bfloat16:
        return found._replace(bfloat16=True)
    say_once(
        f"note: {config.origin('compute_type')}: compute_type bf16: computing in fp32 ({reason})"
    )
    return found


def _try_library(config: "Config") -> tuple["Library | None", str]:
    """Return the operators, or None, and why they do not multiply in bfloat16."""
    if config.cpu_kernels == "off":
        return None, "cpu_kernels is off; only the C++ operators know bf16 on a CPU"
    try:
        return library(), "this processor has no AVX512-BF16"
    except NotBuilt as reason:
        say_once(
            f"note: MindSpore's own operators compute everything ({reason}); with a C++ compiler "
            "such as g++ a step takes about 60 % of the time"
        )
        return None, "the C++ operators, which know it, are not there"


def faster_format(config: "Config") -> tuple[str, ...]:
    """Return a line when training would be faster in another format than `auto` takes.

    Args:
        config: its `device_target`, `compute_type` and `cpu_kernels` are read.
    """
    if config.compute_type != AUTO:
        return ()
    found = cpu_library(config)
    if found is None or not found.has_bfloat16:
        return ()
    return (
        "note: computing in fp32; --compute_type bf16 would be faster on this processor (products "
        "in bfloat16; sums, weights and losses in fp32)",
    )
