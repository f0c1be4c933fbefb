# SPDX-License-Identifier: Apache-2.0
"""What programs give as a picture: the path of an image file, a PIL image, or an array."""

import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

import numpy as np

from ..base.errors import UserError
from .reading import DEFAULT_MAX_PIXELS, ImageError, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = Union[str, os.PathLike[str], np.ndarray, "Image"]

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def is_picture(given: object) -> bool:
    """Say whether `given` is one picture and not several: an array of four dimensions is several.

    Args:
        given: anything.
    """
    if isinstance(given, np.ndarray):
        return given.ndim != 4
    return isinstance(given, str | os.PathLike) or _is_pil(given)


def check_picture(given: Any, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Check what can be known of a picture without reading its pixels; of a path nothing.

    Args:
        given: the picture.
        name: what it is called in errors.
        max_pixels: the most that it may have.

    Raises:
        UserError: it is none, or too large.
    """
    if isinstance(given, str | os.PathLike):
        return
    if _is_pil(given):
        pixels = given.width * given.height
    else:
        shape, dtype = np.shape(given), getattr(given, "dtype", None)
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise UserError(
                f"{name}: is {dtype} {shape}; give the path of an image, a PIL image, or an "
                "(H, W, 3) uint8 array, RGB"
            )
        pixels = shape[0] * shape[1]
    # An array may be a view that repeats a few bytes; what is made of it is not.
    check_pixels(name, pixels, max_pixels)


def check_pixels(name: str, pixels: int, max_pixels: int) -> None:
    """Refuse a picture with too many pixels.

    Args:
        name: what it is called in errors.
        pixels: how many it has.
        max_pixels: how many it may have.

    Raises:
        UserError: it has more.
    """
    if pixels > max_pixels:
        raise UserError(
            f"{name}: has {pixels} pixels, more than max_image_pixels {max_pixels}; make it "
            "smaller, or set max_image_pixels higher"
        )


def load_picture(given: Picture, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Return a picture's pixels.

    A file is decoded to what a viewer shows (`reading.decode_image`), and so is a PIL image: turned
    as its EXIF data says, transparency on white, 16 bits shown as 8.

    Args:
        given: passed `check_picture`.
        name: what it is called in errors; a file has its own.
        max_pixels: the most that it may have.

    Returns:
        (H, W, 3) uint8 RGB; an array is returned as it is.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(given, np.ndarray):
        return given
    try:
        if isinstance(given, str | os.PathLike):
            return read_image(os.fspath(given), max_pixels)
        return _from_pil(given)
    except ImageError as error:
        raise error.without_remedy() from None
    except (OSError, SyntaxError, ValueError) as error:  # a file that PIL reads only now
        raise UserError(f"{name}: cannot be read ({error})") from None


def _is_pil(given: object) -> TypeGuard["Image"]:
    return any(kind.__module__ == "PIL.Image" for kind in type(given).__mro__)


def _from_pil(image: "Image") -> np.ndarray:
    from PIL import Image, ImageOps  # only now: most programs give something else

    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BITS:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}, whose range is not known; make it RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
