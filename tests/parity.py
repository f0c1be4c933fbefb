# SPDX-License-Identifier: Apache-2.0
"""Agreement with other implementations on equal weights: measured, and as a table.

    python -m tests.parity [WORD]

The files in tests/resources hold what torchvision's Faster R-CNN and the model zoo's own network
computed in fp32 on weights that follow from names and shapes (recipe.py). The same weights go
through convert_checkpoint.py, or are loaded as they are, and the outcomes are compared. Ends with
exit code 1 when a row misses its bar.
"""

import contextlib
import functools
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.convert_checkpoint import main as convert_main
from src.FasterRcnn.names import LOSS_NAMES
from src.inference import Detector, _found
from src.model_utils.config import load_config
from tests.helpers.paths import RESOURCES
from tests.helpers.recipe import make_weight

BOX_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4  # px; of a probability
LEVEL_TOLERANCE = LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
# Where all BatchNorm is of the batch, which hands on every rounding: torchvision's own float32 is
# 1.2e-3 from its float64.
BATCH_GRADIENT_TOLERANCE, STATISTICS_TOLERANCE = 5e-3, 1e-4
_TORCHVISION_LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
_NUM_GTS = 16
R50, V2 = "torchvision_r50", "torchvision_v2"  # references; both are of the first one's pictures
# What torchvision trains: version 2 with the statistics of each batch everywhere.
_TRAINED = {R50: {}, V2: {"norm": "bn"}}


class Row(NamedTuple):
    """One comparison."""

    against: str
    what: str
    measured: str
    bar: str
    met: bool


@functools.cache
def reference(name):
    """The arrays of a reference file."""
    with np.load(RESOURCES / f"{name}.npz") as arrays:
        return dict(arrays)


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory()


def recipe_weights(file):
    """Every parameter of a *_params.json by the recipe."""
    shapes = json.loads((RESOURCES / file).read_text())
    return {name: make_weight(name, shape) for name, shape in shapes.items()}


@functools.cache
def torchvision_checkpoint(class_names=None, name=R50):
    """The .ckpt that convert_checkpoint.py makes of torchvision's state_dict.

    `class_names`: of the 90 outputs beside the background; None: COCO's 80 are picked.
    """
    from safetensors.numpy import save_file

    source = Path(_folder().name, f"{name}.safetensors")
    save_file(recipe_weights(f"{name}_params.json"), str(source))
    output = Path(_folder().name, f"{name}_{len(class_names or ())}.ckpt")
    classes = ["--coco_classes", *class_names] if class_names else []
    _convert("--ckpt_file", source, "--output", output, *classes)
    return output


@functools.cache
def model_zoo_checkpoint(converted):
    """The model zoo's checkpoint as it is published, or through convert_checkpoint.py."""
    import mindspore as ms

    source = Path(_folder().name, "faster_rcnn.ckpt")
    weights = recipe_weights("ancestor_r50_params.json")
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(a)} for n, a in weights.items()], str(source))
    if not converted:
        return source
    output = Path(_folder().name, "converted.ckpt")
    _convert("--ckpt_file", source, "--output", output, "--backbone", "resnet_v1_50")
    return output


def _convert(*arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        assert convert_main([*map(str, arguments), "--overwrite"]) == 0


def normalised_input(name, config):
    """The reference's images as the configuration wants them, and their valid sizes."""
    arrays = reference(name)
    image, valid_hw = arrays["image_uint8"].astype(np.float64), arrays["valid_hw"]
    padding = np.ones(image.shape, bool)
    for number, (height, width) in enumerate(valid_hw):
        padding[number, :height, :width] = False
    image[padding] = 0
    image = (image - np.array(config.pixel_mean)) / np.array(config.pixel_std)
    if not config.pad_before_normalize:
        image[padding] = 0
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32), valid_hw


def _share_found(found, arrays, image, most=None, labels=None):
    """Share of a reference image's best detections that `found` has, and the largest distances."""
    boxes, scores, classes = (
        arrays[f"det_{part}_{image}"] for part in ("boxes", "scores", "labels")
    )
    hits, furthest, most_off = [], 0.0, 0.0
    free = np.ones(len(found.boxes), bool)
    for index in np.argsort(-scores, kind="stable")[:most]:
        label = classes[index] if labels is None else labels.get(int(classes[index]))
        if label is None:
            continue
        distance = np.abs(found.boxes - boxes[index]).max(1)
        error = np.abs(found.scores - scores[index])
        fits = free & (found.labels == label)
        fits &= (distance < BOX_TOLERANCE) & (error < SCORE_TOLERANCE)
        hits.append(fits.any())
        if fits.any():
            free[np.argmin(np.where(fits, distance, np.inf))] = False
            furthest = max(furthest, distance[fits].min())
            most_off = max(most_off, error[fits].min())
    return hits, furthest, most_off


def detection_row(against, what, found, arrays, most=None, labels=None):
    parts = [_share_found(one, arrays, i, most, labels) for i, one in enumerate(found)]
    hits = [hit for part in parts for hit in part[0]]
    box, score = max(part[1] for part in parts), max(part[2] for part in parts)
    text = f"{sum(hits)} of {len(hits)}; within {box:.1e} px, score {score:.1e}"
    bar = f"99 % within {BOX_TOLERANCE} px, score {SCORE_TOLERANCE:g}"
    return Row(against, what, text, bar, len(hits) > 20 and np.mean(hits) >= 0.99)


@functools.cache
def torchvision_detector(num_classes=90, name=R50):
    """The converted detector; with 80 classes those of COCO, with 90 every output has a name."""
    names = tuple(f"output {n}" for n in range(1, 91)) if num_classes == 90 else None
    return Detector(
        torchvision_checkpoint(names, name),
        device_target="CPU",
        img_height=256,
        img_width=320,
        test_pre_nms_num=2000,
        padding="canvas",  # its pictures share one here, and so they did in torchvision
    )


def _against(name):
    return "torchvision" if name == R50 else "torchvision v2"


def torchvision_stages(name=R50):
    """Rows: pyramid, proposals and detections of one pass through the network.

    Every candidate enters the last NMS, as in torchvision.
    """
    import mindspore as ms
    from mindspore import Tensor

    from src.detector import _detections
    from tests.helpers.stages import Stages

    arrays = reference(name)
    detector = torchvision_detector(name=name)
    image, valid_hw = normalised_input(R50, detector.config)
    meta = np.concatenate([valid_hw, np.ones((2, 2))], 1).astype(np.float32)
    ms.set_context(mode=ms.GRAPH_MODE)
    offset = detector.network.detections.offset
    selector = _detections(detector.config.replace(test_pre_nms_num=0), offset)
    stages = Stages(detector.network, selector)
    outputs = [x.asnumpy() for x in stages(Tensor(image), Tensor(meta))]
    rows = []
    for number, level in enumerate(outputs[:5], 2):
        off = np.abs(level.reshape(-1)[arrays[f"p{number}_index"]] - arrays[f"p{number}_value"])
        worst = off.max() / float(arrays[f"p{number}_std"])
        rows.append(
            Row(
                _against(name),
                f"P{number} samples, relative to its std",
                f"{worst:.1e}",
                f"{LEVEL_TOLERANCE:g}",
                worst <= LEVEL_TOLERANCE,
            )
        )
    proposals, valid = outputs[5:7]
    distance = np.concatenate(
        [
            np.abs(arrays[f"proposals_{i}"][:, None] - proposals[i][valid[i]][None]).max(2).min(1)
            for i in range(2)
        ]
    )
    share = (distance < BOX_TOLERANCE).mean()
    rows.append(
        Row(
            _against(name),
            f"{len(distance)} proposals with one of ours near",
            f"{100 * share:.2f} %",
            f"99.5 % within {BOX_TOLERANCE} px",
            share >= 0.995,
        )
    )
    what = "detections, every candidate in NMS"
    return rows + _detection_rows(name, what, _found(outputs[7:]), arrays)


def _detection_rows(name, what, found, arrays):
    """Rows: the detections of all outputs, and how many they are."""
    counts = [len(one.boxes) for one in found]
    wanted = [len(arrays[f"det_scores_{i}"]) for i in range(2)]
    number = Row(_against(name), f"number of {what}", str(counts), str(wanted), counts == wanted)
    return [detection_row(_against(name), what, found, arrays), number]


def torchvision_detections(name=R50):
    """Rows: the detections through the documented call."""
    detector = torchvision_detector(name=name)
    found = detector(*normalised_input(R50, detector.config))
    return _detection_rows(name, "detections", found, reference(name))


def torchvision_coco_detections():
    """Rows: the same with COCO's 80 classes, whose rows converting has picked; image by image."""
    from src.checkpoints.families import COCO_IDS

    detector = torchvision_detector(80)
    labels = {COCO_IDS[name]: label for label, name in enumerate(detector.class_names, 1)}
    image, valid_hw = normalised_input(R50, detector.config)
    found = [detector(image[i : i + 1], valid_hw[i : i + 1])[0] for i in range(2)]
    what = "detections, COCO's 80 of the 91 outputs"
    return [detection_row(_against(R50), what, found, reference(R50), None, labels)]


def torchvision_v2_coco_rows():
    """Rows: converting version 2 picks COCO's 80 classes out of what gives the detections above."""
    from src.checkpoints.families import COCO_IDS
    from src.checkpoints.file import read_checkpoint

    names = tuple(torchvision_detector(name=V2).class_names)
    whole, picked = (read_checkpoint(torchvision_checkpoint(n, V2)) for n in (names, None))
    ids = [COCO_IDS[name] for name in picked.meta["class_names"]]
    nobodys = [number for number in range(1, len(names) + 1) if number not in ids]
    strange = [name for name in whole.arrays if name not in picked.arrays]
    for name, array in picked.arrays.items():
        expected = whole.arrays[name]
        if name.startswith("rcnn.cls_scores."):
            expected = expected[..., [0, *nobodys, *ids]]
        elif name.startswith("rcnn.reg_scores."):
            boxes = expected.reshape(*expected.shape[:-1], len(names), 4)
            expected = boxes[..., np.array(ids) - 1, :].reshape(array.shape)
        if not np.array_equal(array, expected):
            strange.append(name)
    measured = f"{len(picked.arrays)} parameters, {len(strange)} others"
    met = not strange and len(ids) == 80
    return [Row(_against(V2), "COCO's 80 of the 91 outputs", measured, "the same numbers", met)]


@functools.cache
def torchvision_training(name=R50):
    """Rows: the four losses and the gradient of every trainable parameter, nothing sampled."""
    from src.checkpoints.foreign.naming import torchvision

    arrays = reference(name)
    detector = torchvision_detector(name=name)
    everything = 20460  # anchors, and more than there are proposals
    config = detector.config.replace(
        frozen_stages=0,
        anchor_filter="all",
        num_gts=_NUM_GTS,
        rcnn_loss_beta=1 / 9,
        rpn_proposal_min_bbox_size=1e-3,
        num_expected_pos=everything,
        num_expected_neg=everything,
        num_expected_pos_stage2=2016,
        num_expected_neg_stage2=2016,
        img_height=256,
        img_width=320,
        **_TRAINED[name],
    )
    losses, norms, network = _losses_and_gradients(
        torchvision_checkpoint(tuple(detector.class_names), name),
        config,
        normalised_input(R50, config),
        *_ground_truth(reference(R50)),
        proposals=_given_proposals(arrays),
    )
    rows = []
    for kind, loss in zip(_TORCHVISION_LOSSES, losses[2:], strict=True):
        off = abs(loss / float(arrays[kind]) - 1)
        rows.append(
            Row(_against(name), kind, f"{off:.1e}", f"{LOSS_TOLERANCE:g}", off <= LOSS_TOLERANCE)
        )
    expected = {
        key.removeprefix("grad_l2:"): float(value)
        for key, value in arrays.items()
        if key.startswith("grad_l2:")
    }
    their_name = torchvision(config.rcnn_head["convs"])
    assert {their_name(ours) for ours in norms} == expected.keys()
    off = {their_name(n): abs(norm / expected[their_name(n)] - 1) for n, norm in norms.items()}
    worst = max(off, key=off.get)
    tolerance = GRADIENT_TOLERANCE if name == R50 else BATCH_GRADIENT_TOLERANCE
    rows.append(
        Row(
            _against(name),
            f"gradient norms of {len(off)} parameters",
            f"{off[worst]:.1e} ({worst})",
            f"{tolerance:g}",
            off[worst] <= tolerance,
        )
    )
    return rows + _moved_rows(network, their_name, arrays, _against(name))


def _ground_truth(arrays):
    """Boxes (2, G, 4) and labels (2, G), 0 where there is none, of a reference's two images."""
    boxes, labels = np.zeros((2, _NUM_GTS, 4), np.float32), np.zeros((2, _NUM_GTS), np.int32)
    for image in range(2):
        count = len(arrays[f"gt_labels_{image}"])
        boxes[image, :count] = arrays[f"gt_boxes_{image}"]
        labels[image, :count] = arrays[f"gt_labels_{image}"]
    return boxes, labels


def _given_proposals(arrays):
    """Training proposals of a reference, (B, N, 4), where it has some.

    Of 4000, one for which an overlap of 0.7 is a matter of rounding stays in the one network and
    goes in the other: 2 % of the gradients of all layers before RoIAlign, each RoI's having a
    direction of its own.
    """
    names = [f"train_proposals_{image}" for image in range(2)]
    return np.stack([arrays[name] for name in names]) if names[0] in arrays else None


def _moved_rows(network, their_name, arrays, against):
    """Row: the statistics of neck and heads behind the step, where there are some."""
    wanted = {k.removeprefix("moved:"): v for k, v in arrays.items() if k.startswith("moved:")}
    if not wanted:
        return []
    values = {their_name(p.name): p.asnumpy() for p in network.get_parameters()}
    off = max(np.abs(values[k] - v).max() / np.abs(v).max() for k, v in wanted.items())
    what = f"{len(wanted)} running statistics of neck and head"
    met = off <= STATISTICS_TOLERANCE
    return [Row(against, what, f"{off:.1e}", f"{STATISTICS_TOLERANCE:g}", met)]


def torchvision_v2_stages():
    """Rows: as `torchvision_stages`, of version 2."""
    return torchvision_stages(V2)


def torchvision_v2_detections():
    """Rows: as `torchvision_detections`, of version 2."""
    return torchvision_detections(V2)


def torchvision_v2_training():
    """Rows: as `torchvision_training`, of version 2."""
    return torchvision_training(V2)


def model_zoo_detections():
    """Rows: the 100 best detections of both ResNet-50."""
    rows = []
    for backbone, converted in (("resnet_v1.5_50", False), ("resnet_v1_50", True)):
        name = f"ancestor_r50_{backbone.split('_')[1]}_eval"
        detector = Detector(
            model_zoo_checkpoint(converted),
            device_target="CPU",
            img_height=256,
            img_width=320,
            test_max_per_img=300,
            **({} if converted else {"backbone": backbone}),
        )
        found = detector(*normalised_input(name, detector.config))
        rows.append(
            detection_row(
                "model zoo", f"{backbone}, 100 best detections", found, reference(name), 100
            )
        )
    return rows


@functools.cache
def model_zoo_losses():
    """Rows: the six losses, every candidate sampled."""
    arrays = reference("ancestor_r50_v1.5_train")
    detector = Detector(
        model_zoo_checkpoint(False), device_target="CPU", img_height=256, img_width=320
    )
    config = detector.config.replace(
        num_gts=_NUM_GTS,
        num_expected_pos=512,
        num_expected_neg=20460,
        num_expected_pos_stage2=512,
        num_expected_neg_stage2=2100,
    )
    labels = np.where(arrays["gt_valid"], arrays["gt_labels"], 0).astype(np.int32)
    losses, _, _ = _losses_and_gradients(
        model_zoo_checkpoint(False),
        config,
        normalised_input("ancestor_r50_v1.5_train", config),
        arrays["gt_boxes"],
        labels,
        gradients=False,
    )
    off = [
        abs(loss / float(arrays[name]) - 1) for name, loss in zip(LOSS_NAMES, losses, strict=True)
    ]
    return [
        Row("model zoo", name, f"{o:.1e}", f"{LOSS_TOLERANCE:g}", o <= LOSS_TOLERANCE)
        for name, o in zip(LOSS_NAMES, off, strict=True)
    ]


def _losses_and_gradients(
    path, config, image_and_size, boxes, labels, *, gradients=True, proposals=None
):
    """The six losses, the L2 norm of every trainable parameter's gradient by name, the network.

    `proposals`: (B, N, 4) in the place of the network's own.
    """
    from mindspore import Tensor

    from src.checkpoints.file import read_checkpoint
    from src.detector import OpenDetector, build_loss
    from tests.helpers.stages import GivenProposals, LossAndGradients

    image, valid_hw = image_and_size
    meta = np.concatenate([valid_hw, np.ones((2, 2))], 1).astype(np.float32)
    valid = labels > 0
    batch = (image, meta, boxes, labels, valid, np.zeros_like(valid), np.array([5, 77], np.int32))
    network = OpenDetector(config, read_checkpoint(path)).network()
    loss = build_loss(network, config)
    if proposals is not None:
        loss.proposals = GivenProposals(proposals)
    cell = LossAndGradients(loss) if gradients else loss
    cell.set_train(True)
    outputs = cell(*(Tensor(np.ascontiguousarray(x)) for x in batch))
    (_, losses), grads = outputs if gradients else ((None, outputs), ())
    names = [weight.name for weight in cell.weights] if gradients else []
    norms = {
        name: np.linalg.norm(grad.asnumpy().astype(np.float64))
        for name, grad in zip(names, grads, strict=True)
    }
    return [float(value.asnumpy()) for value in losses], norms, network


def batch_of_two():
    """Row: two images at once or one after the other."""
    detector = torchvision_detector()
    image, valid_hw = normalised_input(R50, detector.config)
    together = detector(image, valid_hw)
    apart = [detector(image[i : i + 1], valid_hw[i : i + 1])[0] for i in range(2)]
    same = all(
        len(a.boxes) == len(b.boxes) and (a.labels == b.labels).all()
        for a, b in zip(together, apart, strict=True)
    )
    pairs = list(zip(together, apart, strict=True)) if same else []
    box = max((np.abs(a.boxes - b.boxes).max() for a, b in pairs), default=np.inf)
    score = max((np.abs(a.scores - b.scores).max() for a, b in pairs), default=np.inf)
    return [
        Row(
            "itself",
            "a batch of two and two batches of one",
            f"{box:.1e} px, {score:.1e}",
            f"{BOX_TOLERANCE} px, {SCORE_TOLERANCE:g}",
            box < BOX_TOLERANCE and score < SCORE_TOLERANCE,
        )
    ]


COMPARISONS = (
    torchvision_stages,
    torchvision_detections,
    torchvision_coco_detections,
    torchvision_training,
    torchvision_v2_stages,
    torchvision_v2_detections,
    torchvision_v2_coco_rows,
    torchvision_v2_training,
    model_zoo_detections,
    model_zoo_losses,
    batch_of_two,
)


def main(argv):
    """Measure everything, or the comparisons with a word in their names, and print the table."""
    from src.model_utils.device_adapter import init_device, prepare_environment

    prepare_environment("CPU")
    init_device(load_config(["--device_target", "CPU"]))
    missed = 0
    head = Row("against", "what", "measured", "bar", True)
    widths = (12, 44, 46, 38)
    print("  ".join(text.ljust(width) for text, width in zip(head, widths, strict=False)))
    word = argv[0] if argv else ""
    for comparison in (c for c in COMPARISONS if word in c.__name__):
        for row in comparison():
            print(
                "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=False)),
                "" if row.met else "MISSED",
                flush=True,
            )
            missed += not row.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
