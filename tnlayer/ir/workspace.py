"""What a call of a CPU's kernel allocates: a piece for each thread, and one for all.

In entries, from the start of each piece; everything begins with a whole vector::

    of a thread   sums | carried sums | states | copies of a block where samples are missing
    of the call   addresses of the threads' sums | what steps on parameters make
                  | arguments of another dtype, but for samples
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallWorkspace:
    """Where the parts of a thread's piece lie, and the size of both pieces, in entries.

    Arguments:
        partial: entries of all sums; the carried ones are as many and lie behind them.
        thread: where states begin.
        ragged: where the copies of a ragged block begin; of any block, where arguments have another
            dtype.
        own: the piece of a thread.
        shared: the piece of the call, beside the addresses of the threads' sums.
        line_bytes: what lies behind the addresses begins at a multiple of so many bytes.
        widened: where each unbatched argument of another dtype has its entries, in the call's piece
            behind the addresses.
    """

    partial: int
    thread: int
    ragged: int
    own: int
    shared: int
    line_bytes: int
    widened: tuple[tuple[str, int], ...] = ()
