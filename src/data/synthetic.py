# SPDX-License-Identifier: Apache-2.0
"""A small COCO-layout data set of drawn shapes, generated from a seed.

``python -m src.synthetic --output DIR`` writes ``train2017/``, ``val2017/`` and ``annotations/`` as
the COCO sets have them. Images show filled circles, squares, triangles and stars of several sizes,
rotated, overlapping, on textured backgrounds, among line strokes and speckles that belong to no
class. A box is the extent of what is visible of a shape; one that would hide too much of another is
drawn elsewhere.

The folder appears whole or not at all, and a later call with the same parameters reuses it.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..base.arguments import ArgumentParser
from ..base.errors import UserError, run_entry
from ..base.files import remove_leftovers, replacing_folder
from ..base.foreign_files import read_json
from ..base.program import command

CLASS_NAMES = ("circle", "square", "triangle", "star")
MARKER = "synthetic.json"
_LARGEST_MARKER = 1 << 16  # bytes
# Raise when the same parameters give other pictures than before: older folders are then made anew.
GENERATOR_VERSION = 2

_MIN_VISIBLE = 0.5  # of a shape's area; below that its class cannot be told
_MIN_CONTRAST = 60.0  # between a shape and what it is drawn on, mean over the channels (0..255)
# The middle of each class's range of hues, in OpenCV's 0..180: a network that trains for minutes
# learns colours long before outlines.
_HUES = {"circle": 0, "square": 55, "triangle": 110, "star": 150}
_HUE_SPREAD = 12
_PLACEMENT_TRIES = 30
_JPEG_QUALITY = 92
# Least and most of each parameter; beyond the upper ones memory or file names would run out.
_LIMITS = {
    "train": (1, 1_000_000),
    "val": (1, 1_000_000),
    "width": (32, 4096),
    "height": (32, 4096),
    "min_size": (8, 4096),
    "min_shapes": (1, 1000),
    "max_shapes": (1, 1000),
}


@dataclass(frozen=True)
class SyntheticParameters:
    """What a set is made from; equal parameters give equal files.

    Attributes:
        train, val: number of images of the two splits.
        width, height: of each image, pixels.
        min_size, max_size: range of a shape's diameter, pixels; sizes are log-uniform in it.
        min_shapes, max_shapes: range of the number of shapes in an image.
        seed: any non-negative integer.
    """

    train: int = 320
    val: int = 60
    width: int = 288
    height: int = 192
    min_size: int = 28
    max_size: int = 110
    min_shapes: int = 1
    max_shapes: int = 6
    seed: int = 1

    def check(self) -> None:
        """Raise `UserError` for parameters that no set can be made from."""
        for low, high in (("min_size", "max_size"), ("min_shapes", "max_shapes")):
            if getattr(self, low) > getattr(self, high):
                raise UserError(
                    f"--{low} {getattr(self, low)} is above --{high} {getattr(self, high)}"
                )
        for name, (least, most) in _LIMITS.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(
                    f"--{name} is {getattr(self, name)}, it must be from {least} to {most}"
                )
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}, it must not be negative")
        if self.max_size > min(self.width, self.height):
            raise UserError(
                f"--max_size {self.max_size} does not fit into {self.width}x{self.height} images"
            )


def shape_polygon(name: str, center: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Outline of a shape.

    Args:
        name: one of `CLASS_NAMES`.
        center: (2,) x and y in pixels.
        radius: distance of the outermost points from the centre, pixels.
        angle: rotation, radians.

    Returns:
        (P, 2) float64 corner points in image pixels.
    """
    corners = {"circle": 64, "square": 4, "triangle": 3, "star": 10}[name]
    turns = angle + np.arange(corners) * (2 * np.pi / corners)
    radii = np.full(corners, radius)
    if name == "star":
        radii[1::2] *= 0.42
    return center + radii[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def make_image(
    rng: np.random.Generator, parameters: SyntheticParameters
) -> tuple[np.ndarray, list[tuple[int, list[float], float]]]:
    """Draw one image.

    Args:
        rng: source of everything random in it.
        parameters: sizes and counts.

    Returns:
        image: (height, width, 3) uint8 RGB.
        shapes: one (class index, [x, y, w, h] in pixels, visible area in pixels) for each shape.
    """
    image = _background(rng, parameters.height, parameters.width)
    _draw_distractors(rng, image)
    owner = np.full(image.shape[:2], -1, np.int32)
    classes: list[int] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(parameters.min_shapes, parameters.max_shapes + 1))):
        for _ in range(_PLACEMENT_TRIES):
            label = int(rng.integers(len(CLASS_NAMES)))
            mask = _random_mask(rng, CLASS_NAMES[label], parameters)
            if _hides_too_much(owner, mask, areas):
                continue
            _paint(rng, image, mask, CLASS_NAMES[label])
            owner[mask > 127] = len(classes)
            classes.append(label)
            areas.append(int(np.count_nonzero(mask > 127)))
            break
    # Sensor-like noise over everything, so that flat areas are not the shapes' mark.
    noise = np.float32(rng.uniform(1.0, 6.0)) * rng.standard_normal(image.shape, np.float32)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image, [(label, *_visible_extent(owner == i)) for i, label in enumerate(classes)]


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 in 0..255: nearly grey, coarse and fine blotches and stripes."""
    base = rng.uniform(60, 195) + rng.uniform(-15, 15, 3)
    image = np.broadcast_to(base.astype(np.float32), (height, width, 3)).copy()
    for cells, strength in ((3, 30.0), (8, 20.0), (24, 12.0)):
        grid = rng.uniform(-1, 1, (max(2, cells * height // width), cells)).astype(np.float32)
        blotches = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        image += strength * blotches[..., None]
    if rng.random() < 0.5:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
        image += rng.uniform(4, 16) * wave[..., None]
    return np.clip(image, 0, 255)


def _draw_distractors(rng: np.random.Generator, image: np.ndarray) -> None:
    """Line strokes and small speckles of no class, drawn into `image` in place."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 5))):
        start, end = rng.integers(0, (width, height), (2, 2)).tolist()
        color = _greyish(rng)
        cv2.line(image, start, end, color, int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 12))):
        center = rng.integers(0, (width, height)).tolist()
        color = _greyish(rng)
        cv2.circle(image, center, int(rng.integers(1, 4)), color, -1, cv2.LINE_AA)


def _greyish(rng: np.random.Generator) -> list[float]:
    return np.clip(rng.uniform(20, 235) + rng.uniform(-20, 20, 3), 0, 255).tolist()


def _class_color(rng: np.random.Generator, name: str) -> np.ndarray:
    """(3,) float64 RGB: a strong colour of the class's range of hues."""
    hue = (_HUES[name] + rng.uniform(-_HUE_SPREAD, _HUE_SPREAD)) % 180
    hsv = np.array([[[hue, rng.uniform(160, 255), rng.uniform(150, 250)]]])
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def _random_mask(
    rng: np.random.Generator, name: str, parameters: SyntheticParameters
) -> np.ndarray:
    """(height, width) uint8 anti-aliased coverage (255 inside) of a randomly placed shape."""
    size = np.exp(rng.uniform(np.log(parameters.min_size), np.log(parameters.max_size)))
    radius = size / 2
    # A fifth of the shape may leave the image.
    inside = 0.6 * radius
    center = rng.uniform((inside, inside), (parameters.width - inside, parameters.height - inside))
    points = shape_polygon(name, center, radius, rng.uniform(0, 2 * np.pi))
    mask = np.zeros((parameters.height, parameters.width), np.uint8)
    shift = 4
    fixed = np.round(points * (1 << shift)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_AA, shift)
    return mask


def _hides_too_much(owner: np.ndarray, mask: np.ndarray, areas: list[int]) -> bool:
    """Whether drawing `mask` leaves less than `_MIN_VISIBLE` of an earlier shape to be seen."""
    inside = mask > 127
    if not inside.any():
        return True
    kept = np.bincount(owner[(owner >= 0) & ~inside], minlength=len(areas))
    return any(seen < _MIN_VISIBLE * area for seen, area in zip(kept, areas, strict=True))


def _paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, name: str) -> None:
    """Blend a shape into `image` in place: unlike its surroundings, shaded, maybe outlined."""
    under = image[mask > 127].mean(axis=0)
    color = _class_color(rng, name)
    for _ in range(_PLACEMENT_TRIES):
        if np.abs(color - under).mean() >= _MIN_CONTRAST:
            break
        color = _class_color(rng, name)
    height, width = mask.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    slope = rng.uniform(-0.25, 0.25, 2)
    shade = slope[0] * (x - width / 2) + slope[1] * (y - height / 2)
    fill = np.clip(color + shade[..., None], 0, 255).astype(np.float32)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    image[:] = image * (1 - alpha) + fill * alpha
    if rng.random() < 0.3:
        outlines, _ = cv2.findContours(
            (mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(image, outlines, -1, (color * 0.45).tolist(), 1, cv2.LINE_AA)


def _visible_extent(visible: np.ndarray) -> tuple[list[float], float]:
    """[x, y, w, h] in pixels around the true pixels of `visible` (H, W), and their number."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
    return [float(v) for v in box], float(np.count_nonzero(visible))


def _write_split(folder: Path, split: str, parameters: SyntheticParameters) -> None:
    """Write the images and the annotation file of ``train2017`` or ``val2017`` below `folder`."""
    is_train = split == "train2017"
    count = parameters.train if is_train else parameters.val
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        # One stream an image: its content does not depend on how many are made.
        rng = np.random.default_rng([parameters.seed, int(is_train), index])
        image, shapes = make_image(rng, parameters)
        file_name = f"{index:06d}.jpg"
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        if not cv2.imwrite(str(folder / split / file_name), image[..., ::-1], options):
            raise UserError(f"cannot write {folder / split / file_name}: is the disk full?")
        images.append(
            {
                "id": index + 1,
                "file_name": file_name,
                "width": parameters.width,
                "height": parameters.height,
            }
        )
        for label, box, area in shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
    categories = [
        {"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASS_NAMES)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content), encoding="utf-8")


def _is_complete(folder: Path, parameters: SyntheticParameters) -> bool:
    """Whether `folder` holds a whole set made from these parameters by this generator."""
    try:
        marker = read_json(folder / MARKER, _LARGEST_MARKER)
    except (OSError, ValueError):
        return False
    if marker != _marker(parameters):
        return False
    return all(
        (folder / "annotations" / f"instances_{split}.json").is_file()
        and len(list((folder / split).glob("*.jpg"))) == count
        for split, count in (("train2017", parameters.train), ("val2017", parameters.val))
    )


def _marker(parameters: SyntheticParameters) -> dict[str, int]:
    return {"generator_version": GENERATOR_VERSION, **asdict(parameters)}


def generate(output: str | os.PathLike[str], parameters: SyntheticParameters) -> bool:
    """Make the set, or find it made already.

    Args:
        output: the set's folder. One that holds another synthetic set is replaced; a folder with
            anything else in it is left alone.
        parameters: what to make.

    Returns:
        True when the set was written, False when `output` held it already.

    Raises:
        UserError: parameters that make no sense, a folder with other content, no right to write.
    """
    parameters.check()
    try:
        return _generate(Path(output).absolute(), parameters)
    except OSError as error:
        raise UserError(
            f"--output {output}: the set cannot be written there: {error.strerror or error}"
        ) from error


def _generate(output: Path, parameters: SyntheticParameters) -> bool:
    """`generate` for an absolute path and checked parameters; passes an OSError on."""
    if _is_complete(output, parameters):
        return False
    if (
        output.exists()
        and not (output / MARKER).is_file()
        and (not output.is_dir() or any(output.iterdir()))
    ):
        raise UserError(
            f"--output {output} holds something other than a synthetic set: choose another folder"
        )
    remove_leftovers(output.parent)
    with replacing_folder(output, sync=False) as whole:
        (whole / "annotations").mkdir()
        for split in ("train2017", "val2017"):
            _write_split(whole, split, parameters)
        (whole / MARKER).write_text(json.dumps(_marker(parameters)), encoding="utf-8")
    return True


def main(argv: Sequence[str]) -> int:
    """Run the command line: ``--output DIR`` and an option for each field of `SyntheticParameters`.

    Args:
        argv: the arguments after the program's name.

    Returns:
        The exit code.
    """
    parser = ArgumentParser(
        prog=command("synthetic"),
        description="Make a COCO-layout data set of drawn shapes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", required=True, help="the data set's folder (COCO_ROOT)")
    for name, default in asdict(SyntheticParameters()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=name.replace("_", " "))
    options = vars(parser.parse_args(argv))
    output = options.pop("output")
    parameters = SyntheticParameters(**options)
    made = generate(output, parameters)
    print(
        f"{'made' if made else 'reusing'} {output}: {parameters.train} training and "
        f"{parameters.val} validation images, classes {', '.join(CLASS_NAMES)}"
    )
    return 0


if __name__ == "__main__":
    run_entry(main)
