"""How large tiles and panels are, and what memory a call takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import gcd

from ...hardware.cpu import Cpu
from .product_form import ProductForm


@dataclass(frozen=True, slots=True)
class TileSizes:
    """What the kernels are compiled with; each tile fits the second cache beside what is read.

    Arguments:
        most_rows: rows of samples in registers, by two vectors.
        few_rows: the same of rows of a factor, each of which takes a register for its address, too.
        depth, columns: rows and vectors of a tile of W.
        tile_entries: of a tile of its gradient.
        samples: that go into such a tile at once.
    """

    most_rows: int
    few_rows: int
    depth: int = 1024
    columns: int = 4
    tile_entries: int = 32768
    samples: int = 1024

    @property
    def constants(self) -> dict[str, int]:
        """By their names in C++."""
        return {name.upper(): size for name, size in asdict(self).items()}


def tile_sizes(cpu: Cpu) -> TileSizes:
    """The sizes for a processor; with less than 32 registers panels are narrower."""
    return TileSizes(14, 8) if cpu.registers >= 32 else TileSizes(6, 4)


def kernel_entries(
    form: ProductForm,
    rows: int,
    width: int,
    sizes: TileSizes,
    wanted: tuple[bool, bool, bool],
    threads: int,
) -> int:
    """Entries that the kernels of a forward and a backward keep, at most: x and the gradient of y
    in the order in which they are read, right likewise, tiles.

    Arguments:
        form: the product.
        rows: of x.
        width: entries of a vector.
        sizes: of tiles.
        wanted: whether the gradients of x, of left and of right are.
        threads: that share the work.
    """
    a1, a2, b1, b2, s = form.sizes

    def filled(count: int) -> int:
        return -(-count // width) * width

    def product(a1: int, a2: int, b2: int) -> tuple[int, int]:
        # A tile has at least one index of each leg, and whole vectors: of legs that are no part of
        # one it takes as many indices of b1 as fill some.
        deep = max(sizes.depth, min(a2, 2 * width))
        inner = min(b2, 2 * width)
        step = width // gcd(inner, width)
        columns = -(-max(sizes.columns * width // inner, 1) // step) * step * inner
        return rows * a1 * a2 + a2 * filled(b2) * s, deep * filled(columns) + width

    to_x, to_left, to_right = wanted
    # Of each call what all threads share, and what each has for itself; both stay as large as the
    # largest was.
    calls = [product(a1, a2, b2)]
    if to_x:
        calls.append(product(b1, b2, a2))
    if to_left or to_right:
        tile = max(sizes.tile_entries, 2 * width * filled(2 * width))
        turned = a2 * filled(b2) * filled(s)
        own = tile + (s * a2 * filled(b2) if to_right else 0)
        calls.append((rows * (a1 * a2 + b1 * filled(b2)) + turned, own))
    shared, own = zip(*calls, strict=True)
    return max(shared) + threads * max(own)
