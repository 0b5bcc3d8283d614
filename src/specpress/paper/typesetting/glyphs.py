"""Characters that the paper's own fonts lack: drawn from the outlines of a font on this machine that has them.

Matplotlib's DejaVu Sans has the alphabets of Europe and of the Near East, and symbols; others, such as Unifont, which
has all of Unicode's first plane, are used where the system has them. A character is drawn by itself: letters that join
(Arabic) or combine (Devanagari) stand one beside the other.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby

_EM = 100  # units of an outline
_MOVE, _LINE, _QUADRATIC, _CUBIC, _CLOSE = 1, 2, 3, 4, 79  # codes of a path (matplotlib.path)


def is_in_papers_fonts(char: str) -> bool:
    """Whether LaTeX sets a character as it is: ASCII and accented Latin letters, in the encoding T1."""
    return " " <= char <= "~" or ("\u00c0" <= char <= "\u017f" and char not in "×÷ŉſ")


def unknown_characters(text: str) -> list[str]:
    """The characters that no font on this machine has, as a message names them."""
    missing = sorted(char for char in set(text) if not is_in_papers_fonts(char) and font_of(char) is None)
    return [f"{char} (U+{ord(char):04X} {unicodedata.name(char, 'no name')})" for char in missing]


def families_for(text: str) -> list[str]:
    """The families of the fonts that characters beyond ASCII come from, for figures, that of most others first."""
    from matplotlib.ft2font import FT2Font

    fonts = (font_of(char) for char in dict.fromkeys(text) if char > "~")
    return list(dict.fromkeys(FT2Font(font).family_name for font in fonts if font))


def drawn(text: str) -> str:
    r"""LaTeX that draws characters by the macro \\drawn of main.tex, and keeps the text to be searched and copied.

    Where no font has a character its code is printed. A line may be broken beside the characters of East Asia.
    """
    parts = []
    for alone, run in groupby(text, lambda char: char if font_of(char) is None or _is_wide(char) else ""):
        run = "".join(run)
        if alone and font_of(alone) is None:
            parts += [f"[U+{ord(char):04X}]" for char in run]
        elif alone:
            parts += [f"\\allowbreak{{}}{_drawn_run(char)}" for char in run]
        else:
            parts.append(_drawn_run(run))
    return "".join(parts)


def _drawn_run(run: str) -> str:
    """A run of characters as one box; from the right where they are read so."""
    from_the_right = unicodedata.bidirectional(run[0]) in ("R", "AL")
    width, outlines = 0.0, []
    for char in reversed(run) if from_the_right else run:
        advance, outline = _outline(font_of(char), char)
        outlines.append(f"q 1 0 0 1 {_EM * width:.4g} 0 cm {outline} f Q")
        width += advance
    return f"\\drawn{{{width:.4g}}}{{{run.encode('utf-16-be').hex().upper()}}}{{{' '.join(outlines)}}}"


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in ("W", "F")


@cache
def font_of(char: str) -> str | None:
    """The file of a font that has the character: DejaVu Sans, else the first by its name; None if there is none."""
    return next((file for file, has in _fonts() if ord(char) in has), None)


@cache
def _fonts() -> list[tuple[str, frozenset[int]]]:
    """The fonts of this machine in order, each with the characters that it has."""
    from matplotlib.font_manager import fontManager, get_font

    upright = [font for font in fontManager.ttflist if font.style == "normal" and str(font.weight) in ("400", "normal")]
    upright = [font for font in upright if "Last Resort" not in font.name]  # a box for everything
    ordered = sorted(upright, key=lambda font: (font.name != "DejaVu Sans", font.name, font.fname))
    return [(font.fname, frozenset(get_font(font.fname).get_charmap())) for font in ordered]


@cache
def _outline(file: str, char: str) -> tuple[float, str]:
    """The width of a character in em, and its outline as operators of PDF, in hundredths of an em."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(file)
    font.set_size(_EM, 72)
    glyph = font.load_char(ord(char), flags=2 | 8)  # neither hinted nor a bitmap
    points, codes = font.get_path()
    return glyph.linearHoriAdvance / 65536 / _EM, " ".join(_operators(points.tolist(), codes.tolist()))


def _operators(points: list, codes: list[int]) -> Iterable[str]:
    """A path of matplotlib as one of PDF, which has no quadratic curves: each becomes a cubic one."""
    at, here = 0, (0.0, 0.0)
    while at < len(codes):
        code, (x, y) = codes[at], points[at]
        if code == _CLOSE:
            yield "h"
        elif code in (_MOVE, _LINE):
            here = (x, y)
            yield f"{x:.4g} {y:.4g} {'m' if code == _MOVE else 'l'}"
        elif code == _QUADRATIC:
            end = points[at + 1]
            first, second = ([a + 2 / 3 * (c - a) for a, c in zip(start, (x, y), strict=True)] for start in (here, end))
            yield " ".join(f"{value:.4g}" for value in (*first, *second, *end)) + " c"
            here, at = tuple(end), at + 1
        elif code == _CUBIC:
            second, end = points[at + 1], points[at + 2]
            yield " ".join(f"{value:.4g}" for value in (x, y, *second, *end)) + " c"
            here, at = tuple(end), at + 2
        at += 1
