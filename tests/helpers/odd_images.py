# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind that must work, and of every kind that must be refused."""

import os
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

_ORIENTATION = 0x112  # EXIF


def picture(height, width, seed=0):
    """(H, W, 3) uint8 with smooth colours and edges."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.ellipse(
        smooth, (width // 2, height // 3), (width // 4, height // 5), 30, 0, 360, (250, 20, 90), -1
    )
    return smooth


def write_good(folder):
    """Write readable images of many kinds; returns their names."""
    rgb = picture(75, 110)
    image = Image.fromarray(rgb)
    ramp = np.tile(np.linspace(0, 255, 110).astype(np.uint8), (75, 1))
    transparent = Image.fromarray(np.dstack([rgb, ramp]))
    image.save(folder / "colour.jpg")
    image.save(folder / "dots.in.NAME.JPG", subsampling=2, progressive=True)
    image.convert("L").save(folder / "grey.jpeg")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.save(folder / "colour.bmp")
    image.save(folder / "colour.tiff")
    image.convert("L").save(folder / "grey.png")
    image.quantize(32).save(folder / "palette.png", transparency=3)
    cv2.imwrite(str(folder / "deep.png"), rgb.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "deep_alpha.png"), np.dstack([rgb, ramp]).astype(np.uint16) * 257)
    transparent.save(folder / "alpha.png")
    transparent.save(folder / "alpha.webp")
    transparent.save(folder / "alpha.tif")
    Image.fromarray(picture(300, 40)).save(folder / "tall.jpg")
    Image.fromarray(picture(64, 96)).save(folder / "fits.png")
    for orientation in (2, 3, 5, 6, 8):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        image.save(folder / f"turned{orientation}.jpg", exif=exif)
    exif[_ORIENTATION] = 6
    transparent.save(folder / "turned6.png", exif=exif)
    os.symlink(folder / "colour.jpg", folder / "link.jpg")
    return sorted(path.name for path in folder.iterdir())


def write_broken(folder):
    """Write twenty files that are no pictures, or damaged ones; returns their names."""
    before = set(os.listdir(folder))
    whole = folder / "whole"
    whole.mkdir()
    image = Image.fromarray(picture(120, 160))
    for ending in ("jpg", "png", "webp", "tif", "bmp"):
        image.save(whole / f"a.{ending}")
        data = (whole / f"a.{ending}").read_bytes()
        (folder / f"half.{ending}").write_bytes(data[: len(data) // 2])
        (folder / f"start.{ending}").write_bytes(data[:12])
    jpeg = (whole / "a.jpg").read_bytes()
    (folder / "no_end.jpg").write_bytes(jpeg[:-2])
    frame = jpeg.find(b"\xff\xc0") + 5
    (folder / "giant.jpg").write_bytes(jpeg[:frame] + b"\xff" * 4 + jpeg[frame + 4 :])
    (folder / "giant.png").write_bytes(_png_of_size(2**31 - 1))
    (folder / "wide.png").write_bytes(_png_of_size(65536))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture\n")
    (folder / "zeros.bmp").write_bytes(bytes(5000))
    os.symlink(folder / "nowhere.jpg", folder / "nowhere_link.jpg")
    locked = folder / "locked.jpg"
    locked.write_bytes(jpeg)
    locked.chmod(0)
    for path in whole.iterdir():
        path.unlink()
    whole.rmdir()
    return sorted(set(os.listdir(folder)) - before)


def _png_of_size(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
