# SPDX-License-Identifier: Apache-2.0
"""Pictures that are alike."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data_check import duplicates
from src.data_check.duplicates import MOST_BITS, find_groups
from src.data_check.fingerprints import THUMB, Fingerprint, fingerprint, says_too_little
from src.images.reading import decode_image, look_at_image


def scene(seed, height=300, width=400):
    """(H, W, 3) uint8: a few shapes on a background, different for every seed."""
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(rng.integers(40, 200, (4, 5, 3), np.uint8), (width, height))
    for _ in range(6):
        centre = tuple(int(v) for v in rng.integers(0, (width, height)))
        color = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.circle(pixels, centre, int(rng.integers(15, 60)), color, -1)
    return pixels


def printed(pixels, kind=".jpg", quality=90):
    done, data = cv2.imencode(kind, pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    data = data.tobytes()
    small = look_at_image(data, "picture")[1]
    return fingerprint(data, decode_image(data, "picture") if says_too_little(small) else small)


def test_copies_are_found_and_others_are_not():
    pixels = scene(0)
    bright = np.clip(pixels.astype(np.float32) * 1.15 + 8, 0, 255).astype(np.uint8)
    prints = [
        printed(pixels),
        *(printed(scene(seed)) for seed in range(1, 40)),
        printed(pixels, quality=40),
        printed(cv2.resize(pixels, (640, 480), interpolation=cv2.INTER_CUBIC)),
        printed(cv2.resize(pixels, (200, 150), interpolation=cv2.INTER_AREA)),  # decoded whole
        printed(pixels, ".png"),
        printed(bright),
    ]
    groups = find_groups(prints)
    assert [group.members for group in groups] == [(0, 40, 41, 42, 43, 44)]
    assert not groups[0].identical


def test_equal_files_are_one_group():
    first, other = printed(scene(1)), printed(scene(2))
    groups = find_groups([other, first, other, first, first])
    assert [(group.members, group.identical) for group in groups] == [
        ((0, 2), True),
        ((1, 3, 4), True),
    ]
    assert find_groups([]) == [] and find_groups([first]) == []


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_plain_pictures_of_other_colours_of_one_grey_are_no_copies(kind):
    bgr = [(0, 0, 200), (0, 102, 0), (255, 50, 6), (0, 0, 203)]  # grey levels of about 60
    plain = [np.full((400, 500, 3), color, np.uint8) for color in bgr]
    greys = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY)[0, 0] for p in plain]
    assert max(greys) - min(greys) <= 3
    prints = [printed(p, kind) for p in plain] + [printed(plain[1], ".jpg", quality=50)]
    assert [group.members for group in find_groups(prints)] == [(0, 3), (1, 4)]


def test_plain_pictures_are_alike_in_their_grey_and_colour():
    greys = [np.full((80, 90, 3), value, np.uint8) for value in (30, 31, 200)]
    groups = find_groups([printed(grey, ".png") for grey in greys] + [printed(scene(3))])
    assert [group.members for group in groups] == [(0, 1)]


def fake_prints(hashes):
    thumb = np.arange(THUMB * THUMB, dtype=np.uint8)
    color = np.zeros(3, np.float32)
    return [Fingerprint(i.to_bytes(16, "big"), bits, thumb, color) for i, bits in enumerate(hashes)]


@settings(max_examples=60, deadline=None)
@given(
    base=st.integers(0, 2**64 - 1),
    flips=st.lists(st.sets(st.integers(0, 63), max_size=9), min_size=1, max_size=6),
)
def test_hashes_that_differ_in_few_bits_are_compared(base, flips):
    """Against a comparison of all with all."""
    hashes = [base, *(base ^ sum(1 << bit for bit in bits) for bits in flips)]
    near = {
        (a, b)
        for a in range(len(hashes))
        for b in range(a + 1, len(hashes))
        if (hashes[a] ^ hashes[b]).bit_count() <= MOST_BITS
    }
    found = duplicates._candidates(np.array(hashes, np.uint64))
    pairs = [np.sort([a, b], axis=0).T.tolist() for a, b in found]
    assert {tuple(pair) for some in pairs for pair in some} == near


@pytest.mark.parametrize("crowd", [2048, 2])
def test_a_crowd_of_equal_hashes_is_one_group(crowd, monkeypatch):
    monkeypatch.setattr(duplicates, "_CROWD", crowd)
    groups = find_groups(fake_prints([7] * 50 + [2**63 + 7 * 2**20]))
    assert [group.members for group in groups] == [tuple(range(50))]
