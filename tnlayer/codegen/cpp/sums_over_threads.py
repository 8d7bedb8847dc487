"""Sums over samples as C++: each thread has vectors of partial sums, which are added up at the end.

The gradient of a weight sums over all samples, which many threads work on. Each adds to sums of its
own, so that none waits for another; ``after`` adds them in the order of the threads::

    thread 0    own += blocks 0, 1, 2 ...    carried to longer sums now and then
    thread 1    own += blocks 7, 8, 9 ...
    after       v = partials[0] + partials[1] + ...     a vector; then its lanes go to the entries
                                                        of the gradient, all to one or each to its

A printer: which sums these are, lowering/cpu/sums_over_threads.py decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.loops import At, SumPartials
from .places import offset_table, pointer

_RUN = """\
    long run = {least};
    while (run * run < end - start) run *= 2;
"""
_CARRIED = """      if (turn > start && (turn - start) % run == 0) {{
        // What a run of blocks added up to is carried to sums of its own: short sums keep digits.
        entry* carried = own + {partial};
        if (turn - start == run) memset((void*)carried, 0, {partial} * sizeof(entry));
        for (size_t at = 0; at < {partial}; at++) carried[at] += own[at];
        memset((void*)own, 0, {partial} * sizeof(entry));
      }}
"""
_CARRIED_LAST = """    if (end - start > run)
      for (size_t at = 0; at < {partial}; at++) own[at] += own[{partial} + at];
"""


@dataclass(frozen=True, slots=True)
class Carries:
    """The lines of the entry point that carry long sums; "" where there are none.

    Arguments:
        run: declares after how many blocks.
        each_run: before a block: what a run of blocks added up to goes to a second sum.
        last: behind the last block: both sums become one.
    """

    run: str = ""
    each_run: str = ""
    last: str = ""


def carry(least: int, partial: int) -> Carries:
    """How sums are carried.

    Arguments:
        least: blocks after which they are at the soonest; 0: never.
        partial: entries of all partial sums of a thread.
    """
    if not least:
        return Carries()
    return Carries(
        _RUN.format(least=least),
        _CARRIED.format(partial=partial),
        _CARRIED_LAST.format(partial=partial),
    )


def sum_lines(statement: SumPartials, width: int) -> list[str]:
    """Vectors of all threads, summed in the order of the threads: the same bits each time."""
    source = statement.source
    since = pointer(At(f"at_{source.buffer}", source.offset, source.terms))
    lines = [
        "{",
        f"  const size_t at = {since};",
        "  vec v = load(partials[0] + at);",
        "  for (int t = 1; t < team; t++) v += load(partials[t] + at);",
    ]
    target = pointer(statement.target)
    # All lanes are partial sums of one entry.
    if len(statement.offsets) == width and not any(statement.offsets):
        return [*lines, f"  *({target}) += sum(v);", "}"]
    # Each lane is an entry, and they lie in a row.
    if statement.offsets == tuple(range(width)):
        return [*lines, f"  v += load({target});", f"  store({target}, v);", "}"]
    return [
        *lines,
        "  entry lanes[W];",
        "  store(lanes, v);",
        f"  {offset_table('to', statement.offsets)}",
        f"  for (int j = 0; j < {len(statement.offsets)}; j++) ({target})[to[j]] += lanes[j];",
        "}",
    ]
