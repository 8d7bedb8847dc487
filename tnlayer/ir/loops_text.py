"""Readable text of a loop program, for people and golden files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .loops import (
    At,
    Barrier,
    Buffer,
    Fill,
    For,
    Gather,
    LoopProgram,
    LoopRegion,
    Mma,
    OffsetPairs,
    Permute,
    Prefetch,
    Statement,
    SumPartials,
    SumThreads,
    Threads,
    Tile,
    Transpose,
    statements,
)


def program_text(program: LoopProgram) -> str:
    """The whole program, one statement a line."""
    lines = [
        f"program {program.name}: {program.scalar}, vectors of {program.width}, "
        f"blocks of {program.block} samples"
        + (f", {program.threads} threads" if program.threads > 1 else "")
        + (f", arguments in {program.arguments}" if program.arguments else "")
    ]
    lines += [f"  {_buffer(buffer)}" for buffer in program.buffers]
    parts = (
        ("before", program.before),
        ("prologue", program.prologue),
        ("samples", program.samples),
        ("after", program.after),
    )
    for name, body in parts:
        if body:
            lines.append(f"{name}:")
            lines += _body(body, 1)
    return "\n".join(lines) + "\n"


def launches_text(program: LoopProgram) -> str:
    """The grid of each kernel and the threads of each loop, in order; "" until they are chosen."""
    lines = [
        f"launch {launch.name}: {launch.blocks or 'persistent'} blocks of {launch.threads} threads"
        + (f", {launch.reduction}" if launch.reduction else "")
        for launch in program.launches
    ]
    parts = (*program.before, *program.prologue, *program.samples, *program.after)
    for loop in statements(parts) if program.launches else ():
        if isinstance(loop, Threads):
            head, *_ = _statement(loop)
            lines.append(f"{head} {loop.spread}")
    return "".join(f"{line}\n" for line in lines)


_UNPLACED = ("input", "output", "register")


def _buffer(buffer: Buffer) -> str:
    rows = " a sample" if buffer.batched else ""
    where = f" at {buffer.offset}" if buffer.space not in _UNPLACED else ""
    return f"{buffer.space} {buffer.name}: {buffer.size}{rows}{where}"


def _body(body: Sequence[Statement], depth: int) -> list[str]:
    lines: list[str] = []
    for statement in body:
        for line in _statement(statement):
            lines.append("  " * depth + line)
    return lines


def _statement(statement: Statement) -> list[str]:
    match statement:
        case LoopRegion():
            return [f"# {statement.comment}", *_body(statement.body, 0)]
        case For():
            what = "samples of " if statement.of_samples else ""
            head = f"for {statement.index} < {what}{statement.count}:"
            return [head, *_body(statement.body, 1)]
        case Tile():
            return [_tile(statement)]
        case Mma():
            tile = Tile(statement.target, statement.left, statement.right, statement.rows,
                        statement.columns, statement.sums, statement.loops,
                        statement.adds)  # fmt: skip
            text = f"{_tile(tile)} | mma {statement.precision}"
            if statement.copies > 1:
                number = place_text(At("", 0, statement.copy, "scalar")).removeprefix(".")
                text += f" | copy {number} of {statement.copies}"
            return [text]
        case Transpose():
            at, since = place_text(statement.target), place_text(statement.source)
            return [
                f"{at} {offsets_text(statement.targets)} = transpose "
                f"{since} {offsets_text(statement.sources)}{_padded(statement.padding)}"
            ]
        case Permute():
            target, since = place_text(statement.target), place_text(statement.source)
            rows = " ; ".join(" ".join(f"{s}.{at}" for s, at in row) for row in statement.entries)
            network = statement.network
            by = "" if network is None else f" by {len(network.shuffles)} shuffles"
            return [
                f"{target} {offsets_text(statement.targets)} = permute {since} "
                f"{offsets_text(statement.sources)} ({rows}){_padded(statement.padding)}{by}"
            ]
        case Gather():
            since = place_text(statement.source)
            offsets = offsets_text(statement.offsets)
            target, pad = place_text(statement.target), _padded(statement.padding)
            return [f"{target} = gather {since} {offsets}{pad}"]
        case Fill():
            return [f"{place_text(statement.target)} = zeros({statement.count})"]
        case SumPartials():
            at, since = place_text(statement.target), place_text(statement.source)
            return [f"{at} {offsets_text(statement.offsets)} += threads of {since}"]
        case Prefetch():
            since = place_text(statement.source)
            return [f"prefetch {statement.count} of {since}{' to write' * statement.writes}"]
        case Threads():
            indices = ", ".join(f"{name} < {count}" for name, count in statement.indices)
            return [f"threads {indices or 'one'}:", *_body(statement.body, 1)]
        case Barrier():
            return ["barrier"]
        case SumThreads():
            at, since = place_text(statement.target), place_text(statement.source)
            which = f"points of {since}"
            if statement.samples:
                which += f" where {statement.samples} exists"
            return [f"{at} [0:1:{statement.count}] += {which}"]


def _padded(padding: int) -> str:
    return f", zeros to {padding}" if padding else ""


def _tile(tile: Tile) -> str:
    loops = "".join(
        f" x {'samples of ' if a.of_samples else ''}{a.count} ({a.left}, {a.right})"
        + (f" from {a.first} by {a.step}" if a.first else "")
        + " rolled" * a.rolled
        for a in tile.loops
    )
    text = f"{place_text(tile.target)} {'+=' if tile.adds else '='} {place_text(tile.left)}"
    if tile.right is not None:
        text += f" * {place_text(tile.right)}"
    text += f" | rows {_pairs(tile.rows)}"
    if tile.right is not None:
        text += f" | columns {_pairs(tile.columns)}"
    text += f" | sums {_pairs(tile.sums)}{loops}"
    text += f" | lanes {offsets_text(tile.order)}" if tile.order else ""
    text += f" | {tile.wide} at once" if tile.wide > 1 else ""
    return text + ("" if tile.keeps_weights else " | reads weights")


def _pairs(pairs: OffsetPairs) -> str:
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
