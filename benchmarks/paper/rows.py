"""The rows of the table: what stands in place of the two fully connected hidden layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.paper.starts import with_start
from tnlayer.graph.graph import Graph
from tnlayer.graph.network import Network
from tnlayer.topologies import brickwall, low_rank, mera, peps, tensor_train, tree

Pair = tuple[Network, Network]

# Two to this power are the features of the last convolution: 256 channels of 4 x 4 pixels.
LEGS = 12
BRICKWALL_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the table.

    Arguments:
        name: its name on the command line, in files and in the table.
        text: what the two hidden layers are, in words.
        build: the two layers for 2**legs features; the second gives 2**(legs / 2).
        dense: whether torch's own linear layer runs them.
        order: how features become legs, a name of ``orders.ORDERS``.
        start: how weights start, a name of ``starts.STARTS``.
        group: what ``--rows`` calls it together with others.
    """

    name: str
    text: str
    build: Callable[[int], Pair]
    dense: bool = False
    order: str = "channels-last"
    start: str = "haar"
    group: str = "table"

    def graphs(self, legs: int = LEGS) -> tuple[Graph, Graph]:
        """The two layers as they start."""
        first, second = self.build(legs)
        return with_start(first.freeze(), self.start), with_start(second.freeze(), self.start)


def dense(in_features: int, out_features: int) -> Network:
    """A fully connected layer as a network of one tensor."""
    net = Network("dense")
    net.input(i=in_features)
    net.output(j=out_features)
    net.tensor("W", "j i")
    return net


def mera_layers(bond: int, legs: int = LEGS) -> Pair:
    """The two MERA layers: 4096 to 4096, and 4096 to 64 with the first level's outputs fixed."""
    return mera(legs, 2, bond), mera(legs, 2, bond, fix_first_level=True)


def tree_layers(bond: int, legs: int = LEGS) -> Pair:
    """MERA's layers without their disentanglers."""
    return tree(legs, 2, bond), tree(legs, 2, bond, fix_first_level=True)


def tensor_train_layers(rank: int, legs: int = LEGS) -> Pair:
    """The two TT layers: 4096 to 4096, and 4096 to 64 with output legs 0 to 5 fixed.

    Legs 0 to 5 hold exactly one end core, which is what the paper's counts for rank 5 and 7 ask.
    """
    shape = (2,) * legs
    second = tensor_train(shape, shape, rank)
    second.fix({f"j{k}": 0 for k in range(legs // 2)})
    return tensor_train(shape, shape, rank), second


def low_rank_layers(rank: int, legs: int = LEGS) -> Pair:
    """Two products of two matrices."""
    features = 2**legs
    return low_rank(features, features, rank), low_rank(features, 2 ** (legs // 2), rank)


def brickwall_layers(depth: int, legs: int = LEGS) -> Pair:
    """Two circuits of gates; in the second every other output, from leg 1 on, is fixed."""
    second = brickwall(legs, 2, depth)
    outputs = second.freeze().output
    second.fix(dict.fromkeys(outputs[1::2], 0))
    return brickwall(legs, 2, depth), second


def peps_layers(bond: int, legs: int = LEGS) -> Pair:
    """Two grids of tensors; in the second the outputs of every other column are fixed.

    The grid has the legs of 12 features in 3 rows of 4: the pixels' legs (row, row, column,
    column) in the first, the channels' in the two below.
    """
    rows = max(size for size in range(1, math.isqrt(legs) + 1) if legs % size == 0)
    columns = legs // rows
    second = peps(rows, columns, 2, bond)
    second.fix({f"j_{row}_{column}": 0 for row in range(rows) for column in range(1, columns, 2)})
    return peps(rows, columns, 2, bond), second


def dense_layers(width: int | None, legs: int = LEGS) -> Pair:
    """Two fully connected layers with ``width`` nodes between, by default as many as features."""
    features = 2**legs
    middle = features if width is None else width
    return dense(features, middle), dense(middle, 2 ** (legs // 2))


def _mera_3(order: str = "channels-last", start: str = "haar") -> Row:
    """MERA-3 with another order of the legs, or another start."""
    is_order = order != "channels-last"
    return Row(
        f"MERA-3@{order if is_order else start}",
        f"MERA-3, {'order of legs' if is_order else 'start'}: {order if is_order else start}",
        lambda legs: mera_layers(3, legs),
        order=order,
        start=start,
        group="orders" if is_order else "starts",
    )


_ROWS = (
    Row(
        "FC-1",
        "4096 x 4096, 4096 x 64",
        lambda legs: dense_layers(None, legs),
        dense=True,
    ),
    Row(
        "FC-2",
        "4096 x 10, 10 x 64 as the text says",
        lambda legs: dense_layers(10, legs),
        dense=True,
    ),
    Row(
        "MERA-2",
        "12 legs of 2, bond 2; first level fixed in the second",
        lambda legs: mera_layers(2, legs),
    ),
    Row(
        "MERA-3",
        "12 legs of 2, bond 3; first level fixed in the second",
        lambda legs: mera_layers(3, legs),
    ),
    *(
        Row(
            f"TT-{rank}",
            f"12 cores of 2 x 2, rank {rank}; outputs 0 to 5 fixed in the second",
            lambda legs, rank=rank: tensor_train_layers(rank, legs),
        )
        for rank in (3, 5, 7)
    ),
    Row(
        "tree-3",
        "MERA-3 without disentanglers; first level fixed in the second",
        lambda legs: tree_layers(3, legs),
    ),
    Row(
        "low-rank-1",
        "two products of two matrices of rank 1",
        lambda legs: low_rank_layers(1, legs),
    ),
    Row(
        "brickwall",
        "10 layers of gates on pairs of 12 legs of 2; every other output fixed in the second",
        lambda legs: brickwall_layers(BRICKWALL_DEPTH, legs),
    ),
    Row(
        "PEPS-3",
        "a 3 x 4 grid of legs of 2, bond 3; every other column's outputs fixed in the second",
        lambda legs: peps_layers(3, legs),
        group="grid",
    ),
    *(_mera_3(order=order) for order in ("channels-first", "hilbert-last", "hilbert-first")),
    *(_mera_3(start=start) for start in ("identity", "gaussian")),
)

ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(row.group for row in _ROWS))


def rows_named(names: str) -> tuple[Row, ...]:
    """Rows by a list with commas between, of names and groups, or "all".

    Raises:
        ValueError: there is no such row.

    >>> [row.name for row in rows_named("TT-3,starts")]
    ['TT-3', 'MERA-3@identity', 'MERA-3@gaussian']
    """
    found: dict[str, Row] = {}
    for name in names.split(","):
        chosen = [row for row in _ROWS if name in (row.name, row.group, "all")]
        if not chosen:
            known = ", ".join([*ROWS, *GROUPS, "all"])
            msg = f"--rows: no row or group {name!r}; there are {known}"
            raise ValueError(msg)
        found |= {row.name: row for row in chosen}
    return tuple(found.values())
