# SPDX-License-Identifier: Apache-2.0
"""Our C++ operator behind the stem's convolution, as a Cell with a gradient."""

from mindspore import Tensor, nn
from mindspore import dtype as mstype

from ..FasterRcnn.own_canvas import Cells
from .build import Library
from .custom import Shape, agree, given, no_gradient, operator


class NativeStemPool(nn.Cell):
    """What `resnet.StemPool` computes, in one pass over the map; but zeros behind the own canvas.

    Args:
        library: our compiled operators, of `build.library()`.
        is_symmetric: see there.
    """

    def __init__(self, library: Library, is_symmetric: bool) -> None:
        super().__init__()
        self.before = Tensor([int(is_symmetric)], mstype.int32)
        self.pool = operator(library, "pool_stem", _half_shape)
        self.gradient = operator(library, "pool_stem_gradient", lambda image, *others: image)

    def construct(self, x: Tensor, cells: Cells) -> Tensor:
        """Return (B, C, H / 2, W / 2) float32, as `resnet.StemPool.construct` does.

        Args:
            x: (B, C, H, W) float32.
            cells: as there.
        """
        return self.pool(x, self.before, *given(cells))

    def bprop(
        self, x: Tensor, cells: Cells, result: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Cells]:
        """Return the gradient of the map; cells have none.

        Args:
            x, cells: as for `construct`.
            result: what it returned.
            gradient: of the result, of its shape.
        """
        return self.gradient(x, self.before, gradient, *given(cells)), no_gradient(cells)


def _half_shape(image: Shape, *others: Shape) -> Shape:
    batch, channels, height, width = image
    agree(height % 2 == width % 2 == 0, image)
    return [batch, channels, height // 2, width // 2]
