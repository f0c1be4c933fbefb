# SPDX-License-Identifier: Apache-2.0
"""Parameters of other programs' networks, by the names that those programs use.

Written from the programs, not from src: what the converter is held against.
"""

import zlib

import numpy as np

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    "resnext50_32x4d": (3, 4, 6, 3),
    "resnext101_32x8d": (3, 4, 23, 3),
    "resnext101_64x4d": (3, 4, 23, 3),
    "wide_resnet50_2": (3, 4, 6, 3),
}
# Groups, and channels of the first 3x3 convolution; others have 1 and 64.
GROUPS_AND_WIDTH = {
    "resnext50_32x4d": (32, 128),
    "resnext101_32x8d": (32, 256),
    "resnext101_64x4d": (64, 256),
    "wide_resnet50_2": (1, 128),
}
TORCH_NORM = ("weight", "bias", "running_mean", "running_var")
MINDSPORE_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def quick(name, shape):
    """float32 values that tell names apart, and rows and columns of matrices; cheap to make."""
    seed = np.float32(1 + zlib.crc32(name.encode()) % 9973)
    if len(shape) == 4:
        return np.broadcast_to(seed, shape)
    values = np.arange(int(np.prod(shape)), dtype=np.float32)
    return (values % 8191 / 8192 + seed).reshape(shape)


def fill(shapes, make=quick):
    return {name: make(name, tuple(shape)) for name, shape in shapes.items()}


def _resnet_layers(depth):
    """(stage, block, part, out, in, kernel) of every convolution; part 0 is the projection."""
    groups, first = GROUPS_AND_WIDTH.get(depth, (1, 64))
    channels = 64
    for stage, (count, outputs) in enumerate(
        zip(BLOCKS[depth], stage_channels(depth), strict=True)
    ):
        width = first * 2**stage
        for block in range(count):
            if depth in (18, 34):
                yield stage, block, 1, outputs, channels, 3
                yield stage, block, 2, outputs, outputs, 3
            else:
                yield stage, block, 1, width, channels, 1
                yield stage, block, 2, width, width // groups, 3
                yield stage, block, 3, outputs, width, 1
            if block == 0 and (stage > 0 or channels != outputs):
                yield stage, block, 0, outputs, channels, 1
            channels = outputs


def stage_channels(depth):
    """Of C2 to C5."""
    return [(64 if depth in (18, 34) else 256) * 2**stage for stage in range(4)]


def resnet(depth, prefix="", projection="downsample", norm=TORCH_NORM, counters=False):
    """torchvision's, mmdetection's (prefix) and MindSpore's (projection, norm) backbones."""
    shapes = {f"{prefix}conv1.weight": (64, 3, 7, 7)}
    shapes |= {f"{prefix}bn1.{kind}": (64,) for kind in norm}
    for stage, block, part, out, inputs, kernel in _resnet_layers(depth):
        at = f"{prefix}layer{stage + 1}.{block}."
        conv, bn = (f"conv{part}", f"bn{part}") if part else (f"{projection}.0", f"{projection}.1")
        shapes[f"{at}{conv}.weight"] = (out, inputs, kernel, kernel)
        shapes |= {f"{at}{bn}.{kind}": (out,) for kind in norm}
        if counters:
            shapes[f"{at}{bn}.num_batches_tracked"] = ()
    return shapes


def detectron2_resnet(depth, prefix="backbone.bottom_up."):
    shapes = {f"{prefix}stem.conv1.weight": (64, 3, 7, 7)}
    shapes |= {f"{prefix}stem.conv1.norm.{kind}": (64,) for kind in TORCH_NORM}
    for stage, block, part, out, inputs, kernel in _resnet_layers(depth):
        at = f"{prefix}res{stage + 2}.{block}.{f'conv{part}' if part else 'shortcut'}"
        shapes[f"{at}.weight"] = (out, inputs, kernel, kernel)
        shapes |= {f"{at}.norm.{kind}": (out,) for kind in TORCH_NORM}
    return shapes


def _biased(**layers):
    shapes = {}
    for layer, shape in layers.items():
        shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = shape, shape[:1]
    return shapes


def _heads(depth, lateral, output, rpn, box, outputs, deltas):
    """Biased layers; `rpn` and `box` name three and four of them."""
    layers = {}
    for level, channels in enumerate(stage_channels(depth)):
        layers[lateral(level)] = (256, channels, 1, 1)
        layers[output(level)] = (256, 256, 3, 3)
    layers |= zip(rpn, [(256, 256, 3, 3), (3, 256, 1, 1), (12, 256, 1, 1)], strict=True)
    layers |= zip(
        box, [(1024, 12544), (1024, 1024), (outputs, 1024), (4 * deltas, 1024)], strict=True
    )
    return _biased(**layers)


def torchvision(depth=50, outputs=91, old=False):
    dot = "" if old else ".0"
    return resnet(depth, "backbone.body.") | _heads(
        depth,
        lambda n: f"backbone.fpn.inner_blocks.{n}{dot}",
        lambda n: f"backbone.fpn.layer_blocks.{n}{dot}",
        (
            "rpn.head.conv" if old else "rpn.head.conv.0.0",
            "rpn.head.cls_logits",
            "rpn.head.bbox_pred",
        ),
        (
            "roi_heads.box_head.fc6",
            "roi_heads.box_head.fc7",
            "roi_heads.box_predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred",
        ),
        outputs,
        outputs,
    )


def detectron2(depth=50, outputs=81):
    head = "proposal_generator.rpn_head."
    return detectron2_resnet(depth) | _heads(
        depth,
        lambda n: f"backbone.fpn_lateral{n + 2}",
        lambda n: f"backbone.fpn_output{n + 2}",
        (f"{head}conv", f"{head}objectness_logits", f"{head}anchor_deltas"),
        (
            "roi_heads.box_head.fc1",
            "roi_heads.box_head.fc2",
            "roi_heads.box_predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred",
        ),
        outputs,
        outputs - 1,
    )


def mmdetection(depth=50, outputs=81, version=2):
    box = "bbox_head" if version == 1 else "roi_head.bbox_head"
    return resnet(depth, "backbone.", counters=True) | _heads(
        depth,
        lambda n: f"neck.lateral_convs.{n}.conv",
        lambda n: f"neck.fpn_convs.{n}.conv",
        ("rpn_head.rpn_conv", "rpn_head.rpn_cls", "rpn_head.rpn_reg"),
        (f"{box}.shared_fcs.0", f"{box}.shared_fcs.1", f"{box}.fc_cls", f"{box}.fc_reg"),
        outputs,
        outputs if version == 1 else outputs - 1,
    )


def _normed(conv, norm, shape, kinds):
    """A convolution without bias, and what is behind it."""
    return {f"{conv}.weight": shape} | {f"{norm}.{kind}": shape[:1] for kind in kinds}


def torchvision_v2(outputs=91):
    """`fasterrcnn_resnet50_fpn_v2`, as its file has it."""
    kinds = (*TORCH_NORM, "num_batches_tracked")
    shapes = resnet(50, "backbone.body.", counters=True)
    shapes["backbone.body.bn1.num_batches_tracked"] = ()
    for level in range(4):
        for part, size in (("inner", (256 * 2**level, 1, 1)), ("layer", (256, 3, 3))):
            at = f"backbone.fpn.{part}_blocks.{level}"
            shapes |= _normed(f"{at}.0", f"{at}.1", (256, *size), kinds)
    for number in range(4):
        at = f"roi_heads.box_head.{number}"
        shapes |= _normed(f"{at}.0", f"{at}.1", (256, 256, 3, 3), kinds)
    layers = {f"rpn.head.conv.{number}.0": (256, 256, 3, 3) for number in range(2)}
    layers |= {"rpn.head.cls_logits": (3, 256, 1, 1), "rpn.head.bbox_pred": (12, 256, 1, 1)}
    layers["roi_heads.box_head.5"] = (1024, 12544)
    layers["roi_heads.box_predictor.cls_score"] = (outputs, 1024)
    layers["roi_heads.box_predictor.bbox_pred"] = (4 * outputs, 1024)
    shapes |= _biased(**layers)
    return {n: () if n.endswith("num_batches_tracked") else s for n, s in shapes.items()}


def detectron2_heads(kinds, outputs=81):
    """A class-agnostic R50-FPN with `kinds` behind its convolutions, two of each in the heads."""
    head = "proposal_generator.rpn_head."
    shapes = detectron2_resnet(50)
    for level in range(4):
        for part, size in (("lateral", (256 * 2**level, 1, 1)), ("output", (256, 3, 3))):
            at = f"backbone.fpn_{part}{level + 2}"
            shapes |= _normed(at, f"{at}.norm", (256, *size), kinds)
    for number in (1, 2):
        at = f"roi_heads.box_head.conv{number}"
        shapes |= _normed(at, f"{at}.norm", (256, 256, 3, 3), kinds)
    layers = {f"{head}conv.conv{number}": (256, 256, 3, 3) for number in range(2)}
    layers |= {f"{head}objectness_logits": (3, 256, 1, 1), f"{head}anchor_deltas": (12, 256, 1, 1)}
    layers |= {"roi_heads.box_head.fc1": (1024, 12544), "roi_heads.box_head.fc2": (1024, 1024)}
    layers["roi_heads.box_predictor.cls_score"] = (outputs, 1024)
    layers["roi_heads.box_predictor.bbox_pred"] = (4, 1024)
    return shapes | _biased(**layers)


def mmdetection_heads(norm, outputs=81):
    """Shared4Conv1FC and a pyramid with norms."""
    kinds = TORCH_NORM[:2] if norm == "gn" else TORCH_NORM
    shapes, box = resnet(50, "backbone."), "roi_head.bbox_head"
    for level in range(4):
        for part, size in (("lateral", (256 * 2**level, 1, 1)), ("fpn", (256, 3, 3))):
            at = f"neck.{part}_convs.{level}"
            shapes |= _normed(f"{at}.conv", f"{at}.{norm}", (256, *size), kinds)
    for number in range(4):
        at = f"{box}.shared_convs.{number}"
        shapes |= _normed(f"{at}.conv", f"{at}.{norm}", (256, 256, 3, 3), kinds)
    layers = {"rpn_head.rpn_conv": (256, 256, 3, 3), "rpn_head.rpn_cls": (3, 256, 1, 1)}
    layers |= {"rpn_head.rpn_reg": (12, 256, 1, 1), f"{box}.shared_fcs.0": (1024, 12544)}
    layers |= {f"{box}.fc_cls": (outputs, 1024), f"{box}.fc_reg": (4 * outputs - 4, 1024)}
    return shapes | _biased(**layers)


def mindspore_lab(outputs=81):
    """mindspore-lab's RCNN on a ResNet-50."""
    head, box = "rpn_head.rpn_feat.", "bbox_head."
    bottom = resnet(50, "backbone.bottom_up.", "down_sample", MINDSPORE_NORM)
    return bottom | _heads(
        50,
        lambda n: f"backbone.lateral_convs.{n}.conv.0",
        lambda n: f"backbone.fpn_convs.{n}.conv.0",
        (f"{head}rpn_conv", f"{head}rpn_rois_score", f"{head}rpn_rois_delta"),
        (f"{box}head.fc6", f"{box}head.fc7", f"{box}bbox_cls", f"{box}bbox_delta"),
        outputs,
        outputs - 1,
    )


def fold_norms(arrays):
    """Caffe's BatchNorm: nothing but scale and shift."""
    for name, array in arrays.items():
        if name.endswith("running_mean"):
            array[...] = 0
        elif name.endswith("running_var"):
            array[...] = np.float32(1 - 1e-5)
    return arrays


def cell_anchors():
    """detectron2's buffers: xyxy around 0, of 32 to 512 pixels, 0.5, 1 and 2 high over wide."""
    arrays = {}
    for level in range(5):
        side = 32 * 2**level
        rows = []
        for ratio in (0.5, 1.0, 2.0):
            width = np.sqrt(side * side / ratio)
            rows.append([-width / 2, -width * ratio / 2, width / 2, width * ratio / 2])
        arrays[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = np.array(
            rows, np.float32
        )
    return arrays
