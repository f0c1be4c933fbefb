# SPDX-License-Identifier: Apache-2.0
"""Which other programs are measured beside ours, and in which of their settings."""

import argparse
import sys

PEERS = ("torchvision", "onnxruntime", "openvino")
EAGER = "eager"
# torchvision's settings: memory format of the feature maps, autocast, torch.compile.
MODES = ("channels_last", "bf16", "compile")
# Whose exports ONNX Runtime and OpenVINO run.
ONNX_MODELS = ("torchvision", "own")
# The precision that OpenVINO is asked for; "" is its own choice.
OPENVINO_PRECISIONS = ("f32", "")


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose peers."""
    add = parser.add_argument
    add(
        "--peer",
        nargs="+",
        choices=PEERS,
        default=[],
        help="measure these programs too, in turns; onnxruntime and openvino run torchvision's "
        "export and ours, openvino in fp32 and in the precision that it takes by itself",
    )
    add(
        "--peer_mode",
        nargs="+",
        type=peer_mode,
        default=[()],
        metavar="MODE[,MODE]",
        help=f"torchvision's settings, a program each: {EAGER}, or some of {', '.join(MODES)}",
    )
    add(
        "--peer_python",
        metavar="FILE",
        default=sys.executable,
        help="interpreter of the environment that has them",
    )


def peer_mode(text: str) -> tuple[str, ...]:
    """Return the settings that a text names, in the order of `MODES`, for argparse.

    Args:
        text: "eager", or modes with commas between them.

    Raises:
        argparse.ArgumentTypeError: another word.
    """
    words = [] if text == EAGER else text.split(",")
    unknown = [word for word in words if word not in MODES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no mode; give {EAGER}, or some of {', '.join(MODES)} with commas "
            "between them"
        )
    return tuple(mode for mode in MODES if mode in words)


def torchvision_name(mode: tuple[str, ...]) -> str:
    """Return what torchvision's program is called in tables.

    Args:
        mode: as `peer_mode` returns it.
    """
    return " ".join(["torchvision", ",".join(mode)]).rstrip()


def onnxruntime_name(model: str) -> str:
    """Return what ONNX Runtime's program is called in tables.

    Args:
        model: one of `ONNX_MODELS`.
    """
    return f"ONNX Runtime, {model} ONNX"


def openvino_name(model: str, precision: str) -> str:
    """Return what OpenVINO's program is called in tables.

    Args:
        model: one of `ONNX_MODELS`.
        precision: one of `OPENVINO_PRECISIONS`.
    """
    return f"OpenVINO {precision or 'default'}, {model} ONNX"
