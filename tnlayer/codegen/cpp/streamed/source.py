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

from collections.abc import Mapping
from pathlib import Path

from ....support.dtypes import DTYPES
from ..entry_point import NO_ADDRESS
from ..prelude import prelude

PARTS = ("products.cpp", "tiles.cpp", "apply.cpp", "gradients.cpp", "entry_points.cpp")


def streamed_source(dtype: str, vector_bytes: int, sizes: Mapping[str, int]) -> str:
    """C++ with the entry points ``forward`` and ``backward``.

    Arguments:
        dtype: of the arithmetic, a real one.
        vector_bytes: of a vector register.
        sizes: of tiles and panels, by the names of their constants.
    """
    constants = {**sizes, "NO_ADDRESS": NO_ADDRESS}
    told = ", ".join(f"{name} = {size}" for name, size in constants.items())
    parts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in PARTS]
    width = vector_bytes // DTYPES[dtype].itemsize
    return f"{prelude(dtype, width)}enum {{ {told} }};\n\n{''.join(parts)}"
