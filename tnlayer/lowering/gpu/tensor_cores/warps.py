"""How the warps of a block divide a matrix product: tiles, terms of a tile, samples.

A warp that has no tile of its own takes some of the terms of another's, and adds them to a copy of
its own. Wider tiles load less for each product, so tiles may also be fewer than warps.

A gradient of 16 x 16, summed over 64 terms of 4 samples, by 8 warps::

    tiles of 16 x 8      2 tiles    4 warps share the terms of each: 4 copies of 256 entries
    tiles of 16 x 16     1 tile     8 warps share its terms: 8 copies, left is loaded half as often

The copies lie in shared memory and are added in order when the block's samples are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Rows of a tile, columns of an instruction, and columns that a warp does at once: powers of two.
ROW_BITS, LEAST_COLUMN_BITS, MOST_COLUMN_BITS = 4, 3, 5


@dataclass(frozen=True, slots=True)
class Product:
    """A product's sizes, as numbers of binary digits, and what accesses cost.

    Arguments:
        rows, columns, sums: of the matrices; sums are those of one sample.
        depth: sums of an instruction.
        samples: of a block that are summed as well, a power of two; 0 where none are.
        cycles: of one access of left, right and target.
        adds: whether the result is added to the target.
    """

    rows: int
    columns: int
    sums: int
    depth: int
    samples: int
    cycles: tuple[int, int, int]
    adds: bool


@dataclass(frozen=True, slots=True)
class Split:
    """How a product is divided; exponents of two.

    Arguments:
        columns: of a warp's tile.
        terms: parts into which the terms of a tile go.
        samples: parts into which the samples of a block go.
        busiest: instructions of the busiest warp.
        cycles: accesses of all warps.
    """

    columns: int
    terms: int
    samples: int
    busiest: int
    cycles: int

    @property
    def copies(self) -> int:
        """Copies of the target."""
        return 1 << self.terms + self.samples


def choose_split(product: Product, warps: int, most_copied: int) -> Split:
    """The split whose busiest warp does the fewest instructions, then the one of fewest cycles.

    Arguments:
        product: what is divided.
        warps: of a block.
        most_copied: entries that all copies of the target may have, where there are several.
    """
    return min(_splits(product, warps, most_copied), key=lambda s: (s.busiest, s.cycles, s.columns))


def _splits(product: Product, warps: int, most_copied: int) -> Iterator[Split]:
    for columns in range(LEAST_COLUMN_BITS, min(MOST_COLUMN_BITS, product.columns) + 1):
        tiles = 1 << (product.rows - ROW_BITS + product.columns - columns)
        # Only what is added anyway can be shared: else the copies would need a loop of their own.
        idle = (max(1, warps // tiles)).bit_length() - 1 if product.adds else 0
        for shares in range(idle + 1):
            # Terms first: a share of the samples has no work where the last block lacks some.
            terms = min(shares, product.sums - product.depth)
            samples = min(shares - terms, product.samples)
            copied = 1 << (product.rows + product.columns + terms + samples)
            if terms + samples == shares and (not shares or copied <= most_copied):
                yield _split(product, warps, tiles, columns, terms, samples)


def _split(
    product: Product, warps: int, tiles: int, columns: int, terms: int, samples: int
) -> Split:
    points = tiles << terms + samples
    groups = 1 << (columns - LEAST_COLUMN_BITS)
    # Instructions one after another that one accumulator takes.
    each = 1 << (product.sums - product.depth - terms + product.samples - samples)
    packs = 1 << (product.depth - 3)
    left, right, target = product.cycles
    loads = each * (4 * packs * left + 2 * packs * right * groups)
    stores = 4 * target * groups * (2 if product.adds else 1)
    busiest = -(-points // warps) * each * groups
    return Split(columns, terms, samples, busiest, points * (loads + stores))
