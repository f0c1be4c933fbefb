# SPDX-License-Identifier: Apache-2.0
"""Boxes drawn on images, one by one or as a sheet of many."""

import colorsys
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..base.errors import UserError
from ..base.files import save_whole
from ..images.reading import DEFAULT_MAX_PIXELS, ImageError, read_image
from .fonts import Lettering, class_labels

# Told apart by colour-blind readers too (Okabe and Ito), without the black that vanishes on photos.
_PALETTE = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00", "#009E73", "#0072B2")
_TRUTH_COLOR = "#FFFFFF"
_INK, _PAPER, _FAINT = "#222222", "#FFFFFF", "#666666"
_SMALLEST_TEXT, _LARGEST_TEXT = 11, 400  # pixels
_WIDEST_LINE = 40  # pixels
# Lines and what they mean, in a sheet's legend.
PREDICTED_AND_TRUE = (("dashed", "true box"), ("solid", "predicted box, class and score"))


@dataclass(frozen=True)
class Boxes:
    """Boxes to draw on one image.

    Attributes:
        xyxy: (N, 4) float corners in the image's own pixels.
        names: N class names.
        scores: N scores in 0..1, or empty for boxes without one (true boxes).
    """

    xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    names: Sequence[str] = ()
    scores: Sequence[float] = ()


def read_picture(path: str | os.PathLike[str], max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Read an image file to draw on, as a viewer shows it.

    Args:
        path: the file.
        max_pixels: larger images are refused.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, cannot be read, is no picture, or has more than `max_pixels`
            pixels.
    """
    try:
        return read_image(str(path), max_pixels)
    except ImageError as error:
        raise error.without_remedy() from None


def class_color(index: int) -> str:
    """A colour ``#RRGGBB`` for the class at `index`; the first seven are chosen by hand.

    Args:
        index: of the class, from 0.
    """
    if index < len(_PALETTE):
        return _PALETTE[index]
    # Steps of the golden ratio spread any number of hues evenly.
    rgb = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.65, 0.95)
    return "#{:02X}{:02X}{:02X}".format(*(round(255 * c) for c in rgb))


def draw_boxes(
    rgb: np.ndarray,
    predicted: Boxes,
    true: Boxes | None = None,
    *,
    colors: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    scale: float = 1.0,
) -> Image.Image:
    """Draw predicted boxes (solid, in the class's colour, named) and true boxes (dashed).

    Args:
        rgb: (H, W, 3) uint8 image.
        predicted: boxes with scores, in the image's pixels.
        true: boxes that are known to be right, or None.
        colors: colour of each class name; others get one by their order of appearance.
        labels: what is drawn for a class name, if not the name itself (`fonts.class_labels`).
        scale: the image is resized by this before lines and text are drawn.

    Returns:
        the picture, (W * scale) x (H * scale) pixels.
    """
    height, width = rgb.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale < 1.0:  # here: Pillow's pictures take four bytes a pixel
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture = picture.resize(size, Image.Resampling.LANCZOS) if size != picture.size else picture
    pen = ImageDraw.Draw(picture)
    line = min(max(2, round(max(size) / 300)), _WIDEST_LINE)
    font = Lettering(min(max(_SMALLEST_TEXT, round(max(size) / 38)), _LARGEST_TEXT))
    colors, labels = dict(colors or {}), labels or {}
    # The surest box last: on top. True boxes over all lines, as thin dashes that leave a predicted
    # line to be seen at the same place; names over everything.
    order = np.argsort(np.asarray(predicted.scores, np.float64), kind="stable")
    tags = []
    for i in order if len(predicted.scores) else range(len(predicted.names)):
        name = predicted.names[i]
        color = colors.setdefault(name, class_color(len(colors)))
        box = _scaled(predicted.xyxy[i], scale, size, line)
        _rectangle(pen, box, color, 2 * line)
        text = labels.get(name, name)
        text = f"{text} {predicted.scores[i]:.2f}" if len(predicted.scores) else text
        tags.append((box, text, color))
    for box in true.xyxy if true is not None else ():
        _dashed_rectangle(pen, _scaled(box, scale, size, line), line)
    for box, text, color in tags:
        _tag(pen, box, text, color, font, size)
    return picture


def draw_contact_sheet(
    pictures: Iterable[tuple[np.ndarray, Boxes, Boxes | None, str]],
    png: str | os.PathLike[str],
    *,
    class_names: Sequence[str],
    title: str = "Validation images",
    lines: Sequence[tuple[str, str]] = PREDICTED_AND_TRUE,
    columns: int = 4,
    tile_width: int = 440,
) -> None:
    """Write one picture of many images with their predicted and true boxes, and a legend.

    Args:
        pictures: for each image its (H, W, 3) uint8 pixels, predicted boxes, true boxes, caption;
            one at a time is held.
        png: the file to write.
        class_names: decides the colours.
        title: the sheet's heading.
        lines: "dashed" or "solid", and what such a line means.
        columns: images in a row.
        tile_width: pixels an image's longer side is scaled to.

    Raises:
        UserError: no image is given.
    """
    colors = {name: class_color(i) for i, name in enumerate(class_names)}
    labels = class_labels(tuple(class_names))
    gap, caption = 12, 24
    tiles: list[tuple[Image.Image, str]] = []
    shown: set[str] = set()
    for rgb, predicted, true, text in pictures:
        # Upright images are kept from making their whole row twice as high.
        scale = min(tile_width / rgb.shape[1], tile_width / rgb.shape[0])
        tile = draw_boxes(rgb, predicted, true, colors=colors, labels=labels, scale=scale)
        tiles.append((tile, text))
        shown.update(predicted.names, true.names if true else ())
    if not tiles:
        raise UserError(f"no image to draw for {png}")
    columns = min(columns, len(tiles))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    sheet_width = gap + columns * (tile_width + gap)
    entries = [(labels[name], colors[name]) for name in class_names if name in shown]
    legend = _legend(lines, entries, sheet_width - 2 * gap, title)
    row_heights = [max(tile.height for tile, _ in row) + caption + gap for row in rows]
    sheet = Image.new("RGB", (sheet_width, legend.height + sum(row_heights) + 2 * gap), _PAPER)
    sheet.paste(legend, (gap, gap))
    pen, font = ImageDraw.Draw(sheet), Lettering(15)
    top = legend.height + 2 * gap
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, (tile, text) in enumerate(row):
            left = gap + column * (tile_width + gap)
            sheet.paste(tile, (left, top))
            font.draw(pen, (left, top + tile.height + 3), text, _FAINT)
        top += row_height
    save_whole(png, lambda path: sheet.save(path, format="PNG"))


def _scaled(box: np.ndarray, scale: float, size: tuple[int, int], line: int) -> list[float]:
    """The (4,) xyxy box in the picture's pixels, cut just where its lines are out of sight.

    Drawing takes as long as its lines are, and a file may hold any number.
    """
    margin = 2 * line + 2
    highest = np.array([*size, *size], np.float64) + margin
    return np.clip(np.asarray(box, np.float64) * scale, -margin, highest).tolist()


def _rectangle(pen: ImageDraw.ImageDraw, box: Sequence[float], color: str, line: int) -> None:
    """An outline of `line` pixels around the box's edge, between two thin dark ones."""
    x0, y0, x1, y1 = box
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    half = line / 2
    pen.rectangle(
        (x0 - half - 1, y0 - half - 1, x1 + half + 1, y1 + half + 1), outline=_INK, width=line + 2
    )
    pen.rectangle((x0 - half, y0 - half, x1 + half, y1 + half), outline=color, width=line)


def _dashed_rectangle(pen: ImageDraw.ImageDraw, box: Sequence[float], line: int) -> None:
    """Dashes, white and dark in turn, so that both light and dark images show them."""
    x0, y0, x1, y1 = box
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], np.float64)
    dash = 3.0 * line
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        length = float(np.abs(end - start).sum())
        for number, offset in enumerate(np.arange(0, length, dash)):
            a, b = offset / length, min(offset + dash, length) / length
            points = [*(start + a * (end - start)), *(start + b * (end - start))]
            pen.line(points, fill=_INK if number % 2 else _TRUTH_COLOR, width=line)


def _tag(
    pen: ImageDraw.ImageDraw,
    box: Sequence[float],
    text: str,
    color: str,
    font: Lettering,
    size: tuple[int, int],
) -> None:
    """Class and score on a patch of the class's colour, above the box or just inside it."""
    left, top, right, bottom = font.box(text)
    width, height = right - left + 6, bottom - top + 5
    x = min(max(box[0], 0), max(0, size[0] - width))
    y = box[1] - height if box[1] >= height else max(box[1], 0)
    pen.rectangle((x, y, x + width, y + height), fill=color)
    font.draw(pen, (x + 3 - left, y + 2 - top), text, _ink_on(color))


def _ink_on(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.3 * red + 0.59 * green + 0.11 * blue > 120 else "#FFFFFF"


def _legend(
    lines: Sequence[tuple[str, str]], classes: Sequence[tuple[str, str]], width: int, title: str
) -> Image.Image:
    """The heading and what lines and colours mean, wrapped into `width` pixels.

    Args:
        lines: what a kind of line means.
        classes: what is drawn for a class, and its colour.
    """
    big, font = Lettering(24), Lettering(16)
    entries = list(lines)
    # A legend of eighty classes would be larger than the images; the tags name them anyway.
    entries += [(color, label) for label, color in classes if len(classes) <= 12]
    strip = Image.new("RGB", (width, 200), _PAPER)
    pen = ImageDraw.Draw(strip)
    big.draw(pen, (0, 0), title, _INK)
    x, y, height = 0, 40, 28
    for mark, text in entries:
        needed = 44 + font.length(text) + 26
        if x and x + needed > width:
            x, y = 0, y + height
        swatch = (x, y + 2, x + 34, y + 20)
        if mark == "dashed":
            pen.rectangle(swatch, fill="#888888")
            _dashed_rectangle(pen, (x + 4, y + 5, x + 30, y + 17), 2)
        elif mark == "solid":
            pen.rectangle(swatch, outline=_INK, width=3)
        else:
            pen.rectangle(swatch, fill=mark)
        font.draw(pen, (x + 44, y), text, _INK)
        x += needed
    return strip.crop((0, 0, width, y + height))
