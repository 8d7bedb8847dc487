"""Readable text of a loop program, for people and golden files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tnlayer.kernels.loops import (
    At,
    Buffer,
    Fill,
    For,
    Gather,
    Pairs,
    Program,
    Statement,
    Step,
    SumLanes,
    Tile,
    Transpose,
)


def program_text(program: Program) -> str:
    """The whole program, one statement a line."""
    lines = [
        f"program {program.name}: {program.scalar}, vectors of {program.width}, "
        f"blocks of {program.block} samples"
    ]
    lines += [f"  {_buffer(buffer)}" for buffer in program.buffers]
    parts = (("before", program.before), ("samples", program.samples), ("after", program.after))
    for name, body in parts:
        if body:
            lines.append(f"{name}:")
            lines += _body(body, 1)
    return "\n".join(lines) + "\n"


def _buffer(buffer: Buffer) -> str:
    rows = " a sample" if buffer.batched else ""
    where = f" at {buffer.offset}" if buffer.space in ("shared", "thread", "partial") else ""
    return f"{buffer.space} {buffer.name}: {buffer.size}{rows}{where}"


def _body(body: Sequence[Statement], depth: int) -> list[str]:
    lines: list[str] = []
    for statement in body:
        for line in _statement(statement):
            lines.append("  " * depth + line)
    return lines


def _statement(statement: Statement) -> list[str]:
    match statement:
        case Step():
            return [f"# {statement.comment}", *_body(statement.body, 0)]
        case For():
            return [f"for {statement.index} < {statement.count}:", *_body(statement.body, 1)]
        case Tile():
            return [_tile(statement)]
        case Transpose():
            at, since = place_text(statement.target), place_text(statement.source)
            return [
                f"{at} {offsets_text(statement.targets)} = transpose "
                f"{since} {offsets_text(statement.sources)}"
            ]
        case Gather():
            pad = f", zeros to {statement.padding}" if statement.padding else ""
            since = place_text(statement.source)
            offsets = offsets_text(statement.offsets)
            return [f"{place_text(statement.target)} = gather {since} {offsets}{pad}"]
        case Fill():
            return [f"{place_text(statement.target)} = zeros({statement.count})"]
        case SumLanes():
            at, since = place_text(statement.target), place_text(statement.source)
            return [f"{at} {offsets_text(statement.offsets)} += threads of {since}"]


def _tile(tile: Tile) -> str:
    loops = "".join(f" x {a.count} ({a.left}, {a.right})" for a in tile.loops)
    text = f"{place_text(tile.target)} {'+=' if tile.adds else '='} {place_text(tile.left)}"
    if tile.right is not None:
        text += f" * {place_text(tile.right)}"
    text += f" | rows {_pairs(tile.rows)}"
    if tile.right is not None:
        text += f" | columns {_pairs(tile.columns)}"
    text += f" | sums {_pairs(tile.sums)}{loops}"
    text += f" | lanes {offsets_text(tile.order)}" if tile.order else ""
    return text + ("" if tile.keeps_weights else " | reads weights")


def _pairs(pairs: Pairs) -> str:
    """Count and offsets on both sides."""
    if len(pairs) == 1:
        return "1" if pairs == ((0, 0),) else f"1 at {pairs[0][0]}, {pairs[0][1]}"
    first, second = (offsets_text([pair[side] for pair in pairs]) for side in (0, 1))
    return f"{len(pairs)} {first} {second}"


def offsets_text(offsets: Sequence[int]) -> str:
    """Offsets as start:step if they are evenly spaced, else in full."""
    if len(offsets) > 1:
        step = offsets[1] - offsets[0]
        if all(b - a == step for a, b in pairwise(offsets)):
            return f"[{offsets[0]}:{step}:{len(offsets)}]"
    return f"[{' '.join(map(str, offsets))}]"


def place_text(at: At) -> str:
    """A place as buffer[offset + index * stride]."""
    terms = [str(at.offset)] if at.offset or not at.terms else []
    terms += [f"{index}*{stride}" if stride != 1 else index for index, stride in at.terms]
    mark = {"vector": "", "splat": "~", "scalar": ".", "repeat": f"{at.run}~"}[at.form]
    return f"{mark}{at.buffer}[{' + '.join(terms)}]" + ("^*" if at.conj else "")
