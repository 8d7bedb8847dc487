"""The next block's samples are asked for while this one is computed.

Inputs and outputs of a batch lie in the last cache or in memory. A row is fetched only once a step
reads it, and then the step waits. So each step asks for its share of the next block. A core has few
requests under way: many at once would wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...hardware.cpu import LINE_BYTES
from ...ir.loops import At, Buffer, For, LoopRegion, Prefetch, Statement

# Lines that a step may ask for of each argument; and lines of a block that are worth asking for.
MOST_LINES = 40
LEAST_LINES = 32


def prefetch_next(
    samples: Sequence[Statement], buffers: Sequence[Buffer], block: int, itemsize: int
) -> tuple[Statement, ...]:
    """The steps of a block, each with its share of what the next block reads and writes.

    Arguments:
        samples: steps of a block of samples.
        buffers: of the program.
        block: samples of a block.
        itemsize: bytes of an entry.
    """
    found: list[Statement] = list(samples)
    line = max(1, LINE_BYTES // itemsize)
    for buffer in buffers:
        if buffer.space not in ("input", "output") or not buffer.batched:
            continue
        entries = buffer.size * block
        # Each step asks for an equal share. Few lines are not worth it, and of many at once the
        # requests would wait for each other.
        lines = -(-entries // line)
        share = -(-lines // max(1, len(found)))
        if lines < LEAST_LINES or share > MOST_LINES:
            continue
        for number, first in enumerate(range(0, entries, share * line)):
            at = At(buffer.name, first, form="scalar")
            step = found[number]
            assert isinstance(step, LoopRegion), "a part is a list of steps"
            count = min(share * line, entries - first)
            ahead = Prefetch(at, count, buffer.space == "output")
            found[number] = replace(step, body=_spread(ahead, step.body, line))
    return tuple(found)


def _spread(ahead: Prefetch, body: tuple[Statement, ...], line: int) -> tuple[Statement, ...]:
    """Statements with a prefetch: a piece of it in each turn of their loop, or all of it before."""
    loop = body[-1]
    if not isinstance(loop, For) or loop.count * line > ahead.count:
        return (ahead, *body)
    stride = ahead.count // loop.count
    at = replace(ahead.source, terms=(*ahead.source.terms, (loop.index, stride)))
    inner = replace(ahead, source=at, count=stride)
    return (*body[:-1], replace(loop, body=_spread(inner, loop.body, line)))
