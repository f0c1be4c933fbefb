# SPDX-License-Identifier: Apache-2.0
"""Pictures that are there more than once, within a split and across splits.

Two pictures are alike when their perceptual hashes differ in few bits and their thumbnails agree.
Hashes that differ in at most `MOST_BITS` bits are equal in one of `MOST_BITS + 1` bands of bits, so
only pictures that share a band are compared. Turned, mirrored and strongly cropped copies are not
found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.groups import Leaders
from .fingerprints import FLAT, Fingerprint

MOST_BITS = 5  # of 64 that differ
_LEAST_AGREEMENT = 0.97  # correlation of the thumbnails
_NEAR_GREY = 4.0  # grey levels between two flat pictures that are alike
_NEAR_COLOR = 8.0  # the same for red, green and blue, which a JPEG keeps less exactly
_BANDS = MOST_BITS + 1
_CROWD = 2048  # pictures of one band; of more, each is compared with its neighbours alone
_NEIGHBOURS = 16  # of a picture, in a band, whose thumbnails are compared
_PAIRS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Group:
    """Pictures that are alike.

    Attributes:
        members: positions of the pictures, rising; at least two.
        identical: their files are the same to the byte.
    """

    members: tuple[int, ...]
    identical: bool


def find_groups(prints: Sequence[Fingerprint]) -> list[Group]:
    """Return the groups of pictures that are alike, in the order of their first members.

    Being alike is passed on: in a group of a, b and c, a may be like b and b like c alone.

    Args:
        prints: of all pictures.
    """
    if not prints:
        return []
    digests = np.array([one.digest for one in prints])
    _, first, copy_of = np.unique(digests, return_index=True, return_inverse=True)
    leaders = _Alike(len(prints))
    for position, number in enumerate(copy_of.reshape(-1).tolist()):
        leaders.join(int(first[number]), position)
    hashes = np.array([prints[i].bits for i in first], np.uint64)
    thumbs = np.stack([prints[i].thumb for i in first])
    colors = np.stack([prints[i].color for i in first])
    for a, b in _candidates(hashes):
        for start in range(0, len(a), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            leaders.join_alike(a[part], b[part], first, thumbs, colors)
    groups = leaders.groups()
    return [Group(tuple(g), len({prints[i].digest for i in g}) == 1) for g in groups]


class _Alike(Leaders):
    """Which pictures belong together."""

    def join_alike(
        self,
        a: np.ndarray,
        b: np.ndarray,
        names: np.ndarray,
        thumbs: np.ndarray,
        colors: np.ndarray,
    ) -> None:
        """Put pairs together whose thumbnails agree; those that are together are not compared.

        Args:
            a, b: (P,) rows of the tables.
            names: (N,) the picture of each row.
            thumbs: (N, THUMB * THUMB) uint8.
            colors: (N, 3) float32, means.
        """
        rows, place = np.unique(np.concatenate([a, b]), return_inverse=True)
        leaders = np.array([self.leader(int(name)) for name in names[rows]], np.int64)[place]
        apart = leaders[: len(a)] != leaders[len(a) :]
        a, b = a[apart], b[apart]
        same_color = (np.abs(colors[a] - colors[b]) <= _NEAR_COLOR).all(axis=1)
        alike = _agree(thumbs[a], thumbs[b], same_color)
        for one, other in zip(names[a[alike]].tolist(), names[b[alike]].tolist(), strict=True):
            self.join(one, other)


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions a, b of pairs whose (N,) uint64 hashes differ in at most `MOST_BITS` bits."""
    edges = np.linspace(0, 64, _BANDS + 1).astype(int).tolist()
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.lexsort((hashes, band))
        starts = np.flatnonzero(np.r_[True, np.diff(band[order]) != 0])
        ends = np.r_[starts[1:], len(order)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if end - start > 1:
                yield from _pairs_of(order[start:end], hashes)


def _pairs_of(bucket: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same among the pictures of one band, which are in the order of their hashes."""
    count = len(bucket)
    if count > _CROWD:
        for step in range(1, _NEIGHBOURS + 1):
            a, b = bucket[:-step], bucket[step:]
            near = np.flatnonzero(_bits(hashes[a] ^ hashes[b]) <= MOST_BITS)
            yield a[near], b[near]
        return
    a, b = np.triu_indices(count, 1)
    near = np.flatnonzero(_bits(hashes[bucket[a]] ^ hashes[bucket[b]]) <= MOST_BITS)
    a, b = a[near], b[near]
    # The first ones of each: in pictures of one camera all are near each other.
    few = np.arange(len(a)) - np.searchsorted(a, a) < _NEIGHBOURS
    yield bucket[a[few]], bucket[b[few]]


def _bits(values: np.ndarray) -> np.ndarray:
    """How many bits of each (N,) uint64 are 1 (NumPy counts them from version 2 on)."""
    ones, pairs, fours = (
        np.uint64(v) for v in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F)
    )
    values = values - ((values >> np.uint64(1)) & ones)
    values = (values & pairs) + ((values >> np.uint64(2)) & pairs)
    values = (values + (values >> np.uint64(4))) & fours
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _agree(a: np.ndarray, b: np.ndarray, same_color: np.ndarray) -> np.ndarray:
    """(P,) bool: whether the (P, THUMB * THUMB) thumbnails of pairs show the same.

    Flat ones have nothing but their colour; (P,) `same_color` says whether it is one.
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    a, b = a - mean_a[:, None], b - mean_b[:, None]
    spread_a, spread_b = np.sqrt((a * a).mean(axis=1)), np.sqrt((b * b).mean(axis=1))
    flat = np.minimum(spread_a, spread_b) < FLAT
    correlation = (a * b).mean(axis=1) / np.maximum(spread_a * spread_b, 1e-6)
    both = np.maximum(spread_a, spread_b) < FLAT
    same_tone = both & same_color & (np.abs(mean_a - mean_b) <= _NEAR_GREY)
    return np.where(flat, same_tone, correlation >= _LEAST_AGREEMENT)
