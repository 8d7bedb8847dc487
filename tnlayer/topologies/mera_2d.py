"""Two-dimensional MERA: isometries join blocks of 2 x 2, disentanglers act at their corners."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def mera_2d(rows: int, columns: int, dim: int, bond: int) -> Network:
    """Multiscale entanglement renormalization ansatz on a square grid with open boundary.

    ::

         i_0_0  i_0_1 | i_0_2  i_0_3        isometries join the blocks of 2 x 2,
                 +----|----+                four sites to one that goes up (up)
         i_1_0  i|1_1 | i_1|2  i_1_3        and an output leg (a^4 / up)
        ---------|----+----|---------
         i_2_0  i|2_1 | i_2|2  i_2_3        before, disentanglers act on the four
                 +----|----+                sites where four blocks meet
         i_3_0  i_3_1 | i_3_2  i_3_3

    up is the smaller of bond and a^4, with a the size of a site, dim on the first level. What is
    left, a row or a column of blocks or one block, goes into the top. Outputs stand in the order of
    their making, row by row, the top's last.

    Parameters: on a level with n x m sites of size a, (n/2 - 1)(m/2 - 1) disentanglers of a^8 and
    nm/4 isometries of a^4 up (a^4 // up); the top has the square of the product of its sites.

    Source: Evenbly and Vidal, Entanglement renormalization in two spatial dimensions,
    arXiv:0811.0879; Cincio, Dziarmaga and Rams, arXiv:0710.3829.

    Arguments:
        rows: rows of the grid, a power of two from 2 to 64.
        columns: columns of the grid, a power of two from 2 to 64; legs are numbered row by row.
        dim: size of each input leg.
        bond: size of each leg that goes up, at most.

    Raises:
        SpecError: rows or columns is no such number, or dim or bond is no size.

    >>> mera_2d(4, 4, dim=2, bond=2).parameter_count
    1536
    """
    sides = all(isinstance(n, int) and 2 <= n <= 64 and n & (n - 1) == 0 for n in (rows, columns))
    sizes = all(isinstance(size, int) and 0 < size < 2**7 for size in (dim, bond))
    if not sides or not sizes:
        msg = (
            f"mera_2d: got rows={shown(rows)}, columns={shown(columns)}, dim={shown(dim)}, "
            f"bond={shown(bond)}, expected powers of two from 2 to 64, and sizes from 1 up"
        )
        raise SpecError(msg)
    net = Network("two-dimensional MERA")
    grid = [(row, column) for row in range(rows) for column in range(columns)]
    legs = net.input(**{f"i_{row}_{column}": dim for row, column in grid})
    at, outputs, size, level = dict(zip(grid, legs, strict=True)), list[str](), dim, 0
    while rows > 1 and columns > 1 and rows * columns > 4:
        for row, column in _blocks(rows - 2, columns - 2):
            four = _corner(row + 1, column + 1)
            name = f"disentangler_{level}_{row // 2}_{column // 2}"
            here = [at[one] for one in four]
            made = net.tensor(name, here, out=[size] * 4, isometry=here)
            at |= dict(zip(four, made, strict=True))
        up, above = min(bond, size**4), dict[tuple[int, int], str]()
        for row, column in _blocks(rows, columns):
            here = [at[one] for one in _corner(row, column)]
            name = f"isometry_{level}_{row // 2}_{column // 2}"
            out, risen = net.tensor(name, here, out=(max(1, size**4 // up), up), isometry=here)
            outputs.append(out)
            above[row // 2, column // 2] = risen
        at, size, level = above, up, level + 1
        rows, columns = rows // 2, columns // 2
    last = list(at.values())
    top = net.tensor("top", last, out=[size] * len(last), isometry=last, init="scaled")
    net.output([*outputs, *top])
    return net


def _blocks(rows: int, columns: int) -> list[tuple[int, int]]:
    """The first site of each block of 2 x 2."""
    return [(row, column) for row in range(0, rows, 2) for column in range(0, columns, 2)]


def _corner(row: int, column: int) -> list[tuple[int, int]]:
    """The four sites of a block."""
    return [(row + down, column + right) for down in (0, 1) for right in (0, 1)]
