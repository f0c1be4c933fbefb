# SPDX-License-Identifier: Apache-2.0
"""Feature maps that are computed again for the gradients, instead of being kept (Chen et al. 2016).

What is kept of a part is what goes into it (of the backbone, into each block), and of a BatchNorm
that is trained what comes out of it: it would move its statistics a second time.
"""

from collections.abc import Callable, Collection, Iterable

from mindspore import nn

from .faster_rcnn_resnet import FasterRcnn
from .norms import BatchNorm

ALL = "all"


def _blocks(network: FasterRcnn) -> Iterable[nn.Cell]:
    backbone = network.backbone
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        yield from stage.cell_list


PARTS: dict[str, Callable[[FasterRcnn], Iterable[nn.Cell]]] = {
    "backbone": _blocks,
    "neck": lambda network: [network.fpn_neck],
    "rpn": lambda network: [network.rpn_with_loss],
    "head": lambda network: [network.rcnn],
}


def recompute(network: FasterRcnn, parts: Collection[str]) -> None:
    """Let parts of a network compute their inner feature maps again for the gradients.

    Losses, gradients and moving statistics stay what they are.

    Args:
        network: changed in place.
        parts: of `PARTS`; `ALL` for all of them.
    """
    for name, cells in PARTS.items():
        if name in parts or ALL in parts:
            for cell in cells(network):
                cell.recompute()
                _move_once(cell)


def _move_once(cell: nn.Cell) -> None:
    for _, layer in cell.cells_and_names():
        if isinstance(layer, BatchNorm):
            layer.move_once()
