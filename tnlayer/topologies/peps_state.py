"""PEPS as a state: a grid of tensors with one open leg each."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def peps_state(rows: int, columns: int, dim: int, bond: int) -> Network:
    """Projected entangled pair state: a vector of dim^(rows columns) entries, and no input.

    ::

        site_0_0 -h_0_0- site_0_1 -h_0_1- site_0_2       each site also has
           |                |                |           an open leg j_ROW_COLUMN
         v_0_0            v_0_1            v_0_2
           |                |                |
        site_1_0 -h_1_0- site_1_1 -h_1_1- site_1_2

    Parameters: the sum over sites of dim bond^(number of neighbours in the grid).

    Source: Verstraete and Cirac, Renormalization algorithms for quantum-many body systems in two
    and higher dimensions, arXiv:cond-mat/0407066.

    Arguments:
        rows: rows of the grid, at least 1.
        columns: columns of the grid, at least 1; legs are numbered row by row.
        dim: size of each open leg.
        bond: size of each leg between neighbours.

    Raises:
        SpecError: the grid has no site, or more than 4000.

    >>> peps_state(2, 3, dim=2, bond=3).parameter_count
    180
    """
    are_whole = isinstance(rows, int) and isinstance(columns, int)
    if not are_whole or rows < 1 or columns < 1 or rows * columns > 4000:
        msg = (
            f"peps_state: got rows={shown(rows)}, columns={shown(columns)}, expected whole numbers "
            "from 1 up and at most 4000 sites"
        )
        raise SpecError(msg)
    grid = [(row, column) for row in range(rows) for column in range(columns)]
    net = Network("PEPS state")
    net.output(**{f"j_{row}_{column}": dim for row, column in grid})
    net.bond(**{f"h_{row}_{column}": bond for row, column in grid if column < columns - 1})
    net.bond(**{f"v_{row}_{column}": bond for row, column in grid if row < rows - 1})
    for row, column in grid:
        up = [f"v_{row - 1}_{column}"] if row > 0 else []
        left = [f"h_{row}_{column - 1}"] if column > 0 else []
        down = [f"v_{row}_{column}"] if row < rows - 1 else []
        right = [f"h_{row}_{column}"] if column < columns - 1 else []
        net.tensor(f"site_{row}_{column}", [*up, *left, f"j_{row}_{column}", *down, *right])
    return net
