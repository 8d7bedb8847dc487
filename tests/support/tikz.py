"""Whether a text of TikZ would compile, by rules of TeX and of the TikZ manual that the package's
pictures need: no TeX runs here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

# The commands that pictures are made of, and those that stand in text.
PATHS = ("draw", "fill", "filldraw", "node")
WORDS = {
    "tiny", "scriptsize", "textbackslash", "textasciicircum", "textasciitilde", "textless",
    "textgreater", "textbar", "textquotedbl", "Sigma", "rangle", "cdot",
}  # fmt: skip
# Of these only mathematics knows the first, and only text the rest.
MATHEMATICS = {"Sigma", "rangle", "cdot"}
OPTIONS = re.compile(
    r"draw|circle|dashed|bend left=\d+|rounded corners=\d+pt|inner sep=[\d.]+pt|align=center"
    r"|anchor=west|font=\\(tiny|scriptsize)|(draw|fill|text)=(white|tnlayer[0-9A-F]{6})"
    r"|tnlayer[0-9A-F]{6}|label=\{.*\}"
)
NUMBER = r"-?\d+\.\d{3}"
POINT = rf"\((?:{NUMBER}, {NUMBER}|n\d+)\)"
CIRCLE = r"circle\[radius=\d+\.\d+\]"
PATH = re.compile(
    rf"{POINT}(?: (?:-- {POINT}|to {POINT}|\.\. controls {POINT} and {POINT} \.\. {POINT}"
    rf"|-- cycle|{CIRCLE}))+"
)
NODE = re.compile(rf"(?:\(n\d+\) )?at \({NUMBER}, {NUMBER}\) \{{(?P<text>.*)\}}")


def faults_of(text: str) -> list[str]:
    """What is wrong with a picture; empty where nothing is.

    Arguments:
        text: of a file .tikz, as ``draw`` writes it.
    """
    lines = text.splitlines()
    found = list(_of_braces(text))
    colours: set[str] = set()
    while lines and lines[0].startswith(r"\definecolor"):
        match = re.fullmatch(r"\\definecolor\{(tnlayer([0-9A-F]{6}))\}\{HTML\}\{\2\}", lines[0])
        found += [] if match else [f"no colour: {lines[0]}"]
        colours.add(match.group(1) if match else "")
        lines.pop(0)
    if not re.fullmatch(r"\\begin\{tikzpicture\}\[x=[\d.]+(cm|in), y=[\d.]+(cm|in)\]", lines[0]):
        found.append(f"no beginning: {lines[0]}")
    if lines[-1] != r"\end{tikzpicture}":
        found.append(f"no end: {lines[-1]}")
    named: set[str] = set()
    for line in lines[1:-1]:
        found += [f"{fault}: {line}" for fault in _of_line(line.strip(), colours, named)]
    return found


def _of_braces(text: str) -> Iterator[str]:
    depth = 0
    for character in re.sub(r"\\[\\{}]", "", text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            yield "a brace is closed that is not open"
            return
    if depth:
        yield f"{depth} braces stay open"


def _of_line(line: str, colours: set[str], named: set[str]) -> Iterator[str]:
    """One path, from its command to its semicolon."""
    match = re.fullmatch(r"\\([a-z]+)\[(.*?)\] ((?:\(|at ).*);", line)
    if match is None or match.group(1) not in PATHS:
        yield "no path of a known command that ends with a semicolon"
        return
    command, options, rest = match.groups()
    for option in _parted(options):
        if not OPTIONS.fullmatch(option):
            yield f"unknown option {option!r}"
        if option.startswith("label={"):
            inner = re.fullmatch(r"label=\{\[font=\\tiny\]right:(.*)\}", option)
            yield from _of_words(inner.group(1)) if inner else ("no label",)
    yield from (f"undefined colour {one}" for one in re.findall(r"tnlayer\w+", options)
                if one not in colours)  # fmt: skip
    for number in re.findall(r"[-\d.]*\d", re.sub(r"\{.*", "", rest)):
        if re.fullmatch(NUMBER, number) and not math.isfinite(float(number)):
            yield f"no finite number {number}"
    if command != "node":
        if not PATH.fullmatch(rest):
            yield "no path of points"
        used = set(re.findall(r"\((n\d+)\)", rest))
        yield from (f"undefined node {one}" for one in used - named)
        return
    node = NODE.fullmatch(rest)
    if node is None:
        yield "no node at a point with a text in braces"
        return
    name = re.match(r"\((n\d+)\)", rest)
    if name is not None and name.group(1) in named:
        yield f"two nodes {name.group(1)}"
    named |= {name.group(1)} if name else set()
    yield from _of_words(node.group("text"))


def _parted(options: str) -> list[str]:
    """Options between commas that stand in no braces."""
    parts, depth = [""], 0
    for character in options:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _of_words(text: str) -> Iterator[str]:
    """Text of a node: characters that mean something to TeX are escaped, mathematics is closed, and
    a line break is followed by a space, since TeX takes a star or a bracket after it."""
    for command in re.findall(r"\\([A-Za-z]+)", text):
        if command not in WORDS:
            yield f"unknown command {command!r}"
    if re.search(r"\\\\(?! )", text):
        yield "a line break that may take what follows"
    plain = re.sub(r"\\\\|\\[{}$&#_%]|\\[A-Za-z]+(\{\})?", "", text)
    parts = plain.split("$")
    if len(parts) % 2 == 0:
        yield "mathematics that is not closed"
    if "" in parts[1::2] and not re.search(r"\$\\[A-Za-z]+\$", text):
        yield "display mathematics"
    for part in parts[::2]:
        if set(part) & set("^_&#%~{}"):
            yield f"a character that has a meaning in TeX stands in {part!r}"
        if not part.isascii():
            yield f"a character that fonts of TeX may lack stands in {part!r}"
    for part in parts[1::2]:
        if not re.fullmatch(r"(\^(\d|\{\d+\}))?", part):
            yield f"no mathematics of ours: {part!r}"
    for inside in re.findall(r"\$([^$]*)\$", text):
        for command in re.findall(r"\\([A-Za-z]+)", inside):
            if command not in MATHEMATICS:
                yield f"{command!r} stands in mathematics"
