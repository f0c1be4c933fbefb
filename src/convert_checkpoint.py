# SPDX-License-Identifier: Apache-2.0
"""The converter's command line: other programs' checkpoints to this project's, and back."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .base.arguments import ArgumentParser
from .base.errors import UserError, run_entry
from .base.files import save_whole
from .base.messages import one_line
from .base.program import program
from .checkpoints.foreign.reading import read_source, require_source
from .model_utils.config import DEFAULT_ORIGIN, Config, load_config
from .model_utils.device_adapter import prepare_environment

if TYPE_CHECKING:
    from .checkpoints.foreign.conversion import Conversion, ConversionOptions

DESCRIPTION = """\
Turn a checkpoint of another program into a .ckpt of this one, with the settings that belong to it:
a ResNet or ResNeXt classifier (MindSpore model zoo, mindcv, torchvision, detectron2) for
--pre_trained, or a Faster R-CNN with a ResNet-FPN backbone (model zoo, torchvision, detectron2,
mmdetection) for evaluation, export, prediction and training. Reads .ckpt, .pth, .safetensors, and
detectron2's .pkl; no code in them is run. The kind is recognised; docs/checkpoints.md says how."""

TORCHVISION = "torchvision"
# Configuration keys that say what a file does not.
_KEYS = ("bn_eps", "backbone", "channel_order", "pixel_mean", "pixel_std")


def make_parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog=program("convert"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ckpt_file", required=True, metavar="FILE", help="the checkpoint to convert")
    add(
        "--output",
        metavar="FILE",
        help="where the result goes (default: beside the checkpoint; .ckpt, and with --to "
        "torchvision .pth or, without PyTorch, .safetensors)",
    )
    add("--overwrite", action="store_true", help="replace the output file if it exists")
    add(
        "--to",
        choices=[TORCHVISION],
        help="the other way: a detector of this project (box_convention modern) to a state_dict "
        "that torchvision's Faster R-CNN loads strictly",
    )
    add("--full_table", action="store_true", help="print a row for every parameter")
    unsaid = parser.add_argument_group("what a file may leave unsaid")
    unsaid.add_argument(
        "--coco_classes",
        nargs="+",
        metavar="NAME",
        help="the classes in the order of the file's outputs, or those of the file's known names "
        "to pick, in this order; also a .txt file (default: default_config.yaml's)",
    )
    unsaid.add_argument("--config_path", metavar="FILE", help="YAML file with coco_classes")
    unsaid.add_argument(
        "--style",
        choices=["torch", "caffe"],
        help="of detectron2's and mmdetection's weights; torch: RGB, stride in the 3x3 "
        "convolution; caffe: BGR, standard deviation 1, stride in the 1x1",
    )
    unsaid.add_argument("--bn_eps", metavar="EPS", help="epsilon of the backbone's BatchNorm")
    unsaid.add_argument("--backbone", metavar="NAME", help="the configuration's name of it")
    unsaid.add_argument("--channel_order", metavar="ORDER", help="rgb or bgr")
    for key, what in (("pixel_mean", "means"), ("pixel_std", "standard deviations")):
        unsaid.add_argument(
            f"--{key}",
            nargs=3,
            metavar="NUMBER",
            help=f"{what} of the channels, 0..255, in the order of channel_order",
        )
    return parser


def main(argv: Sequence[str]) -> int:
    """Convert as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    options = make_parser().parse_args(argv)
    config = _read_config(options)
    output = _choose_output(options)
    path = require_source(options.ckpt_file)
    prepare_environment("CPU")
    from .checkpoints.foreign.table import conversion_lines  # only now: these import MindSpore

    source = read_source(path)
    if options.to:
        from .checkpoints.foreign.to_torchvision import to_torchvision

        _refuse_hints(options)
        conversion = to_torchvision(source)
    else:
        from .checkpoints.foreign.kinds import convert

        conversion = convert(source, _conversion_options(options, config))
    defaults = load_config([]).to_dict()
    for line in conversion_lines(conversion, defaults, full=options.full_table):
        print(one_line(line))
    (_write_state_dict if options.to else _write_checkpoint)(output, conversion, config)
    print(f"written: {output}")
    return 0


def _read_config(options: argparse.Namespace) -> Config:
    """The configuration with the command line's hints in it, checked."""
    arguments = ["--config_path", options.config_path] if options.config_path else []
    for key in (*_KEYS, "coco_classes"):
        value = getattr(options, key)
        if value is not None:
            arguments += [f"--{key}", *([value] if isinstance(value, str) else value)]
    config = load_config(arguments)
    if options.channel_order and not (options.pixel_mean and options.pixel_std):
        raise UserError(
            "command line: --channel_order changes what the pixel statistics mean; give "
            "--pixel_mean and --pixel_std in the same order too"
        )
    return config


def _refuse_hints(options: argparse.Namespace) -> None:
    """With --to nothing is left unsaid."""
    for key in (*_KEYS, "coco_classes", "config_path", "style"):
        if getattr(options, key) is not None:
            raise UserError(
                f"command line: --{key} has no effect with --to, for which the checkpoint says "
                "all; take it out"
            )


def _conversion_options(options: argparse.Namespace, config: Config) -> "ConversionOptions":
    from .checkpoints.foreign.conversion import ConversionOptions

    given = [key for key in _KEYS if getattr(options, key) is not None]
    values = config.to_dict()
    return ConversionOptions(
        class_names=config.class_names,
        names_given=config.origin("coco_classes") != DEFAULT_ORIGIN,
        style=options.style,
        settings={key: values[key] for key in given},
    )


def _choose_output(options: argparse.Namespace) -> Path:
    """The output file; refuses one that is there already, or of another format.

    Raises:
        UserError: see above.
    """
    source = Path(options.ckpt_file)
    suffixes: tuple[str, ...] = (".ckpt",)
    if options.to:
        from importlib.util import find_spec

        suffixes = (".pth", ".pt", ".safetensors")
        default = source.with_suffix(".pth" if find_spec("torch") else ".safetensors")
    else:
        default = source.with_suffix(".ckpt")
    if options.output is None and default == source:
        default = source.with_name(f"{source.stem}_converted.ckpt")
    output = Path(os.path.expanduser(options.output)) if options.output else default
    if output.suffix not in suffixes:
        raise UserError(f"--output {output}: must end in {' or '.join(suffixes)}")
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; give the name of a file in it")
    if output.exists():
        if source.exists() and output.samefile(source):
            raise UserError(f"--output {output}: is the checkpoint itself; give another name")
        if not options.overwrite:
            raise UserError(
                f"--output {output}: exists already; give another name with --output, or "
                "--overwrite to replace it"
            )
    return output


def _write_checkpoint(output: Path, conversion: "Conversion", config: Config) -> None:
    """Write a .ckpt of this project, with what belongs to the weights in its meta entry."""
    from mindspore import Parameter, Tensor

    from .checkpoints.file import save_parameters
    from .checkpoints.foreign.description import make_meta

    meta = make_meta(conversion, config)
    parameters = [Parameter(Tensor(a), name=n) for n, a in conversion.arrays.items()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: its folder cannot be made ({error})") from error
    save_parameters(output, parameters, meta, key="--output")


def _write_state_dict(output: Path, conversion: "Conversion", _: Config) -> None:
    """Write a PyTorch state_dict, atomically."""
    from .checkpoints.foreign.to_torchvision import require_torch, write_state_dict

    if output.suffix != ".safetensors":
        require_torch(output)
    save_whole(output, lambda name: write_state_dict(name, output.suffix, conversion.arrays))


if __name__ == "__main__":
    run_entry(main)
