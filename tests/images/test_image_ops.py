# SPDX-License-Identifier: Apache-2.0
"""Images come out as a viewer shows them; boxes move with their images."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from src.base.errors import UserError
from src.images.geometry import ResizeRule
from src.images.ops import (
    InputFormat,
    clip_boxes,
    distort_colours,
    expand_image,
    flip_boxes,
    normalize_and_pad,
    preprocess_image,
    resize_image,
    scale_boxes,
)
from src.images.reading import decode_image, probe_image, read_image
from tests.helpers.data_helpers import canvas_format, make_config, picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(kind: str, orientation: int, size=(31, 18), **options) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(picture(size[1], size[0], 3))
    return encoded(image, kind, exif=exif.tobytes(), **options)


def shown(data: bytes) -> np.ndarray:
    """What Pillow, another decoder, shows."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


RGB = Image.fromarray(picture(18, 31, 1))
GRAY = RGB.convert("L")
DEEP = (np.arange(18 * 31, dtype=np.uint16).reshape(18, 31) * 117).astype(np.uint16)

PICTURES = {
    "jpeg": encoded(RGB, "JPEG", quality=95),
    "progressive jpeg": encoded(RGB, "JPEG", quality=95, progressive=True),
    "gray jpeg": encoded(GRAY, "JPEG", quality=95),
    "cmyk jpeg": encoded(RGB.convert("CMYK"), "JPEG", quality=95),
    "png": encoded(RGB, "PNG"),
    "gray png": encoded(GRAY, "PNG"),
    "palette png": encoded(RGB.quantize(16), "PNG"),
    "black and white png": encoded(RGB.convert("1"), "PNG"),
    "bmp": encoded(RGB, "BMP"),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "tiff": encoded(RGB, "TIFF"),
    **{f"jpeg exif {k}": turned("JPEG", k, quality=95) for k in range(1, 9)},
    **{f"png exif {k}": turned("PNG", k) for k in (1, 3, 6, 8)},
    # eight divides neither side, and both sides come to the same number of blocks
    "nearly square jpeg exif 6": turned("JPEG", 6, size=(39, 38), quality=95),
    "nearly square jpeg exif 1": turned("JPEG", 1, size=(39, 38), quality=95),
}


@pytest.mark.parametrize("name", PICTURES)
def test_decoding_agrees_with_another_decoder(name):
    data = PICTURES[name]
    mine, other = decode_image(data, name), shown(data)
    assert mine.shape == other.shape and mine.dtype == np.uint8 and mine.flags["C_CONTIGUOUS"]
    assert np.abs(mine.astype(int) - other).max() <= 6  # decoders of JPEG differ a little
    assert probe_image(data, name) == mine.shape[:2]


def test_sixteen_bits_become_eight():
    for data in (
        encoded(Image.fromarray(DEEP), "PNG"),
        cv2.imencode(".tiff", DEEP)[1].tobytes(),
        cv2.imencode(".png", np.dstack([DEEP] * 3))[1].tobytes(),
    ):
        mine = decode_image(data, "deep")
        assert np.abs(mine.astype(int) - (DEEP / 257.0)[..., None]).max() <= 1
        assert probe_image(data, "deep") == (18, 31)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "LA", "P", "deep"])
def test_transparent_images_are_shown_on_white(kind):
    alpha = np.tile(np.array([0, 100, 255] * 10, np.uint8), (18, 1))
    colour = np.asarray(RGB)[:, :30]
    if kind == "LA":
        colour = np.repeat(colour[..., :1], 3, axis=2)
        data = encoded(Image.fromarray(np.dstack([colour[..., 0], alpha]), "LA"), "PNG")
    elif kind == "P":
        colour = np.full_like(colour, (10, 20, 30))
        alpha = np.zeros_like(alpha)
        data = encoded(Image.fromarray(colour).quantize(2), "PNG", transparency=0)
        assert (decode_image(data, "p") == 255).all()
        return
    elif kind == "deep":
        both = np.dstack([colour[..., ::-1], alpha]).astype(np.uint16) * 257
        data = cv2.imencode(".png", both)[1].tobytes()
    else:
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        data = encoded(Image.fromarray(np.dstack([colour, alpha]), "RGBA"), kind, **options)
    weight = alpha[..., None] / 255.0
    expected = colour * weight + 255 * (1 - weight)
    assert np.abs(decode_image(data, kind) - expected).max() <= 1.5
    assert probe_image(data, kind) == (18, 30)


def test_transparent_image_that_exif_turns():
    alpha = np.zeros((18, 31), np.uint8)
    alpha[:, :10] = 255
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(
        Image.fromarray(np.dstack([np.asarray(RGB), alpha]), "RGBA"), "PNG", exif=exif.tobytes()
    )
    mine = decode_image(data, "turned")
    np.testing.assert_array_equal(mine[:10], np.rot90(np.asarray(RGB), -1)[:10])
    assert mine.shape == (31, 18, 3) and (mine[10:] == 255).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>" * 20,
        PICTURES["jpeg"][: len(PICTURES["jpeg"]) // 2],
        PICTURES["jpeg"][:30],
        PICTURES["png"][: len(PICTURES["png"]) // 2],
    ],
    ids=["empty", "html", "half a jpeg", "head of a jpeg", "half a png"],
)
def test_undecodable_images(data):
    for function in (decode_image, probe_image):
        with pytest.raises(UserError, match=r"image some/file.jpg cannot be decoded"):
            function(data, "some/file.jpg")


def test_missing_image(tmp_path):
    with pytest.raises(UserError, match="gone.jpg does not exist"):
        read_image(str(tmp_path / "gone.jpg"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_image(str(tmp_path))


def test_probe_agrees_on_real_images(coco128_root):
    paths = sorted((coco128_root / "val2017").glob("*.jpg"))[:40]
    assert len(paths) == 40
    for path in paths:
        data = path.read_bytes()
        assert probe_image(data, path.name) == decode_image(data, path.name).shape[:2]


# ------------------------------------------------------------------ network input


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (768, 1024)),
        ((640, 480), (768, 576)),
        ((100, 1000), (128, 1280)),
        ((3000, 10), (768, 3)),
        ((10000, 1), (768, 1)),
        ((768, 1280), (768, 1280)),
        ((333, 500), (768, 1153)),
    ],
)
def test_resized_size_keeps_the_ratio(size, expected):
    assert canvas_format(768, 1280).rule.size_on(0, *size) == expected


def test_stretching_fills_the_canvas():
    image, meta = preprocess_image(picture(50, 30), make_config(keep_ratio=False))
    assert image.shape == (3, 64, 96)
    np.testing.assert_allclose(meta, [64, 96, 64 / 50, 96 / 30], rtol=1e-6)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("pad_first", [False, True])
def test_normalising_and_padding(order, pad_first):
    config = make_config(channel_order=order, pad_before_normalize=pad_first)
    rgb = picture(32, 20, 2)
    image, meta = preprocess_image(rgb, config)
    assert image.dtype == np.float32 and image.shape == (3, 64, 96)
    np.testing.assert_array_equal(meta, np.array([64, 40, 2, 2], np.float32))
    resized = cv2.resize(rgb, (40, 64), interpolation=cv2.INTER_LINEAR)
    resized = resized if order == "rgb" else resized[..., ::-1]
    mean, std = np.array(config.pixel_mean), np.array(config.pixel_std)
    np.testing.assert_allclose(
        image[:, :, :40], ((resized - mean) / std).transpose(2, 0, 1), atol=1e-6
    )
    padding = -mean / std if pad_first else np.zeros(3)
    expected = np.broadcast_to(padding[:, None, None], (3, 64, 56))
    np.testing.assert_allclose(image[:, :, 40:], expected, rtol=1e-6)


def test_input_format_is_read_from_the_config():
    config = make_config(img_width=70, pixel_mean=[1, 2, 3], pixel_std=[4, 5, 6])
    assert InputFormat.from_config(config) == InputFormat(
        ResizeRule("canvas", ((64, 70),)), (1, 2, 3), (4, 5, 6)
    )
    image, _ = preprocess_image(np.full((64, 70, 3), 11, np.uint8), config)
    np.testing.assert_allclose(image[:, 0, 0], [10 / 4, 9 / 5, 8 / 6], rtol=1e-6)


# ------------------------------------------------------------------ boxes

boxes = arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(-50, 700, width=32)
).map(lambda b: np.concatenate([np.minimum(b[:, :2], b[:, 2:]), np.maximum(b[:, :2], b[:, 2:])], 1))
convention = st.sampled_from(["modern", "legacy"])


@settings(max_examples=100)
@given(boxes=boxes, width=st.integers(1, 2000), convention=convention)
def test_flipping_twice_gives_the_boxes_back(boxes, width, convention):
    once = flip_boxes(boxes, width, convention)
    assert (once[:, 2:] >= once[:, :2]).all()
    np.testing.assert_allclose(once[:, 2] - once[:, 0], boxes[:, 2] - boxes[:, 0], atol=1e-3)
    np.testing.assert_allclose(flip_boxes(once, width, convention), boxes, atol=1e-3)


@settings(max_examples=100)
@given(boxes=boxes, width=st.integers(2, 600), height=st.integers(2, 600), convention=convention)
def test_clipped_boxes_stay_inside_after_a_flip(boxes, width, height, convention):
    last = 1 if convention == "legacy" else 0
    clipped, keep = clip_boxes(boxes, height, width, convention)
    flipped = flip_boxes(clipped[keep], width, convention)
    assert (flipped >= 0).all()
    assert (flipped <= [width - last, height - last] * 2).all()
    assert (flipped[:, 2:] - flipped[:, :2] + last > 0).all()
    sides = np.clip(boxes[:, 2:], 0, [width, height]) - np.clip(boxes[:, :2], 0, [width, height])
    if convention == "modern":
        np.testing.assert_array_equal(keep, (sides > 0.01).all(axis=1))


@settings(max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), boxes=boxes, keep_ratio=st.booleans())
def test_boxes_are_scaled_like_the_image(height, width, boxes, keep_ratio):
    rule = ResizeRule("canvas" if keep_ratio else "stretch", ((64, 96),))
    resized, meta = resize_image(
        np.zeros((height, width, 3), np.uint8), rule.size_on(0, height, width)
    )
    assert resized.shape[:2] == tuple(meta[:2].astype(int))
    assert resized.shape[0] == 64 or resized.shape[1] == 96
    whole = np.array([[0, 0, width, height]], np.float32)
    np.testing.assert_allclose(scale_boxes(whole, *meta[2:])[0, 2:], meta[1::-1], rtol=1e-5)
    back = scale_boxes(scale_boxes(boxes, *meta[2:]), 1 / meta[2], 1 / meta[3])
    np.testing.assert_allclose(back, boxes, rtol=1e-4, atol=1e-3)
    if keep_ratio and min(resized.shape[:2]) > 20:
        assert abs(meta[2] / meta[3] - 1) < 0.06


def test_flip_conventions():
    box = np.array([[2, 1, 5, 9]], np.float32)
    np.testing.assert_array_equal(flip_boxes(box, 10, "modern"), [[5, 1, 8, 9]])
    np.testing.assert_array_equal(flip_boxes(box, 10, "legacy"), [[4, 1, 7, 9]])


# ------------------------------------------------------------------ augmentation


def test_expand_places_the_image():
    rgb = picture(10, 20)
    canvas = expand_image(rgb, 2.5, 7, 11, (123.675, 0, 300))
    assert canvas.shape == (25, 50, 3)
    np.testing.assert_array_equal(canvas[7:17, 11:31], rgb)
    np.testing.assert_array_equal(canvas[0, 0], [124, 0, 255])


def test_colour_distortion_repeats_and_varies():
    rgb = picture(20, 30, 5)
    results = [distort_colours(rgb, np.random.default_rng(k)) for k in range(30)]
    again = [distort_colours(rgb, np.random.default_rng(k)) for k in range(30)]
    for one, other in zip(results, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.uint8 and one.shape == rgb.shape
    changes = [np.abs(one.astype(float) - rgb).mean() for one in results]
    assert np.median(changes) > 5 and max(changes) < 130
    assert len({one.tobytes() for one in results}) > 20


def test_colour_distortion_in_strips_is_the_same(monkeypatch):
    rgb = picture(37, 30, 5)
    whole = [distort_colours(rgb, np.random.default_rng(k)) for k in range(12)]
    monkeypatch.setattr("src.images.reading._STRIP", 30 * 8)
    for k, expected in enumerate(whole):
        np.testing.assert_array_equal(distort_colours(rgb, np.random.default_rng(k)), expected)


def test_colour_distortion_draws_a_fixed_number():
    ends = set()
    for k in range(8):
        rng = np.random.default_rng(k)
        distort_colours(picture(4, 4), rng)
        fresh = np.random.default_rng(k)
        fresh.random(4 + 1), fresh.uniform(size=4)
        ends.add(rng.random() == fresh.random())
    assert ends == {True}


def test_normalize_leaves_no_gap():
    """Every value of the canvas is written, whatever the image's size."""
    for height, width in ((64, 96), (1, 1), (64, 5), (3, 96)):
        out = normalize_and_pad(
            np.full((height, width, 3), 128, np.uint8), canvas_format(64, 96), (64, 96)
        )
        assert (out[:, :height, :width] != 0).all()
        assert np.count_nonzero(out) == 3 * height * width
