"""Which kernels the steps before and after the samples become, and how their loops are ordered.

These kernels are small, and each waits for the one before it and for memory. So all sums over
blocks are one kernel, and a row of small steps that need its results is done by a block of the same
kernel: it makes the few sums that it reads itself, next to copies of the parameters that it reads,
and has what lies between its steps in shared memory.

    as lowered    sum A | sum B | sum C | step 1 (reads A) | step 2 (reads 1)      five kernels

    merged        block 0      sum A, copies of parameters, barrier, step 1, barrier, step 2
                  blocks 1 ..  sums B and C, a block for 32 results
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...ir.loops import (
    At,
    Buffer,
    LoopProgram,
    LoopRegion,
    Threads,
    Tile,
    buffers_of,
    is_sum,
    map_places,
    steps_of,
    written_of,
)
from .block_work import products_of
from .sums_over_blocks import groups_of

# Products that one block does in a kernel of its own, rather than a grid after a grid.
MOST_IN_ONE_BLOCK = 2**16
# Results, 32 each, that such a block sums up for the steps that it does: at least three warps share
# the rows of one then. Above that another kernel is cheaper.
MOST_GROUPS = 4
# Entries of parameters that it copies.
MOST_COPIED = 2**12


def merge_kernels(program: LoopProgram) -> LoopProgram:
    """Fewer kernels: all sums over blocks become one, small steps in a row one block of it.

    In a row each step stands as early as what it reads allows, so that as many as possible have one
    barrier together; so do the steps that each block does before its samples.
    """
    program = replace(program, prologue=tuple(_by_level(steps_of(program.prologue))))
    for part in ("before", "after"):
        kernels, copies = _merged(program, list(steps_of(getattr(program, part))))
        program = replace(program, buffers=(*program.buffers, *copies), **{part: kernels})
    return program


def _merged(
    program: LoopProgram, steps: list[LoopRegion]
) -> tuple[tuple[LoopRegion, ...], list[Buffer]]:
    sums = [step for step in steps if is_sum(step.body[0])]
    rest = [step for step in steps if not is_sum(step.body[0])]
    found: list[LoopRegion] = []
    copies: list[Buffer] = []
    row: list[LoopRegion] = []
    for step in rest:
        # In the order of the plan: a large step ends a row, for what follows may read its result.
        if sum(loop.points * products_of(loop.body) for loop in _loops(step)) <= MOST_IN_ONE_BLOCK:
            row.append(step)
            continue
        found += _kernels(program, sums, row, copies)
        sums, row = [], []  # all sums are done by then
        loops = step.body
        found += [
            LoopRegion(f"{step.name}_{k}", step.comment, (loop,)) for k, loop in enumerate(loops)
        ]
    return (*found, *_kernels(program, sums, row, copies)), copies


def _kernels(
    program: LoopProgram,
    sums: Sequence[LoopRegion],
    row: Sequence[LoopRegion],
    copies: list[Buffer],
) -> list[LoopRegion]:
    """Sums over blocks, and the steps in a row that come right after them; notes new buffers."""
    if not row:
        return [_joined("sums", sums)] if sums else []
    read = buffers_of(row)
    own = [step for step in sums if buffers_of(step.body[:1]) & read]
    # A row that reads no sum gains nothing in their kernel, and one that reads many would keep a
    # single block busy for longer than a launch takes.
    if sums and not 0 < groups_of(loop for step in own for loop in _loops(step)) <= MOST_GROUPS:
        return [_joined("sums", sums), *_kernels(program, [], row, copies)]
    ordered = _by_level([*own, *row])
    if not sums and not any(_levels(ordered)):
        return [_joined(row[0].name, row)]  # no loop waits for another: each has its own blocks
    ordered = _with_copies(program, ordered, copies)
    others = [step for step in sums if step not in own]
    inner = _joined(row[0].name, ordered)
    if not others:
        return [LoopRegion(inner.name, "one block", (inner,))]
    outer = _joined("sums", others)
    return [replace(outer, body=(*outer.body, inner))]


def _joined(name: str, steps: Sequence[LoopRegion]) -> LoopRegion:
    body = tuple(statement for step in steps for statement in step.body)
    return LoopRegion(name, "; ".join(step.comment for step in steps), body)


def _loops(step: LoopRegion) -> list[Threads]:
    return [statement for statement in step.body if isinstance(statement, Threads)]


def _with_copies(
    program: LoopProgram, row: list[LoopRegion], copies: list[Buffer]
) -> list[LoopRegion]:
    """A row whose parameters are read from copies, which are made while its sums are, if few."""
    read = buffers_of(row)
    parameters = [b for b in program.of("input") if b.name in read and not b.batched]
    if sum(buffer.size for buffer in parameters) > MOST_COPIED:
        return row
    taken = {buffer.name for buffer in (*program.buffers, *copies)}
    names: dict[str, str] = {}
    first: list[LoopRegion] = []
    for buffer in parameters:
        name = f"{buffer.name}_k"
        while name in taken:
            name += "_c"
        names[buffer.name] = name
        copies.append(Buffer(name, buffer.size, "shared", value=buffer.value))
        to, since = (At(n, 0, (("i0", 1),), "scalar") for n in (name, buffer.name))
        loop = Threads((("i0", buffer.size),), (Tile(to, since, None),))
        first.append(LoopRegion(name, f"{buffer.name} into shared memory", (loop,)))
    sums = [step for step in row if is_sum(step.body[0])]
    rest = [_renamed(step, names) for step in row if not is_sum(step.body[0])]
    return _by_level([*sums, *first, *rest])


def _renamed(step: LoopRegion, names: dict[str, str]) -> LoopRegion:
    """A step that reads its parameters from elsewhere."""

    def at(place: At) -> At:
        return replace(place, buffer=names.get(place.buffer, place.buffer))

    return replace(step, body=tuple(map_places(loop, at) for loop in step.body))


# -- order ----------------------------------------------------------------------------------------


def _by_level(steps: Iterable[LoopRegion]) -> list[LoopRegion]:
    """Steps that wait for none first, then those that wait for these, and so on."""
    steps = list(steps)
    levels = _levels(steps)
    return [steps[k] for k in sorted(range(len(steps)), key=lambda k: (levels[k], k))]


def _levels(steps: Sequence[LoopRegion]) -> list[int]:
    """For each step how many others wait for each other before it, at the least."""
    written, read, found = dict[str, int](), dict[str, int](), list[int]()
    for step in steps:
        touched, made = buffers_of(step.body), written_of(step.body)
        waits = [written[name] + 1 for name in touched if name in written]
        waits += [read[name] + 1 for name in made if name in read]
        level = max(waits, default=0)
        # Loops of one step may wait for each other, too: zeros, and then what is added.
        level += int(len(step.body) > 1)
        found.append(level)
        for names, levels in ((touched - made, read), (made, written)):
            for name in names:
                levels[name] = max(level, levels.get(name, 0))
    return found
