"""PEPS: a grid of tensors, the tensor train in two dimensions."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def peps(rows: int, columns: int, dim: int, bond: int) -> Network:
    """Projected entangled pair operator: a grid of sites, one input and one output leg each.

    ::

        site_0_0 -h_0_0- site_0_1 -h_0_1- site_0_2       each site also has
           |                |                |           an input leg i_ROW_COLUMN and
         v_0_0            v_0_1            v_0_2         an output leg j_ROW_COLUMN
           |                |                |
        site_1_0 -h_1_0- site_1_1 -h_1_1- site_1_2

    Parameters: the sum over sites of dim^2 bond^(number of neighbours in the grid).

    Source: Verstraete and Cirac, Renormalization algorithms for quantum-many body systems in two
    and higher dimensions, arXiv:cond-mat/0407066.

    Arguments:
        rows: rows of the grid, at least 1.
        columns: columns of the grid, at least 1; legs are numbered row by row.
        dim: size of each input and output leg.
        bond: size of each leg between neighbours.

    Raises:
        SpecError: the grid has no site, or more than 4096.

    >>> peps(2, 2, dim=2, bond=3).parameter_count
    144
    """
    are_whole = isinstance(rows, int) and isinstance(columns, int)
    # No network has more than 4096 nodes: say so before a grid is made.
    if not are_whole or rows < 1 or columns < 1 or rows * columns > 4096:
        msg = (
            f"peps: got rows={shown(rows)}, columns={shown(columns)}, expected whole numbers "
            "from 1 up and at most 4096 sites. Use a smaller grid with larger dim, or at least "
            "one site"
        )
        raise SpecError(msg)
    grid = [(row, column) for row in range(rows) for column in range(columns)]
    net = Network("PEPS")
    net.input(**{f"i_{row}_{column}": dim for row, column in grid})
    net.output(**{f"j_{row}_{column}": dim for row, column in grid})
    net.bond(**{f"h_{row}_{column}": bond for row, column in grid if column < columns - 1})
    net.bond(**{f"v_{row}_{column}": bond for row, column in grid if row < rows - 1})
    for row, column in grid:
        up = [f"v_{row - 1}_{column}"] if row > 0 else []
        left = [f"h_{row}_{column - 1}"] if column > 0 else []
        down = [f"v_{row}_{column}"] if row < rows - 1 else []
        right = [f"h_{row}_{column}"] if column < columns - 1 else []
        site = [f"i_{row}_{column}", f"j_{row}_{column}"]
        net.tensor(f"site_{row}_{column}", [*up, *left, *site, *down, *right])
    return net
