"""Long sums over samples are carried: what a run of blocks adds up to goes to a second sum.

A sum of n terms in one variable loses about log2(n) digits, for each term is rounded to the digits
of the whole. With runs that are about as long as there are runs it loses half as many::

    blocks   1 2 3 4 | 5 6 7 8 | 9 ...
    sums     ------->  ------->            cleared after each run
    carried          +         +           added to once a run
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.loops import LoopProgram

# No run is shorter than this, in samples and in blocks, for carrying reads and writes all sums: as
# much as one or two blocks do.
LEAST_SAMPLES, LEAST_BLOCKS = 32, 16


def carry_sums(program: LoopProgram) -> LoopProgram:
    """Say after how many blocks at the soonest sums over samples are carried, if there are any."""
    if not program.size_of("partial"):
        return program
    return replace(program, carried=max(LEAST_BLOCKS, LEAST_SAMPLES // program.block))
