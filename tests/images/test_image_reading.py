# SPDX-License-Identifier: Apache-2.0
"""Image files that are too large, cut off, damaged, or of kinds that would come out wrong."""

import io
import os
import random
import socket
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from src.base.errors import UserError
from src.images.headers import IMAGE_SUFFIXES, ImageProblem, read_header
from src.images.reading import (
    DEFAULT_MAX_PIXELS,
    decode_image,
    inspect_image,
    narrow_depth,
    probe_image,
    read_bytes,
)
from src.model_utils.config import load_config
from tests.helpers.odd_images import picture

RGB = picture(48, 64, 1)
IMAGE = Image.fromarray(RGB)
RGBA = Image.fromarray(np.dstack([RGB, RGB[..., :1]]))
DEEP = RGB.astype(np.uint16) * 257


def encoded(image, kind, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(ending, array) -> bytes:
    return cv2.imencode(ending, array)[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width, height, content, *, bits=8, colour=2, before=b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(samples, *, bits, sample_format=1, photometric=1, extra=None) -> bytes:
    """An uncompressed TIFF of one strip; `samples` is (H, W, C) of its dtype."""
    height, width, channels = samples.shape
    content = samples.tobytes()
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: channels,
        278: height,
        279: len(content),
        339: sample_format,
    }
    if extra is not None:
        tags[338] = extra
    place = 8 + len(content) + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag in sorted(tags):
        if tag in (258, 339) and channels > 2:
            entries += struct.pack("<HHII", tag, 3, channels, place + len(values))
            values += struct.pack(f"<{channels}H", *[tags[tag]] * channels)
        elif tag in (258, 339):
            pair = [tags[tag]] * channels + [0] * (2 - channels)
            entries += struct.pack("<HHIHH", tag, 3, channels, *pair)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, tags[tag])
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


WHOLE = {
    "jpeg": encoded(IMAGE, "JPEG"),
    "progressive": encoded(IMAGE, "JPEG", progressive=True),
    "grey jpeg": encoded(IMAGE.convert("L"), "JPEG"),
    "png": encoded(IMAGE, "PNG"),
    "deep png": by_opencv(".png", DEEP),
    "animated png": encoded(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(180)]),
    "bmp": encoded(IMAGE, "BMP"),
    "palette bmp": encoded(IMAGE.quantize(16), "BMP"),
    "webp": encoded(IMAGE, "WEBP"),
    "lossless webp": encoded(RGBA, "WEBP", lossless=True),
    "animated webp": encoded(IMAGE, "WEBP", save_all=True, append_images=[IMAGE.rotate(180)]),
    "tiff": encoded(IMAGE, "TIFF"),
    "lzw tiff": encoded(IMAGE, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encoded(IMAGE, "TIFF", compression="jpeg"),
    "fax tiff": encoded(IMAGE.convert("1"), "TIFF", compression="group4"),
    "deep tiff": by_opencv(".tiff", DEEP),
    "jp2": by_opencv(".jp2", RGB),
    "grey jp2": by_opencv(".jp2", RGB[..., 0]),
    "transparent jp2": encoded(RGBA, "JPEG2000"),
    "codestream": encoded(IMAGE, "JPEG2000", no_jp2=True),
    "ppm": encoded(IMAGE, "PPM"),
    "pgm": encoded(IMAGE.convert("L"), "PPM"),
    "pbm": encoded(IMAGE.convert("1"), "PPM"),
    "deep pgm": by_opencv(".pgm", DEEP[..., 0]),
    "plain ppm": b"P3\n# made by hand\n2 1 255\n255 0 0  0 0 255\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_header_says_what_decoding_gives(name):
    header = read_header(WHOLE[name])
    shape = decode_image(WHOLE[name], name).shape
    assert (header.height, header.width) == shape[:2] == probe_image(WHOLE[name], name)
    seen = inspect_image(WHOLE[name], name)
    assert (seen.narrow, seen.zeros) == ("", 0)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("tail", [b"", "zeros"])
def test_what_an_interrupted_copy_leaves_is_refused(name, tail):
    """Without its tail, at whatever byte; with zeros for it where the format can tell."""
    whole = WHOLE[name]
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        kept = whole[: int(len(whole) * share)]
        if tail == "zeros":
            if read_header(whole).raw or "tiff" in name or "webp" in name or name == "plain ppm":
                return
            kept += bytes(len(whole) - len(kept))
        for function in (probe_image, decode_image):
            with pytest.raises(UserError, match="image some.file cannot be decoded"):
                function(kept, "some.file")


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF"])
def test_zeros_that_may_be_black_are_said(kind):
    whole = encoded(Image.fromarray(np.full((100, 100, 3), 90, np.uint8)), kind)
    assert inspect_image(whole, "x").zeros == 0
    cut = bytearray(whole)
    cut[len(cut) - 9000 : len(cut)] = bytes(9000)
    if kind == "TIFF":  # Pillow writes its directory before the samples
        assert read_header(whole).raw
    assert inspect_image(bytes(cut), "x").zeros >= 9000


# ------------------------------------------------------------------ size


def giant_jpeg(width, height, **options) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG", **options))
    frame = data.index(b"\xff\xc2" if options else b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def with_ifd_value(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF in whose first directory a LONG is another one."""
    at = data.index(struct.pack("<H", tag), struct.unpack_from("<I", data, 4)[0] + 2)
    return data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]


BOMBS = {
    "jpeg": giant_jpeg(65_000, 16_000),
    "jpeg with enough bytes": giant_jpeg(65_000, 16_000)[:-2] + bytes(600_000) + b"\xff\xd9",
    "progressive": giant_jpeg(21_000, 10_000, progressive=True)[:-2] + bytes(100_000) + b"\xff\xd9",
    "many scans": giant_jpeg(9_000, 9_000, progressive=True)[:-2]
    + b"\xff\xda\0\0" * 60_000
    + b"\xff\xd9",
    "png": png(65_000, 16_000, zlib.compress(bytes(1000)), bits=1, colour=0),
    "png without data": png(10_000, 10_000, zlib.compress(bytes(1000))),
    "png texts": png(
        4,
        4,
        zlib.compress(bytes(52)),
        before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000))) * 30,
    ),
    "bmp": b"BM" + struct.pack("<IHHIIiiHHI90x", 0, 0, 0, 54, 40, 60_000, -60_000, 1, 8, 1),
    "webp": b"RIFF"
    + struct.pack("<I", 60)
    + b"WEBPVP8X"
    + struct.pack("<II", 10, 0)
    + b"\xff\xff\xff\xff\xff\xff"
    + bytes(60),
    "tiff": with_ifd_value(WHOLE["lzw tiff"], 256, 2_000_000_000),
    "tiff rows": with_ifd_value(WHOLE["lzw tiff"], 257, 4_000_000),
    "jp2": WHOLE["codestream"][:8] + struct.pack(">II", 60_000, 60_000) + WHOLE["codestream"][16:],
    "ppm": b"P6 900000000 900000000 255\n",
    "pbm": b"P4 99999 99999\n" + bytes(100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for function in (probe_image, decode_image):
        with pytest.raises(UserError, match="image bomb ") as caught:
            function(BOMBS[name], "bomb")
        assert "\n" not in str(caught.value)


def test_the_limit_is_a_setting():
    assert load_config([]).max_image_pixels == DEFAULT_MAX_PIXELS
    data = WHOLE["jpeg"]
    assert probe_image(data, "x", 48 * 64) == (48, 64)
    with pytest.raises(UserError, match="64x48 pixels, more than max_image_pixels 3071"):
        decode_image(data, "x", 48 * 64 - 1)
    with pytest.raises(UserError, match="takes 0.0 GB to decode, more than 7 bytes"):
        decode_image(WHOLE["codestream"], "x", 48 * 64)


def test_large_pictures_come_out_like_small_ones(monkeypatch):
    data = [
        encoded(RGBA, "PNG"),
        by_opencv(".png", np.dstack([DEEP, DEEP[..., :1]])),
        WHOLE["jpeg"],
    ]
    expected = [decode_image(one, "x") for one in data]
    monkeypatch.setattr("src.images.reading._STRIP", 64 * 5)
    monkeypatch.setattr("src.images.reading._LARGE", 1)
    for one, before in zip(data, expected, strict=True):
        np.testing.assert_array_equal(decode_image(one, "x"), before)
        assert probe_image(one, "x") == (48, 64)


def test_no_memory_is_no_damage(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", full)
    with pytest.raises(UserError, match="JPEG of 64x48 pixels, for which there is not enough"):
        decode_image(WHOLE["jpeg"], "x")


# ------------------------------------------------------------------ kinds


@pytest.mark.parametrize(
    "data, reason",
    [
        (encoded(IMAGE, "GIF"), "a GIF, which is not read"),
        (encoded(IMAGE, "AVIF"), "an AVIF"),
        (by_opencv(".hdr", RGB.astype(np.float32)), "a Radiance HDR"),
        (by_opencv(".pfm", RGB[..., 0].astype(np.float32)), "a PFM"),
        (by_opencv(".ras", RGB), "a Sun raster"),
        (b"P7\nWIDTH 2\n", "a PAM"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (bytes(5000), "zeros instead of a picture"),
        (b"P5 2 1 15\n\x01\x02", "its largest value is 15"),
        (b"P5 2 1 4095\n\x01\x02\x01\x02", "its largest value is 4095"),
        (tiff(np.zeros((4, 4, 1), np.float32), bits=32, sample_format=3), "32-bit floating-point"),
        (tiff(np.zeros((4, 4, 1), np.int16), bits=16, sample_format=2), "16-bit signed"),
        (tiff(np.zeros((4, 4, 1), np.int8), bits=8, sample_format=2), "8-bit signed"),
        (tiff(np.zeros((4, 4, 1), np.uint32), bits=32), "32-bit samples"),
        (tiff(np.zeros((4, 6, 1), np.uint8), bits=12), "12-bit samples"),
    ],
)
def test_kinds_that_would_come_out_wrong_are_named(data, reason):
    with pytest.raises(UserError, match=reason):
        decode_image(data, "x")
    with pytest.raises(ImageProblem, match=reason):
        read_header(data)


def test_transparency_of_tiff_is_multiplied_once():
    for scale, bits, dtype in ((1, 8, np.uint8), (257, 16, np.uint16)):
        one = (np.full((4, 4, 4), 128) * scale).astype(dtype)
        data = tiff(one, bits=bits, photometric=2, extra=2)
        expected = 128 * 128 / 255 + 127
        assert abs(int(decode_image(data, "x")[0, 0, 0]) - expected) <= 1.5


@pytest.mark.parametrize("highest, bits", [(200, 8), (1023, 10), (4095, 12), (16_383, 14)])
@pytest.mark.parametrize("ending", [".png", ".tiff", ".pgm", ".jp2"])
def test_narrow_values_in_sixteen_bits_are_recognised(highest, bits, ending):
    values = np.linspace(1, highest, 48 * 64).reshape(48, 64).astype(np.uint16)
    data = by_opencv(ending, values)
    seen = inspect_image(data, "x").narrow
    assert f"values up to {values.max()} of 65535, like {bits} bits" in seen
    assert narrow_depth(data) == seen
    assert decode_image(data, "x").max() == values.max() >> 8


def test_what_uses_its_bits_is_not_narrow():
    for data in (WHOLE["deep png"], WHOLE["png"], by_opencv(".png", np.zeros((9, 9), np.uint16))):
        assert narrow_depth(data) == ""


# ------------------------------------------------------------------ files


def test_only_regular_files_of_sensible_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(1 << 40)
    for path, reason in (
        (tmp_path / "fifo.jpg", "no regular file"),
        ("/dev/zero", "no regular file"),
        (tmp_path / "socket.jpg", "No such device"),
        (tmp_path / "folder.jpg", "Is a directory"),
        (tmp_path / "sparse.jpg", "has 1099511627776 bytes, more than 4 for each pixel"),
        ("a\0.jpg", "null byte"),
        ("x" * 5000, "too long"),
    ):
        with pytest.raises(UserError, match=reason):
            read_bytes(path)


def test_endings_are_those_of_kinds_that_are_read(tmp_path):
    kinds = {".jpg": "JPEG", ".tif": "TIFF", ".jp2": "JPEG2000", ".ppm": "PPM", ".webp": "WEBP"}
    for ending, kind in kinds.items():
        assert ending in IMAGE_SUFFIXES and read_header(encoded(IMAGE, kind))


FUZZ = """
import random, resource, sys
from tests.images.test_image_reading import WHOLE, damaged
from src.base.errors import UserError
from src.images.reading import decode_image, probe_image
rng = random.Random(int(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for number in range(1500):
    name = rng.choice(sorted(WHOLE))
    data = damaged(WHOLE[name], rng)
    sizes = set()
    for function in (probe_image, decode_image):
        try:
            result = function(data, "x")
            sizes.add(result if isinstance(result, tuple) else result.shape[:2])
        except UserError as error:
            assert "\\n" not in str(error)
    assert len(sizes) < 2, (name, number, sizes)
# Not `ru_maxrss`, which begins with what the parent had.
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with a part missing, repeated, zeroed, or with other bits, bytes and numbers."""
    mended = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not mended:
            break
        at = rng.randrange(min(len(mended), rng.choice((200, 1 << 30))))
        choice = rng.randrange(6)
        if choice == 0:
            del mended[at:]
        elif choice == 1:
            mended[at] ^= 1 << rng.randrange(8)
        elif choice == 2:
            number = rng.choice((0, 1, 20_000, 1 << 20, 2**31 - 1, 2**32 - 1))
            mended[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
        elif choice == 3:
            mended[at : at + 2] = struct.pack(">H", rng.choice((0, 0x7FFF, 0xFFFF, 14_000)))
        elif choice == 4:
            mended[at:] = bytes(len(mended) - at)
        else:
            mended[at:at] = mended[at : at + rng.randrange(1, 900)] * rng.randrange(1, 9)
    return bytes(mended)


def test_damaged_files_end_in_a_line_or_a_picture(repo_root):
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, "7"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 2000  # MB
