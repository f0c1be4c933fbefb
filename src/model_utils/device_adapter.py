# SPDX-License-Identifier: Apache-2.0
"""Everything that depends on the device: finding it, joining processes, kinds of operators.

MindSpore is imported inside the functions, so that help and wrong settings are answered at once.
"""

import ctypes
import functools
import glob
import os
import platform
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..base.console import warn
from ..base.errors import UserError
from ..base.onednn import limit_for_mindspore
from . import local_adapter
from .configuration.derived import AUTO
from .configuration.memory import require_memory

if TYPE_CHECKING:
    from .config import Config

# MindSpore's log level: errors. Its warnings are about its own internals and bury the run's output.
_LOG_VARIABLE = "GLOG_v"
_LOG_ERRORS = "3"
# Seconds that an operator which exchanges data waits for the other processes; this much longer than
# `ranks`, which is to be first, and has words.
RESERVE_SECONDS = 60
_CPU_WAIT_VARIABLE = "MS_CPU_COMM_OP_TIMEOUT"
_ASCEND_WAIT_VARIABLE = "HCCL_EXEC_TIMEOUT"
# Names the Ascend processors of a job: set by its launchers and by ModelArts.
_RANK_TABLE_VARIABLE = "RANK_TABLE_FILE"
_BFLOAT16 = "bfloat16"
_ACCELERATORS = ("Ascend", "GPU")  # in the order in which they are taken
# What the driver of an accelerator puts there, whether MindSpore can use it or not.
_DRIVER_FILES = {"Ascend": "/dev/davinci[0-9]*", "GPU": "/dev/nvidia[0-9]*"}


_Kind = TypeVar("_Kind")


class DeviceInfo(NamedTuple):
    """Where this process runs.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes that train together.
        device_target: "CPU", "GPU" or "Ascend".
        device_id: number of the accelerator on this machine; 0 on a CPU.
    """

    rank: int
    world_size: int
    device_target: str
    device_id: int


def choose_device(config: "Config") -> "Config":
    """Return the configuration with the device that `device_target: auto` finds, said in one line.

    The environment is prepared for the device, so this comes before MindSpore computes anything.

    Args:
        config: its `device_target` is read; another one than `auto` stays.
    """
    target = config.device_target
    if target == AUTO:
        target, reason = find_device()
        say_once(f"device_target {AUTO}: {target} ({reason})")
        config = config.adopt({"device_target": target}, config.origin("device_target"))
    prepare_environment(target)
    return config


def find_device() -> tuple[str, str]:
    """Return the device that is there, Ascend before GPU before CPU, and how that is known.

    Nothing is set, and no device is opened: MindSpore is asked what it can use. A rank table is for
    Ascend, which is then not doubted: a job of many processors must not go on on CPUs.
    """
    if os.environ.get(_RANK_TABLE_VARIABLE):
        return "Ascend", f"{_RANK_TABLE_VARIABLE} is set"
    os.environ.setdefault(_LOG_VARIABLE, _LOG_ERRORS)  # read when MindSpore is imported
    import mindspore as ms

    for target in _ACCELERATORS:
        count = _device_count(target)
        if count:
            return target, f"MindSpore {ms.__version__} finds {count}"
    unused = [target for target in _ACCELERATORS if glob.glob(_DRIVER_FILES[target])]
    if not unused:
        return "CPU", f"MindSpore {ms.__version__} finds no Ascend and no GPU"
    return "CPU", (
        f"this machine has {unused[0]} devices, but MindSpore {ms.__version__} cannot use them; "
        f"--device_target {unused[0]} says why"
    )


def _device_count(target: str) -> int:
    """How many accelerators of a kind MindSpore can use; 1 where it only knows that it can."""
    from mindspore import device_context
    from mindspore._c_expression import MSContext

    # Asked first: `is_available` would log pages about missing libraries.
    if not MSContext.get_instance().is_pkg_support_device(target):
        return 0
    try:
        return int(getattr(device_context, target.lower()).device_count())
    except (NameError, RuntimeError):  # a build without the counter
        return 1


def prepare_environment(device_target: str) -> None:
    """Set what must be in the environment before MindSpore computes anything.

    MindSpore's log is reduced to errors. On a CPU, oneDNN is kept from its slow AVX-512
    convolutions: it reads the variable at the process's first convolution, so that one must not
    have been before. What the user has set stays.

    Args:
        device_target: "CPU", "GPU" or "Ascend"; of `auto`, `choose_device` says which.
    """
    prepare = _by_device(device_target, {"CPU": limit_for_mindspore, "GPU": None, "Ascend": None})
    os.environ.setdefault(_LOG_VARIABLE, _LOG_ERRORS)
    if prepare is not None:
        prepare()


def init_device(config: "Config") -> DeviceInfo:
    """Choose the device, switch to graph mode, seed MindSpore and join the other processes.

    Processes are joined when a launcher started several of them (RANK_SIZE or msrun's or mpirun's
    variables) or with `run_distribute`; gradients are then averaged over all of them.

    Args:
        config: uses device_target, device_id, compute_type, run_distribute, rank_timeout and seed.

    Raises:
        UserError: this machine does not have the device, or on a CPU the memory; the device does
            not know the `compute_type`; `run_distribute` without a launcher; the processes do not
            find each other.
    """
    target = config.device_target
    launched = local_adapter.get_world_size() > 1 or bool(os.environ.get("MS_ROLE"))
    if config.run_distribute and not launched:
        raise UserError(
            f"{config.origin('run_distribute')}: run_distribute: True, but no launcher started "
            "this process; start it with msrun, or leave run_distribute out"
        )
    require_memory(config)
    device_id = 0
    if target != "CPU":
        from_launcher = local_adapter.get_device_id()
        device_id = config.device_id if from_launcher is None else from_launcher

    import mindspore as ms

    _select_device(config, device_id)
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(config.seed)
    _require_number_format(config)
    rank, world_size = _join_processes(config) if launched else (0, 1)
    return DeviceInfo(rank, world_size, target, device_id)


def _select_device(config: "Config", device_id: int) -> None:
    """`mindspore.set_device`, with one line for a device that is not there."""
    import mindspore as ms
    from mindspore._c_expression import MSContext

    target = config.device_target
    origin = config.origin("device_target")
    advice = "give --device_target CPU, or install the device's driver and libraries"
    if target == "GPU":  # without it MindSpore does not load its GPU part, and does not say so
        advice += "; CUDA_HOME must be a CUDA 11 toolkit's folder, whose bin/nvcc MindSpore asks"
    # Asked first, because set_device logs pages about missing libraries before it fails.
    if not MSContext.get_instance().is_pkg_support_device(target):
        raise UserError(
            f"{origin}: device_target: {target!r} is not available to MindSpore {ms.__version__} "
            f"on this machine; {advice}"
        )
    try:
        ms.set_device(target, device_id)
    except (RuntimeError, ValueError) as error:
        if target == "CPU" == ms.get_context("device_target"):
            return  # the program that uses us has started it already
        raise UserError(
            f"{origin}: device_target: {target!r} with device_id {device_id} cannot be used "
            f"({_first_line(error)}); {advice}"
        ) from None


def _require_number_format(config: "Config") -> None:
    """Make sure that the device has convolutions in bfloat16, by trying one.

    That takes less than a second; without it, a page of MindSpore says so when the network is
    compiled.
    """
    if compute_dtype(config) != _BFLOAT16:
        return
    import mindspore as ms
    from mindspore import nn, ops

    try:
        nn.Conv2d(1, 1, 1).to_float(ms.bfloat16)(ops.ones((1, 1, 1, 1), ms.float32)).asnumpy()
    except (RuntimeError, TypeError, ValueError):
        raise UserError(
            f"{config.origin('compute_type')}: compute_type: {config.compute_type!r}: MindSpore "
            f"{ms.__version__} has no convolution in bfloat16 on this {config.device_target}; give "
            "--compute_type fp16 or fp32"
        ) from None


def _join_processes(config: "Config") -> tuple[int, int]:
    """Start the collective communication; returns (rank, world size)."""
    import mindspore as ms
    from mindspore.communication import get_group_size, get_rank, init

    # Collectives on a CPU give up after 30 s by default.
    os.environ.setdefault(_CPU_WAIT_VARIABLE, str(int(config.rank_timeout) + RESERVE_SECONDS))
    os.environ.setdefault(_ASCEND_WAIT_VARIABLE, str(int(config.rank_timeout) + RESERVE_SECONDS))
    try:
        init()  # hccl on Ascend, nccl on GPU, mccl on CPU
    except (RuntimeError, ValueError) as error:
        limit = os.environ.get("MS_TOPO_TIMEOUT", "600")  # what msrun was given
        raise UserError(
            f"the processes cannot join ({_first_line(error)}); one of them has failed, was not "
            f"started or was not reached within CLUSTER_TIME_OUT ({limit} s): look at the others' "
            "log.txt, start all servers, check MASTER_ADDR and MASTER_PORT"
        ) from None
    rank, world_size = get_rank(), get_group_size()
    ms.set_auto_parallel_context(
        parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=world_size
    )
    return rank, world_size


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(". You can run")[0][:200] if lines else type(error).__name__


def compute_dtype(config: "Config") -> str:
    """Number format of the network's convolutions and dense layers: a MindSpore type's name.

    `compute_type: auto` means float16 on Ascend and GPU and float32 on a CPU. On a CPU `bf16` is
    float32, too: our operators round inside (see `cpu_operators`). The device must be known: see
    `choose_device`.

    Args:
        config: its `compute_type` and `device_target` are read.
    """
    if config.compute_type == AUTO:
        kinds = {"CPU": "float32", "GPU": "float16", "Ascend": "float16"}
        return _by_device(config.device_target, kinds)
    if config.compute_type == "bf16":
        return _by_device(
            config.device_target, {"CPU": "float32", "GPU": _BFLOAT16, "Ascend": _BFLOAT16}
        )
    return {"fp32": "float32", "fp16": "float16"}[config.compute_type]


@functools.cache
def say_once(line: str) -> None:
    """Write a line to the standard error, once a process.

    Args:
        line: without a newline at its end.
    """
    warn(line)


def give_back_memory() -> None:
    """Return what is free in the process's heaps to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def nms_kind(device_target: str) -> str:
    """How non-maximum suppression runs on a device.

    Args:
        device_target: "CPU", "GPU" or "Ascend".

    Returns:
        "kernel" (CPU, GPU): one operator; "matrix" (Ascend): array operations.
    """
    return _by_device(device_target, {"CPU": "kernel", "GPU": "kernel", "Ascend": "matrix"})


def roi_align_kind(device_target: str) -> str:
    """How RoIAlign runs on a device.

    Args:
        device_target: "CPU", "GPU" or "Ascend".

    Returns:
        "gather" (CPU): reads one flat table of all levels; "operator" (GPU, Ascend): MindSpore's.
    """
    return _by_device(device_target, {"CPU": "gather", "GPU": "operator", "Ascend": "operator"})


def _by_device(device_target: str, kinds: dict[str, _Kind]) -> _Kind:
    if device_target not in kinds:
        raise ValueError(f"device_target must be one of {', '.join(kinds)}, not {device_target!r}")
    return kinds[device_target]


def most_memory(device_target: str) -> int | None:
    """Return the most bytes that were in use so far; takes microseconds.

    On a CPU of this process, elsewhere what MindSpore has allocated on the accelerator; None where
    that is not known.

    Args:
        device_target: "CPU", "GPU" or "Ascend".
    """
    if device_target == "CPU":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    import mindspore as ms

    try:
        return int(ms.runtime.max_memory_allocated())
    except (AttributeError, RuntimeError, ValueError):
        return None


def device_name(device_target: str) -> str | None:
    """Return what the device in use is called; None where MindSpore does not say.

    Args:
        device_target: "CPU", "GPU" or "Ascend".
    """
    if device_target == "CPU":
        return processor_name()
    import mindspore as ms

    try:
        return str(ms.hal.get_device_name(ms.get_context("device_id"), device_target))
    except (AttributeError, RuntimeError, ValueError):
        return None


def processor_name() -> str | None:
    """Return what this machine's processor is called; None where the system does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            # "Model" and the like on ARM
            found = re.search(r"^(?:model name|Model|Hardware)\s*: (.+)$", file.read(), re.M)
    except OSError:
        return None
    return found[1].strip() if found else platform.machine() or None
