# SPDX-License-Identifier: Apache-2.0
"""Random choice of training samples without hidden state.

The choice depends on the image's `sampling_key` alone, not on the batch it comes in, the rank or
what ran before: that makes runs repeatable and resumable, and two processes choose what one
process with a double batch does.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .box_ops import gather_rows

_LOWEST = -3.0e9  # below every int32

# More than a map has: they tell places apart in one number.
_MOST_ROWS, _MOST_COLUMNS, _MOST_PER_CELL = 2**20, 2**20, 2**16

# Rows, columns and candidates a cell of several maps, whose cells are the candidates in order.
Grids = tuple[tuple[int, int, int], ...]


class BalancedSampler(nn.Cell):
    """Choose at most `num_total` candidates, of them at most `num_pos` positives.

    (Faster R-CNN, section 3.1.3: negatives fill up what positives leave free.)

    Args:
        num_pos: the most positives an image.
        num_total: positives and negatives an image together.
    """

    def __init__(self, num_pos: int, num_total: int) -> None:
        super().__init__()
        self.num_pos = num_pos
        self.num_total = num_total

    def construct(
        self, positive: Tensor, negative: Tensor, sampling_key: Tensor, grids: Grids | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose.

        Args:
            positive, negative: (B, N) bool, never both; what is neither is never chosen.
            sampling_key: (B,) int32, any value.
            grids: where the candidates lie; the choice then depends on their places, not on how
                many more there are.

        Returns:
            index: (B, T) int32 positions of the chosen ones, positives first; T is
                min(num_total, N).
            is_positive: (B, T) bool.
            chosen: (B, T) bool; False where candidates ran out (`index` is arbitrary there).
        """
        number = positive.shape[1]
        total = min(self.num_total, number)
        most_pos = min(self.num_pos, total)
        priority = _random_priority(sampling_key, number, grids)

        pos_index = _best(priority, positive, most_pos)
        neg_index = _best(priority, negative, total)
        num_pos = ops.minimum(_count(positive), most_pos)
        num_neg = ops.minimum(_count(negative), total - num_pos)

        slot = ops.broadcast_to(_slots(total), (positive.shape[0], total))
        is_positive = slot < num_pos
        source = ops.select(is_positive, slot, slot - num_pos + most_pos)
        index = gather_rows(ops.concat((pos_index, neg_index), 1), source)
        return index, is_positive, slot < num_pos + num_neg


def _random_priority(sampling_key: Tensor, number: int, grids: Grids | None) -> Tensor:
    """Return (B, number) float32: multiply-add hashing of the key, in wrapping int32 arithmetic."""
    bias, stride = _hash_constants(number) if grids is None else _hash_constants_of(grids)
    return ops.cast(bias + ops.expand_dims(sampling_key, 1) * stride, ms.float32)


def _best(priority: Tensor, candidate: Tensor, k: int) -> Tensor:
    lowest = ops.fill(ms.float32, priority.shape, _LOWEST)
    return ops.topk(ops.select(candidate, priority, lowest), k)[1]


def _count(mask: Tensor) -> Tensor:
    """Return (B, 1) int32."""
    return ops.cast(ops.reduce_sum(ops.cast(mask, ms.float32), 1), ms.int32).expand_dims(1)


@ops.constexpr
def _hash_constants(number: int) -> tuple[Tensor, Tensor]:
    rng = np.random.Generator(np.random.PCG64(number))
    values = rng.integers(-(2**31), 2**31, size=(2, 1, number), dtype=np.int64).astype(np.int32)
    return Tensor(values[0]), Tensor(values[1] | 1)


@ops.constexpr
def _hash_constants_of(grids: Grids) -> tuple[Tensor, Tensor]:
    """Return what `_hash_constants` does, for each candidate by its map, row, column and number."""
    places = []
    for level, (rows, columns, per_cell) in enumerate(grids):
        row, column, number = np.ogrid[:rows, :columns, :per_cell]
        place = ((level * _MOST_ROWS + row) * _MOST_COLUMNS + column) * _MOST_PER_CELL + number
        places.append(place.reshape(-1))
    values = _scrambled(np.concatenate(places).astype(np.uint64))
    bias, stride = values.view(np.int32).reshape(-1, 2).T[:, None]
    return Tensor(bias.copy()), Tensor(stride | 1)


def _scrambled(values: np.ndarray) -> np.ndarray:
    """Return uint64 of which no bit tells the values' order (splitmix64, Steele et al. 2014)."""
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@ops.constexpr
def _slots(total: int) -> Tensor:
    return Tensor(np.arange(total, dtype=np.int32)[None])
