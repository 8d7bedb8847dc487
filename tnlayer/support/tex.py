"""TeX: text in which nothing is a command, colours, and documents that hold one picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "Σ": r"$\Sigma$",
    "⟩": r"$\rangle$",
    "·": r"$\cdot$",
}
_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def tex(value: object) -> str:
    r"""A value as text of TeX: nothing in it is a command.

    >>> print(tex("a_b 50% {x}"), tex("2³"))
    a\_b 50\% \{x\} 2$^3$
    """
    plain = "".join(c if c.isprintable() else "?" for c in str(value))
    parts = re.split(f"([{_DIGITS}]+)", plain)
    # Every second part is an exponent.
    return "".join(
        _exponent(part) if k % 2 else "".join(_ESCAPED.get(c, c) for c in part)
        for k, part in enumerate(parts)
    )


def _exponent(digits: str) -> str:
    plain = "".join(str(_DIGITS.index(digit)) for digit in digits)
    return f"$^{plain}$" if len(plain) == 1 else f"$^{{{plain}}}$"


def tex_colours(colours: Iterable[str]) -> dict[str, str]:
    """A name for each colour, such as "#bcd6f2"."""
    return {colour: f"tnlayer{colour[1:].upper()}" for colour in dict.fromkeys(colours)}


def tex_picture(body: Iterable[str], colours: Iterable[str], unit: str) -> str:
    """Lines of TikZ as a picture, after the colours that it uses; for ``\\input`` in a document
    with ``\\usepackage{tikz}``.

    Arguments:
        body: commands.
        colours: as "#bcd6f2", under the names of :func:`tex_colours`.
        unit: the length of a unit of the coordinates, such as "2cm".
    """
    named = tex_colours(colours)
    return "\n".join(
        (
            *(rf"\definecolor{{{name}}}{{HTML}}{{{c[1:].upper()}}}" for c, name in named.items()),
            rf"\begin{{tikzpicture}}[x={unit}, y={unit}]",
            *(f"  {line}" for line in body),
            r"\end{tikzpicture}",
            "",
        )
    )


def tex_document(picture: str) -> str:
    """A document that holds one picture, as large as it."""
    return (
        "\\documentclass[tikz, border=4pt]{standalone}\n\\usepackage[T1]{fontenc}\n"
        f"\\begin{{document}}\n{picture}\\end{{document}}\n"
    )


# What is written into a file for TeX, by its suffix.
TEX: Mapping[str, Callable[[str], str]] = {".tikz": str, ".tex": tex_document}
