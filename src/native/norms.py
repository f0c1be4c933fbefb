# SPDX-License-Identifier: Apache-2.0
"""Our normalisation as a Cell with gradients."""

from typing import Any

from mindspore import Tensor, nn
from mindspore import dtype as mstype

from ..FasterRcnn.own_canvas import Cells
from .build import Library
from .custom import Shape, given, no_gradient, operator


class NativeNormalise(nn.Cell):
    """What `norms.Normalise` computes, without tables of 16 bytes a cell for each of its steps.

    Args:
        library: our compiled operators, of `build.library()`.
        groups, eps: see `norms.Normalise`.
    """

    def __init__(self, library: Library, groups: int, eps: float) -> None:
        super().__init__()
        self.settings = Tensor([groups, eps], mstype.float32)

        def shapes(image: Shape, scale: Shape, *others: Shape) -> tuple[Shape, Shape, Shape]:
            sets = [image[0] * groups] if groups else list(scale)
            return image, sets, sets

        self.forward = operator(library, "normalise", shapes, _three_types)
        self.gradients = operator(library, "normalise_gradient", _gradient_shapes, _three_types)

    def construct(
        self, x: Tensor, scale: Tensor, shift: Tensor, cells: Cells = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised map and its statistics, as `norms.Normalise.construct` does.

        Args:
            x, scale, shift, cells: as there; float32.
        """
        return self.forward(x, scale, shift, self.settings, *given(cells))

    def bprop(
        self,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        cells: Cells,
        results: tuple[Tensor, Tensor, Tensor],
        gradients: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Cells]:
        """Return the gradients of map, scale and shift; cells have none.

        Args:
            x, scale, shift, cells: as for `construct`.
            results: what it returned.
            gradients: of these; nothing flows back through the statistics.
        """
        statistics = results[1:]
        of_x, of_scale, of_shift = self.gradients(
            x, scale, self.settings, *statistics, gradients[0], *given(cells)
        )
        return of_x, of_scale, of_shift, no_gradient(cells)


def _gradient_shapes(image: Shape, scale: Shape, *others: Shape) -> tuple[Shape, Shape, Shape]:
    return image, scale, scale


def _three_types(*types: Any) -> tuple[mstype.Type, mstype.Type, mstype.Type]:
    return (mstype.float32,) * 3
