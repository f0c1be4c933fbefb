# SPDX-License-Identifier: Apache-2.0
"""Our C++ operator that lets averages follow weights in one pass over the memory."""

from mindspore import Tensor, nn

from .build import Library
from .custom import operator


class NativeFollow(nn.Cell):
    """What `moving_average.Follow` computes; MindSpore goes through the memory three times for it.

    Args:
        library: our compiled operators, of `build.library()`.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.follow = operator(library, "follow", lambda share, *others: share)

    def construct(
        self, share: Tensor, averages: tuple[Tensor, ...], values: tuple[Tensor, ...]
    ) -> Tensor:
        """Change the averages in place, as `moving_average.Follow` does; return the share.

        Args:
            share, averages, values: as there.
        """
        return self.follow(share, *averages, *values)
