# SPDX-License-Identifier: Apache-2.0
"""The command `predict`: the objects in pictures and videos, drawn and written."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..backends.choosing import choose_runtime
from ..base.arguments import asks_for_help, own_parser, within
from ..base.errors import UserError
from ..model_utils.config import load_config
from ..model_utils.configuration.command_line import output_folder

if TYPE_CHECKING:
    from ..predicting.options import Options

DESCRIPTION = """\
Detect objects in pictures and videos: draws boxes and writes them as JSON, COCO, CSV or YOLO.

--input WHAT [WHAT ...]  pictures, videos, folders of them, patterns ('shots/**/*.jpg'), cameras
                         (0, 1 or /dev/video0), addresses of streams (rtsp://...)
--recursive              take what is in folders of these folders too
--min_score SCORE        detections below it are left out (default: 0.5)
--formats F [F ...]      json: predictions.json (default); coco: predictions_coco.json;
                         csv: predictions.csv; yolo: labels/NAME.txt
--crops                  write what is in each box: crops/CLASS/NAME_1.png
--no_drawing             write no pictures and videos with boxes
--tile SIZE              cut larger pictures into overlapping tiles: 640, HEIGHTxWIDTH, or auto:
                         what the network takes without scaling
--tile_overlap SHARE     of a tile's side that the next one has too (default: 0.2)
--tile_match ios|iou     what makes two boxes one: their intersection over the smaller one
                         (default), or over their union
--tile_threshold T       how much of it (default: 0.5)
--tiles_only             do not look at the whole picture besides
--frame_step N           look at every Nth frame of a video (default: 1)
--max_frames N           stop after so many looks at a video or camera (default: 0, all)

Without --config_path, the model's settings are those of the checkpoint, and of the config.yaml that
training saved beside it; those of an exported model (.onnx, .mindir) of its description.
Results go to --output_dir (default: predictions): NAME.png for each
picture, NAME.mp4 and NAME.jsonl for each video, and the files of the formats. All other keys:"""

_FORMATS = ("json", "coco", "csv", "yolo")


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into this program's own arguments and those of the configuration.

    Args:
        argv: the command line without the program's name.

    Returns:
        This program's (`input`, `recursive`, `min_score`, ...), and the other arguments. `tile` is
        a text that `parse_tile` takes, "auto" or "".

    Raises:
        UserError: no input, or an argument that cannot be.
    """
    parser, share = own_parser(), within(0, 1, float)
    parser.add_argument("--input", nargs="+", default=[])
    parser.add_argument("--recursive", action="store_true")
    parser.add_argument("--min_score", type=share, default=0.5)
    parser.add_argument("--formats", nargs="+", choices=_FORMATS, default=["json"])
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--no_drawing", action="store_true")
    parser.add_argument("--tile", default="")
    parser.add_argument("--tile_overlap", type=within(0, 0.9, float), default=0.2)
    parser.add_argument("--tile_match", choices=("ios", "iou"), default="ios")
    parser.add_argument("--tile_threshold", type=share, default=0.5)
    parser.add_argument("--tiles_only", action="store_true")
    parser.add_argument("--frame_step", type=within(1), default=1)
    parser.add_argument("--max_frames", type=within(0), default=0)
    own, rest = parser.parse_known_args(argv)
    if not own.input and not asks_for_help(rest):
        raise UserError("command line: nothing to look at; give --input IMAGE or FOLDER")
    return own, rest


def main(argv: Sequence[str]) -> int:
    """Predict as the arguments say; return the exit code.

    Args:
        argv: the command line without the program's name.
    """
    own, rest = parse_arguments(argv)
    # Only now: wrong arguments are answered without OpenCV.
    from ..images.listing import find_inputs
    from ..predicting.run import DEFAULT_OUTPUT, run_prediction

    config = load_config(rest, description=DESCRIPTION, program="predict")
    config = config.replace(output_dir=output_folder(config, DEFAULT_OUTPUT))
    inputs = find_inputs(own.input, recursive=own.recursive, results=config.output_dir)
    for note in inputs.notes:
        print(note)
    options = _options(own, per_class=config.test_nms == "per_class")
    config = choose_runtime(config)
    return run_prediction(config, inputs, options)


def _options(own: argparse.Namespace, *, per_class: bool) -> "Options":
    from ..images.tiles import parse_tile
    from ..predicting.finding import Tiling
    from ..predicting.options import Options

    tiling = None
    if own.tile:
        try:
            size = None if own.tile == "auto" else parse_tile(own.tile)
        except ValueError as error:
            raise UserError(f"command line: --tile {own.tile!r} {error}") from None
        tiling = Tiling(
            size=size,
            overlap=own.tile_overlap,
            match=own.tile_match,
            threshold=own.tile_threshold,
            per_class=per_class,
            whole=not own.tiles_only,
        )
    return Options(
        min_score=own.min_score,
        formats=tuple(own.formats),
        draws=not own.no_drawing,
        crops=own.crops,
        tiling=tiling,
        frame_step=own.frame_step,
        max_frames=own.max_frames,
    )
