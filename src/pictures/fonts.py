# SPDX-License-Identifier: Apache-2.0
"""Texts on pictures: a font for every letter, whatever the alphabet, or a word for it.

DejaVu Sans comes with matplotlib and knows most alphabets; what it lacks (Chinese, Japanese,
Korean, Devanagari, most emoji) is looked for among the system's fonts.
"""

import functools
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..base.plots import import_matplotlib

_LONGEST_TEXT = 160  # letters; more would not fit on a picture
_LONGEST_NAME = 80
_JOINERS = "\u200c\u200d"  # they shape the letters beside them
# First those that have a whole script, in the plain style.
_PREFERRED = ("notosans", "sourcehan", "droidsansfallback", "wqy", "unifont", "sans")
_STYLED = ("bold", "italic", "oblique", "black", "thin", "light", "mono", "condensed", "serif")


def printable(text: str, longest: int = _LONGEST_NAME) -> str:
    """A text as it can be drawn: one line of printable letters, not too long.

    Args:
        text: any.
        longest: most letters.
    """
    cut = text if len(text) <= longest else text[: longest - 3] + "..."
    return "".join(x if x.isprintable() or x in _JOINERS else "?" for x in cut)


@functools.cache
def class_labels(names: tuple[str, ...]) -> dict[str, str]:
    """Class name -> what is drawn for it: the name, or its number where no font has its letters.

    The numbers and what they stand for are said on the standard output, once.

    Args:
        names: of all classes without the background, in label order.
    """
    labels, replaced = {}, []
    fonts = _fonts_of("".join(map(printable, names)))
    for number, name in enumerate(names, start=1):
        labels[name] = shown = printable(name)
        missing = [x for x in shown if not _follows(x) and fonts[x] is None]
        if missing:
            points = " ".join(f"U+{ord(letter):04X}" for letter in missing[:3])
            labels[name] = f"class {number} ({points})"
            replaced.append(f"{labels[name]} is {shown}")
    if replaced:
        more = f" and {len(replaced) - 5} more" if len(replaced) > 5 else ""
        print(
            f"note: no font on this machine has the letters of some class names, numbers are drawn "
            f"for them: {', '.join(replaced[:5])}{more}; install a font that has them, such as "
            "Noto Sans CJK"
        )
    return labels


class Lettering:
    """Draws texts of one size; letters that no font has become question marks.

    Args:
        size: of the letters, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def box(self, text: str) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a text's ink that is drawn at (0, 0), pixels.

        Args:
            text: any; what is too long for a picture is cut.
        """
        pen = ImageDraw.Draw(Image.new("1", (1, 1)))
        left, top, right, bottom = 0.0, float(self.size), 0.0, 0.0
        for start, run, font in self._placed(pen, text):
            ink = pen.textbbox((start, 0), run, font=font, anchor="ls")
            right, bottom = max(right, ink[2]), max(bottom, ink[3])
            left, top = min(left, ink[0]), min(top, ink[1])
        ascent = self._ascent()
        return int(left), int(top + ascent), int(right + 1), int(bottom + ascent)

    def length(self, text: str) -> int:
        """How far a text reaches to the right, pixels.

        Args:
            text: as in `box`.
        """
        return self.box(text)[2]

    def draw(
        self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color: str
    ) -> None:
        """Draw a text, all of its letters on one baseline.

        Args:
            pen: of the picture to draw on.
            place: x and y of the text's top left corner, pixels.
            text: as in `box`.
            color: ``#RRGGBB``.
        """
        for start, run, font in self._placed(pen, text):
            at = (place[0] + start, place[1] + self._ascent())
            pen.text(at, run, fill=color, font=font, anchor="ls")

    def _placed(
        self, pen: ImageDraw.ImageDraw, text: str
    ) -> list[tuple[float, str, ImageFont.FreeTypeFont]]:
        """Parts of a text with one font each, and where they start."""
        start, parts = 0.0, []
        for run, path in _runs(printable(text, _LONGEST_TEXT)):
            font = _open(path, self.size)
            parts.append((start, run, font))
            start += pen.textlength(run, font=font)
        return parts

    def _ascent(self) -> int:
        return _open(_default_font(), self.size).getmetrics()[0]


def _runs(text: str) -> list[tuple[str, str]]:
    """Parts of a text with the file of a font that has the part's letters."""
    fonts = _fonts_of(text)
    chosen: list[tuple[str, str]] = []
    path = _default_font()
    for letter in text:
        if not _follows(letter):  # spaces and marks stay with the letter before
            path = fonts[letter] or _default_font()
        chosen.append((letter if _follows(letter) or fonts[letter] else "?", path))
    groups = itertools.groupby(chosen, key=lambda pair: pair[1])
    return [("".join(letter for letter, _ in group), path) for path, group in groups]


def _follows(letter: str) -> bool:
    """Whether a letter shapes or marks another one, or is a space: it needs no font of its own."""
    return letter in _JOINERS or unicodedata.category(letter) in ("Cf", "Mn", "Zs")


def _fonts_of(letters: str) -> dict[str, str | None]:
    """Letter -> file of a font that can draw it, the default one first; None where no font can."""
    known = _known_letters()
    left = {letter for letter in letters if letter not in known and not _follows(letter)}
    for path in _all_fonts():
        if not left:
            break
        found = _drawable(path, left)
        known.update(dict.fromkeys(found, path))
        left -= found
    known.update(dict.fromkeys(left))
    return known


@functools.cache
def _known_letters() -> dict[str, str | None]:
    return {}


def _drawable(path: str, letters: set[str]) -> set[str]:
    """The letters that a font has and leaves ink for (those in colour may not)."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(path)
        has = {letter for letter in letters if face.get_char_index(ord(letter))}
        return {x for x in has if _open(path, 16).getmask(x).getbbox() is not None}
    except (OSError, RuntimeError, ValueError):  # a damaged file, a font that cannot be scaled
        return set()


def _all_fonts() -> Iterator[str]:
    yield _default_font()
    yield from _system_fonts()


@functools.lru_cache(maxsize=64)
def _open(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.cache
def _default_font() -> str:
    return str(Path(import_matplotlib().get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Font files of the system, those of whole scripts in the plain style first."""
    import_matplotlib()
    from matplotlib import font_manager

    return tuple(sorted(font_manager.findSystemFonts(), key=_rank))


def _rank(path: str) -> tuple[int, int, str]:
    name = os.path.basename(path).lower().replace("-", "").replace(" ", "")
    first = next((i for i, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))
    return sum(part in name for part in _STYLED), first, path
