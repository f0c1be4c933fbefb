# SPDX-License-Identifier: Apache-2.0
"""Agreement with other programs from image files to boxes, on equal weights.

    python -m tests.file_parity --peer torchvision --peer_python PYTHON --images FOLDER ...

The peer runs in its own Python, as its users run it: it opens each file, resizes, pads and detects,
one picture at a time. Its weights follow from names and shapes (helpers/recipe.py); they go through
convert_checkpoint.py, and `Detector` looks at the same files. For each orientation the table says
which share of the peer's detections was found with the same class and IoU above 0.9, which share
also with a score within 0.02, and our AP with the peer's detections as the ground truth. Ends with
exit code 1 when a row misses its bar. Keys of the configuration change our side alone, such as
--resize_like opencv.
"""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import positive, table
from benchmarks.peers.backbones import DETECTRON2_BACKBONES, TORCHVISION_BACKBONES
from benchmarks.turns import Program
from src.base.arguments import ArgumentParser
from src.base.errors import UserError, run_entry
from src.convert_checkpoint import main as convert_main
from src.FasterRcnn import names
from src.images.listing import find_images
from src.model_utils.config import load_config
from tests.helpers.paths import REPO
from tests.helpers.recipe import make_weight

SAME_BOX, SAME_SCORE = 0.9, 0.02  # IoU above, distance below
BACKBONES = {"torchvision": TORCHVISION_BACKBONES, "detectron2": DETECTRON2_BACKBONES}
FOUND = {"torchvision": 0.98, "detectron2": 0.97}
SCORED, AP = 0.95, 0.97
# The recipe's gains go by torchvision's names.
_RECIPE_NAMES = {
    "rpn_head.objectness_logits": "rpn.head.cls_logits",
    "rpn_head.anchor_deltas": "rpn.head.bbox_pred",
    "conv3.norm": "bn3",
}


_FIRST_CONVOLUTION = "stem.conv1.weight"  # of detectron2; torchvision always divides
_PIXEL_STD = 57.0  # about that of photographs


def make_parser():
    """The options."""
    parser = peer_parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", nargs="+", required=True, metavar="PATH", help="image files, and folders")
    add("--limit", type=positive, metavar="N", help="pictures of an orientation; default: all")
    return parser


def peer_parser(description):
    """A parser with what says which network of which peer."""
    parser = ArgumentParser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--peer", choices=sorted(BACKBONES), default="torchvision", help="compare with it")
    add("--peer_python", default=sys.executable, metavar="FILE", help="Python that has the peer")
    add("--backbone", help="of the network; default: that of the peer's usual ResNet-50")
    add(
        "--peer_options",
        nargs="+",
        default=[],
        metavar="WORD",
        help="torchvision: v2, its version 2; detectron2: keys and values of its configuration",
    )
    add("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of the peer")
    return parser


def recipe_weights(shapes, pixel_std=1.0):
    """{name: float32 array} of a peer's parameters.

    The first convolution is divided by `pixel_std`: what is behind it then sees the same whether
    pixels are divided by their standard deviation or, in Caffe's style, not. Undivided ones would
    saturate every score.
    """
    weights = {}
    is_basic = not any("conv3" in name for name in shapes)  # a ResNet-18 or 34
    for name, shape in shapes.items():
        known = name.replace("bn2", "bn3") if is_basic else name  # the end of a residual branch
        for theirs, ours in _RECIPE_NAMES.items():
            known = known.replace(theirs, ours)
        weights[name] = make_weight(known, shape)
        if name.endswith(_FIRST_CONVOLUTION):
            weights[name] /= np.float32(pixel_std)
    return weights


def is_caffe(peer, backbone):
    """Whether the peer's network is of Caffe's or Caffe2's kind."""
    return peer == "detectron2" and not DETECTRON2_BACKBONES[backbone][1]


def has_undivided_pixels(peer, backbone):
    """Whether the peer's pixels have only their mean taken off; a ResNeXt's are divided, too."""
    return is_caffe(peer, backbone) and names.BACKBONES[backbone].groups == 1


def orientation_of(found):
    """Of a picture's detections."""
    return "portrait" if found["height"] > found["width"] else "landscape"


def pairs_of(theirs, ours):
    """Who is who, best score first: their boxes in `ours` of the same class, each of which once.

    Returns:
        (N, 2): the IoU of each of their detections with its partner, and the distance of the
        scores; 0 and infinity without one.
    """
    boxes, scores, labels = (np.array(theirs[key]) for key in ("boxes", "scores", "labels"))
    overlaps = iou(boxes.reshape(-1, 4), ours.boxes) * (labels[:, None] == ours.labels)
    pairs = np.tile([0.0, np.inf], (len(labels), 1))
    for row in np.argsort(-scores, kind="stable"):
        best = overlaps[row].argmax() if len(ours.labels) else 0
        if len(ours.labels) and overlaps[row, best] > 0:
            pairs[row] = overlaps[row, best], abs(scores[row] - ours.scores[best])
            overlaps[:, best] = 0
    return pairs


def iou(one, other):
    """(N, M) of (N, 4) and (M, 4) xyxy."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(2)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(1) for b in (one, other))
    return overlap / np.maximum(area[:, None] + other_area - overlap, 1e-9)


def average_precision(theirs, ours, class_names):
    """Our AP where the peer's detections are what there is to find."""
    from src.evaluation.coco import evaluate_results

    def entries(found):
        for image, one in enumerate(found):
            boxes, scores, labels = one
            for box, score, label in zip(boxes, scores, labels, strict=True):
                x1, y1, x2, y2 = map(float, box)
                yield {
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": float(score),
                }

    truth = entries([(one["boxes"], one["scores"], one["labels"]) for one in theirs])
    data = {
        "images": [
            {"id": i, "file_name": str(i), "height": one["height"], "width": one["width"]}
            for i, one in enumerate(theirs)
        ],
        "annotations": [{**entry, "id": i} for i, entry in enumerate(truth, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(class_names, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate_results(data, list(entries(ours)), class_names).ap


def open_peer(options, backbone):
    """The peer as a `Program`, by --peer, --peer_python, --peer_options and --threads."""
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
    job = {"peer": options.peer, "backbone": backbone, "threads": options.threads}
    job["options"] = options.peer_options
    command = [options.peer_python, "-m", "benchmarks.peers.files_worker"]
    return Program(options.peer, command, job, environment={"PYTHONPATH": path})


def ask_peer(options, backbone, paths, weights):
    """The peer's detections in each file; leaves its weights in the file `weights`."""
    from safetensors.numpy import save_file

    with open_peer(options, backbone) as peer:
        std = _PIXEL_STD if has_undivided_pixels(options.peer, backbone) else 1.0
        save_file(recipe_weights(peer.ask("shapes"), std), str(weights))
        peer.ask("load", weights=str(weights))
        words = " ".join([backbone, *options.peer_options])
        print(f"{options.peer} {peer.ask('version')}, {words}, weights by recipe")
        theirs, counts = {}, {"landscape": 0, "portrait": 0}
        for file in paths:
            if options.limit and min(counts.values()) >= options.limit:
                break
            if options.limit and counts[_file_orientation(file)] >= options.limit:
                continue
            theirs[file] = peer.ask("detect", path=str(file.resolve()))
            counts[orientation_of(theirs[file])] += 1
    return theirs


def _file_orientation(path):
    from src.images.reading import probe_image, read_bytes

    height, width = probe_image(read_bytes(str(path)), str(path))
    return orientation_of({"height": height, "width": width})


def convert(options, backbone, weights, class_names):
    """The peer's weights as a checkpoint of this project, with a class for each output."""
    output = weights.with_suffix(".ckpt")
    arguments = ["--ckpt_file", str(weights), "--output", str(output)]
    arguments += ["--coco_classes", *class_names]
    if options.peer == "detectron2":
        arguments += ["--style", "caffe" if is_caffe(options.peer, backbone) else "torch"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if convert_main(arguments):
            raise UserError(f"the conversion failed: {said.getvalue()[-300:]}")
    return output


def compare(theirs, ours, class_names, peer):
    """Print the table; return how many rows miss their bar."""
    rows, missed = [], 0
    for orientation in ("landscape", "portrait"):
        chosen = [path for path in theirs if orientation_of(theirs[path]) == orientation]
        if not chosen:
            continue
        pairs = np.concatenate([pairs_of(theirs[path], ours[path]) for path in chosen])
        found = pairs[:, 0] > SAME_BOX
        scored = found & (pairs[:, 1] <= SAME_SCORE)
        ap = average_precision([theirs[p] for p in chosen], [ours[p] for p in chosen], class_names)
        met = found.mean() >= FOUND[peer] and scored.mean() >= SCORED and ap >= AP
        missed += not met
        rows.append(
            (
                orientation,
                len(chosen),
                len(pairs),
                f"{found.mean():.2%}",
                f"{scored.mean():.2%}",
                f"{ap:.4f}",
                "" if met else "MISSED",
            )
        )
    head = ("orientation", "pictures", "detections", "found", "also the score", "AP", "")
    print(table(head, rows))
    print(f"bars: {FOUND[peer]:.0%} found, {SCORED:.0%} also the score, AP {AP}")
    return missed


def chosen_backbone(options):
    """Our name of it, by --peer and --backbone."""
    known = BACKBONES[options.peer]
    backbone = options.backbone or next(iter(known))
    if backbone not in known:
        raise UserError(f"--backbone {backbone}: {options.peer} has {', '.join(known)}")
    return backbone


def output_names(peer):
    """A name for each of its outputs, or those that COCO does not use would be left out."""
    return [f"output {n}" for n in range(1, 91 if peer == "torchvision" else 81)]


def main(argv):
    """Ask both and print the table."""
    options, rest = make_parser().parse_known_args(argv)
    config = load_config(rest)
    changes = {key: value for key, value in config.to_dict().items() if config.is_given(key)}
    backbone = chosen_backbone(options)
    paths, _ = find_images(options.images)
    from src.model_utils.device_adapter import prepare_environment

    prepare_environment("CPU")
    class_names = output_names(options.peer)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        theirs = ask_peer(options, backbone, paths, weights)
        from src.inference import Detector

        checkpoint = convert(options, backbone, weights, class_names)
        settings = {"device_target": "CPU", "test_batch_size": 1, **changes}
        detector = Detector(checkpoint, **settings)
        ours = dict(zip(theirs, detector.detect(list(theirs)), strict=True))
    return 1 if compare(theirs, ours, class_names, options.peer) else 0


if __name__ == "__main__":
    run_entry(main)
