# SPDX-License-Identifier: Apache-2.0
"""What an image file says of itself, read without decoding: kind, size, and whether it is whole.

Only the kinds listed here are decoded at all. Decoders believe what a header says: a few hundred
bytes can ask for gigabytes, and some decoders fill what is missing with grey or black.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .tiff_header import read_tiff

# Names of files that can be decoded.
_JPEGS, _PNMS = (".jpg", ".jpeg", ".jpe", ".jfif"), (".ppm", ".pgm", ".pbm")
IMAGE_SUFFIXES = (*_JPEGS, ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", *_PNMS)

CUT_OFF = "it ends before its picture does"
_MOST_SEGMENTS = 10_000  # of a JPEG, before its data
_MOST_CHUNKS = 1_000  # of a PNG, besides its data
_MOST_TEXTS = 16  # compressed ones of a PNG: each may grow to 8 MB
# What the coders can do at most: a JPEG block of 8x8 takes a bit, 4x4 of them may share one in a
# file with an odd sampling; deflate writes 1032 bytes for one.
_JPEG_PIXELS_A_BYTE = 64 * 8 * 4
_DEFLATE_RATIO = 1032
_CHUNK_FRAME = 12  # bytes of a PNG chunk besides its content
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


class ImageProblem(ValueError):
    """An image file that cannot be used; the text says why, as the rest of a sentence."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of its picture.

    Attributes:
        kind: "JPEG", "PNG", "BMP", "WebP", "TIFF", "JPEG 2000" or "PNM".
        height, width: pixels as stored, before EXIF turns them.
        memory: bytes a pixel that decoding takes at most: the result, which OpenCV copies once, or
            the result and what a decoder needs besides.
        passes: how many times a decoder goes over the picture.
        bits: of a sample.
        transparent: it may have an alpha channel.
        raw: samples lie in the file as they are: zeros in it may be black, or missing.
        premultiplied: colours come multiplied by alpha already.
        animated: a PNG with more pictures than the first.
        stream: start and end of a JPEG 2000 codestream.
    """

    kind: str
    height: int
    width: int
    memory: float = 6.0
    passes: int = 1
    bits: int = 8
    transparent: bool = False
    raw: bool = False
    premultiplied: bool = False
    animated: bool = False
    stream: tuple[int, int] = (0, 0)

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


def read_header(data: bytes) -> ImageHeader:
    """Read an image file's header and check that the file holds all that it promises.

    Args:
        data: the whole file.

    Raises:
        ImageProblem: it is no picture of a known kind, damaged, or cut off.
    """
    if not data:
        raise ImageProblem("the file is empty")
    read = next((read for start, read in _READERS if data.startswith(start)), None)
    if read is None:
        raise ImageProblem(_stranger(data))
    try:
        header = read(data)
    except ImageProblem:
        raise
    except (struct.error, IndexError, ValueError):  # ValueError: too little to take apart
        raise ImageProblem(CUT_OFF) from None
    if header.height < 1 or header.width < 1:
        raise ImageProblem(f"its {header.kind} header says {header.width}x{header.height} pixels")
    return header


def _stranger(data: bytes) -> str:
    for start, name in _OTHER_KINDS:
        if data[:64].lstrip().startswith(start) or data[4:32].startswith(start):
            return f"it is {name}, which is not read: save it as PNG or JPEG"
    if not data[:4096].strip(b"\0"):
        return "it holds zeros instead of a picture"
    return "it is no picture of a known kind"


# --------------------------------------------------------------------------- JPEG


def _jpeg(data: bytes) -> ImageHeader:
    position, header, components = 2, None, 0
    for _ in range(_MOST_SEGMENTS):
        marker = data[position + 1] if data[position] == 0xFF else None
        if marker is None or marker == 0xFF:  # what decoders skip
            position = data.find(b"\xff", position + 1)
            if position < 0:
                raise ImageProblem(CUT_OFF)
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without content
            position += 2
            continue
        if marker in (0x00, 0xD9):
            raise ImageProblem("it is a JPEG without a picture")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and header is None:
            header, components = _jpeg_frame(data, position, marker), data[position + 9]
        if marker == 0xDA:
            break
        position += 2 + length
    else:
        raise ImageProblem(f"it has more than {_MOST_SEGMENTS} segments before its data")
    if header is None:
        raise ImageProblem("it is a JPEG without a size")
    # Inside the data, no 0xFF comes before such a byte: the end marker is really one.
    if data.rfind(b"\xff\xd9", position) < 0 or header.pixels > _JPEG_PIXELS_A_BYTE * len(data):
        raise ImageProblem(CUT_OFF)
    if header.passes == 1 and data[position + 4] >= components:
        return replace(header, memory=6.0)
    # All coefficients are kept until the last scan.
    scans = data.count(b"\xff\xda", position)
    return replace(header, memory=max(6.0, 3.0 + 2.0 * header.memory), passes=scans)


def _jpeg_frame(data: bytes, position: int, marker: int) -> ImageHeader:
    """The frame's header; `memory` is the number of samples a pixel."""
    bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
    if marker > 0xC2 or bits != 8 or components not in (1, 3, 4):
        raise ImageProblem(
            f"it is a JPEG of an unusual kind (process {marker - 0xC0}, {bits} bits, {components} "
            "components), which is not read: save it anew"
        )
    sampling = [data[position + at] for at in range(11, 11 + 3 * components, 3)]
    sides = [(factor >> 4, factor & 15) for factor in sampling]
    largest = max(across for across, _ in sides) * max(down for _, down in sides)
    samples = sum(across * down for across, down in sides) / max(1, largest)
    return ImageHeader("JPEG", height, width, samples, passes=2 if marker == 0xC2 else 1)


# --------------------------------------------------------------------------- PNG


def _png(data: bytes) -> ImageHeader:
    length, kind, width, height, bits, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if kind != b"IHDR" or length != 13 or colour not in _PNG_CHANNELS or bits > 16:
        raise ImageProblem("its PNG header is damaged")
    content, others, texts = 0, 0, 0
    transparent, animated = bool(colour & 4), False
    for kind, start, end in _png_chunks(data):
        if kind == b"IDAT":
            content += end - start - _CHUNK_FRAME
        if kind in _ANIMATION or kind == b"IDAT":
            animated |= kind != b"IDAT"
            continue
        transparent |= kind == b"tRNS"
        others += 1
        texts += kind in (b"zTXt", b"iTXt")
        if others > _MOST_CHUNKS or texts > _MOST_TEXTS:
            raise ImageProblem(f"it has {others} chunks besides its picture: save it anew")
    row = 1 + (width * _PNG_CHANNELS[colour] * bits + 7) // 8
    if row * height > _DEFLATE_RATIO * content:
        raise ImageProblem(CUT_OFF)
    memory = 3.0 + bits if transparent else 6.0  # RGBA, copied once
    return ImageHeader(
        "PNG", height, width, memory, bits=bits, transparent=transparent, animated=animated
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk of a PNG.

    Raises:
        ImageProblem: the file ends before the last one.
    """
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + _CHUNK_FRAME + length
        if end > len(data):
            raise ImageProblem(CUT_OFF)
        yield kind, position, end
        position = end


def for_decoder(data: bytes, header: ImageHeader) -> bytes:
    """The file without what makes decoders crash, and is not needed for the picture.

    OpenCV 4.11 reads animated PNG, and dies of some that are damaged; OpenJPEG 2.5.0 died where
    the boxes around a codestream contradicted it.

    Args:
        data: the whole file.
        header: what `read_header` says of it.
    """
    if header.animated:
        kept = (data[start:end] for kind, start, end in _png_chunks(data) if kind not in _ANIMATION)
        return data[:8] + b"".join(kept)
    if header.kind == "JPEG 2000":
        return data[slice(*header.stream)]
    return data


# --------------------------------------------------------------------------- the others


def _bmp(data: bytes) -> ImageHeader:
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if width < 1 or not height or bits not in (1, 4, 8, 16, 24, 32) or header > 1024:
        raise ImageProblem("its BMP header is damaged")
    height = abs(height)
    packed = compression in (1, 2)
    if not packed and start + (width * bits + 31) // 32 * 4 * height > len(data):
        raise ImageProblem(CUT_OFF)
    return ImageHeader("BMP", height, width, raw=not packed)


def _webp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP":
        raise ImageProblem("it is no picture of a known kind")
    if size + 8 > len(data):
        raise ImageProblem(CUT_OFF)
    kind, flags = data[12:16], data[20]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        # An animation keeps two canvases with alpha.
        memory = 19.0 if flags & 2 else 11.0
        return ImageHeader("WebP", height, width, memory, transparent=bool(flags & 0x12))
    if kind == b"VP8L":
        (size,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (size & 0x3FFF), 1 + (size >> 14 & 0x3FFF)
        return ImageHeader("WebP", height, width, 11.0, transparent=True)
    if kind != b"VP8 ":
        raise ImageProblem("its WebP header is damaged")
    width, height = struct.unpack_from("<HH", data, 26)
    return ImageHeader("WebP", height & 0x3FFF, width & 0x3FFF, 7.0)


def _jpeg_2000(data: bytes) -> ImageHeader:
    start = 0 if data.startswith(CODESTREAM) else _jp2_codestream(data)
    end = data.rfind(b"\xff\xd9", start) + 2
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    tile_width, tile_height = struct.unpack_from(">2I", data, start + 24)
    (components,) = struct.unpack_from(">H", data, start + 40)
    width, height = right - left, bottom - top
    if components not in (1, 3, 4) or not tile_width or not tile_height or width < 1:
        raise ImageProblem("its JPEG 2000 header is damaged, or of an unusual kind")
    samples = [data[start + at : start + at + 3] for at in range(42, 42 + 3 * components, 3)]
    tiles = -(-right // tile_width) * -(-bottom // tile_height)
    usual = all(7 <= depth < 16 and across == down == 1 for depth, across, down in samples)
    if not usual or len({depth for depth, _, _ in samples}) != 1 or tiles > 65_535:
        raise ImageProblem(
            "it is a JPEG 2000 file of an unusual kind, which is not read: save it with 8 or 16 "
            "bits a channel"
        )
    _check_coding(data, start + 42 + 3 * components)
    if end < start + 2:
        raise ImageProblem(CUT_OFF)
    # 32 bits a sample for the tile and again for the picture; blocks and packets besides.
    memory = 6.0 + 10.0 * components
    return ImageHeader(
        "JPEG 2000",
        height,
        width,
        memory,
        bits=samples[0][0] + 1,
        transparent=components == 4,
        stream=(start, end),
    )


def _jp2_codestream(data: bytes) -> int:
    """Where the codestream of a JP2 file starts; refuses boxes that change what samples mean."""
    start = data.find(CODESTREAM, 0, 1 << 20)
    if start < 0:
        raise ImageProblem("it is a JPEG 2000 file without a picture")
    colours = data.find(b"colr\x01", 0, start)
    other = colours >= 0 and data[colours + 7 : colours + 11] not in (b"\0\0\0\x10", b"\0\0\0\x11")
    if other or data.find(b"pclr", 0, start) >= 0:
        raise ImageProblem("its colours are not RGB or grey: save it anew")
    return start


def _check_coding(data: bytes, position: int) -> None:
    """Refuse a coding style whose blocks or precincts are so small that they fill the memory."""
    while data[position + 1] != 0x90:  # the first tile
        marker, length = struct.unpack_from(">HH", data, position)
        if marker < 0xFF00 or length < 2:
            raise ImageProblem("its JPEG 2000 header is damaged")
        if marker == 0xFF52:
            style, levels, block_width, block_height = struct.unpack_from(
                ">B4xBBB", data, position + 4
            )
            sizes = data[position + 14 : position + 15 + levels] if style & 1 else b""
            small = any(min(size & 15, size >> 4) < 4 for size in sizes[1:])
            if small or min(block_width, block_height) < 2 or levels > 32:
                raise ImageProblem("its JPEG 2000 blocks are too small to be read: save it anew")
        position += 2 + length


def _pnm(data: bytes) -> ImageHeader:
    plain, bitmap = data[1] in b"123", data[1] in b"14"
    found = (_BITMAP_HEADER if bitmap else _MAP_HEADER).match(data, 0, 1 << 16)
    if not found:
        raise ImageProblem("it is no picture of a known kind")
    width, height = int(found[1]), int(found[2])
    highest = 1 if bitmap else int(found[3])
    if highest not in ((1,) if bitmap else (255,) if plain else (255, 65_535)):
        raise ImageProblem(
            f"its largest value is {highest}: stretch it to 255, or its pixels would be nearly "
            "black"
        )
    samples = width * height * (3 if data[1] in b"36" else 1)
    if bitmap and not plain:
        needed = (width + 7) // 8 * height
    else:
        needed = samples * (2 if highest > 255 else 1)
    if found.end() + needed > len(data):
        raise ImageProblem(CUT_OFF)
    return ImageHeader("PNM", height, width, bits=16 if highest > 255 else 8, raw=not plain)


def _tiff(data: bytes) -> ImageHeader:
    try:
        return ImageHeader("TIFF", **read_tiff(data))
    except ValueError as error:
        raise ImageProblem(str(error)) from None


_JP2_START = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"
_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})"
_BITMAP_HEADER = re.compile(rb"P[14]" + 2 * _NUMBER + rb"\s")
_MAP_HEADER = re.compile(rb"P[2356]" + 3 * _NUMBER + rb"\s")
_READERS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], ImageHeader]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    ((_JP2_START, CODESTREAM), _jpeg_2000),
    (tuple(b"P%d" % digit for digit in range(1, 7)), _pnm),
)
_OTHER_KINDS = (
    (b"GIF8", "a GIF"),
    (b"ftypavif", "an AVIF"),
    (b"ftypavis", "an AVIF"),
    (b"ftyphei", "a HEIF picture"),
    (b"ftypmif1", "a HEIF picture"),
    (b"#?R", "a Radiance HDR"),
    (b"v/1\x01", "an OpenEXR"),
    (b"P7", "a PAM"),
    (b"PF", "a PFM"),
    (b"Pf", "a PFM"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"\x59\xa6\x6a\x95", "a Sun raster"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"JXL ", "a JPEG XL"),
    (b"<svg", "an SVG"),
    (b"<?xml", "XML"),
    (b"<!", "a web page"),
    (b"<html", "a web page"),
    (b"<HTML", "a web page"),
    (b"{", "text"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file)"),
)
