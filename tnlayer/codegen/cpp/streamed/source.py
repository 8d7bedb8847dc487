"""The source of the product with a matrix of two factors, for one dtype and one kind of vectors.

It is no layer's own: sizes are arguments, so a machine compiles it once. It is written in C++
beside this file, in the order in which it reads::

    products.cpp      rows times vectors, in registers
    tiles.cpp         which part of the matrix a tile holds
    apply.cpp         y = x W: tile after tile of W is made in a cache and multiplied there
    gradients.cpp     tile after tile of the gradient of W goes into those of the factors
    entry_points.cpp  what is called from outside
"""

from __future__ import annotations

from pathlib import Path

from ....support.dtypes import DTYPES
from ..entry_point import NO_ADDRESS
from ..prelude import prelude

PARTS = ("products.cpp", "tiles.cpp", "apply.cpp", "gradients.cpp", "entry_points.cpp")
# Rows of samples in registers by two vectors, and rows of a factor, by the registers that there
# are; a row of a factor takes a register for its address, too.
_ROWS = {32: (14, 8), 16: (6, 4)}
# Rows and vectors of a tile of W, entries of a tile of its gradient, and samples at once that go
# into that: each fits the second cache beside what is read.
_DEPTH, _COLUMNS, _TILE_ENTRIES, _SAMPLES = 1024, 4, 32768, 1024


def streamed_source(dtype: str, vector_bytes: int, registers: int) -> str:
    """C++ with the entry points ``forward`` and ``backward``.

    Arguments:
        dtype: of the arithmetic, a real one.
        vector_bytes: of a vector register.
        registers: vector registers; with less than 32 panels are narrower.
    """
    most, few = _ROWS[32 if registers >= 32 else 16]
    sizes = (
        f"enum {{ MOST_ROWS = {most}, FEW_ROWS = {few}, DEPTH = {_DEPTH}, "
        f"COLUMNS = {_COLUMNS}, "
        f"TILE_ENTRIES = {_TILE_ENTRIES}, SAMPLES = {_SAMPLES}, NO_ADDRESS = {NO_ADDRESS} }};\n\n"
    )
    parts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in PARTS]
    return prelude(dtype, vector_bytes // DTYPES[dtype].itemsize) + sizes + "".join(parts)
