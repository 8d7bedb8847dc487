"""PEPS that reads product features, such as pixels, and gives classes."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def peps_classifier(rows: int, columns: int, dim: int, bond: int, classes: int) -> Network:
    """A grid of tensors over local features, with a leg for the class on the middle site.

    ::

        site_0_0 -h_0_0- site_0_1 -h_0_1- site_0_2       each site also takes a
           |                |                |           vector of x, leg i_ROW_COLUMN;
         v_0_0            v_0_1            v_0_2         the middle one has the leg c
           |                |                |           of the classes
        site_1_0 -h_1_0- site_1_1 -h_1_1- site_1_2

    x is a product state, (..., rows columns, dim), row by row. Rings of bonds make a large grid
    costly to contract: ``tn.cost`` tells before anything runs.

    Parameters: the sum over sites of dim bond^(number of neighbours in the grid), the middle one's
    times classes.

    Source: Cheng, Wang and Zhang, Supervised learning with projected entangled pair states,
    arXiv:2009.09932.

    Arguments:
        rows: rows of the grid, at least 1.
        columns: columns of the grid, at least 1.
        dim: entries of each local vector.
        bond: size of each leg between neighbours.
        classes: features of y.

    Raises:
        SpecError: the grid has no site, or more than 4000.

    >>> peps_classifier(2, 3, dim=2, bond=3, classes=10).parameter_count
    666
    """
    are_whole = isinstance(rows, int) and isinstance(columns, int)
    if not are_whole or rows < 1 or columns < 1 or rows * columns > 4000:
        msg = (
            f"peps_classifier: got rows={shown(rows)}, columns={shown(columns)}, expected whole "
            "numbers from 1 up and at most 4000 sites"
        )
        raise SpecError(msg)
    grid = [(row, column) for row in range(rows) for column in range(columns)]
    net = Network("PEPS classifier")
    net.input(**{f"i_{row}_{column}": dim for row, column in grid})
    net.port("x", product=True)
    net.output(c=classes)
    net.bond(**{f"h_{row}_{column}": bond for row, column in grid if column < columns - 1})
    net.bond(**{f"v_{row}_{column}": bond for row, column in grid if row < rows - 1})
    for row, column in grid:
        up = [f"v_{row - 1}_{column}"] if row > 0 else []
        left = [f"h_{row}_{column - 1}"] if column > 0 else []
        site = [f"i_{row}_{column}"]
        site += ["c"] if (row, column) == (rows // 2, columns // 2) else []
        down = [f"v_{row}_{column}"] if row < rows - 1 else []
        right = [f"h_{row}_{column}"] if column < columns - 1 else []
        net.tensor(f"site_{row}_{column}", [*up, *left, *site, *down, *right])
    return net
