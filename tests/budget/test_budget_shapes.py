"""Leg shapes against brute force: balance, padding, roots; and useful sizes of bonds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tnlayer as tn
from tnlayer.budget.shapes import balanced, ceiling_root, imbalance, is_poor, padded_shape, splits
from tnlayer.budget.useful_bond_sizes import useful_sizes
from tnlayer.graph.graph import Graph
from tnlayer.topologies import (
    block_term,
    btt,
    cp,
    kronecker,
    low_rank,
    mera,
    peps,
    tensor_ring,
    tensor_train,
    tree,
    tucker,
)

# -- shapes ------------------------------------------------------------------------------------


@cache
def all_shapes(features: int, legs: int) -> tuple[tuple[int, ...], ...]:
    """Every factorization into that many factors, descending, by plain recursion."""

    def fill(rest: int, count: int, most: int) -> Iterator[tuple[int, ...]]:
        if count == 0:
            if rest == 1:
                yield ()
            return
        for factor in range(1, min(rest, most) + 1):
            if rest % factor == 0:
                for others in fill(rest // factor, count - 1, factor):
                    yield (factor, *others)

    return tuple(fill(features, legs, features))


@given(st.integers(1, 400), st.integers(1, 5))
def test_balanced_has_the_smallest_largest_leg(features: int, legs: int) -> None:
    """Of all factorizations, balanced() gives the smallest in the order of the largest legs."""
    assert balanced(features, legs) == min(all_shapes(features, legs))


@given(st.integers(1, 400), st.integers(1, 5), st.integers(1, 20))
def test_balanced_keeps_its_bound(features: int, legs: int, largest: int) -> None:
    """With a bound on the largest leg it is the same, or None where there is none."""
    fitting = [shape for shape in all_shapes(features, legs) if max(shape) <= largest]
    assert balanced(features, legs, largest) == min(fitting, default=None)


@given(st.integers(1, 700), st.integers(1, 6))
def test_padding_is_the_least(features: int, legs: int) -> None:
    """No size from the features up to the padded one has a shape that is not poor."""
    if legs > 2 and 2**legs > features:
        legs = 2
    shape = padded_shape(features, legs)
    assert len(shape) == legs
    assert not is_poor(shape)
    assert list(shape) == sorted(shape, reverse=True)
    padded = math.prod(shape)
    assert padded >= features
    for size in range(features, padded):
        assert all(is_poor(other) for other in all_shapes(size, legs))


@pytest.mark.parametrize("features", [1_000_003, 50_257, 10**9 + 7])
@pytest.mark.parametrize("legs", [2, 3, 8, 12])
def test_large_primes(features: int, legs: int) -> None:
    """Large prime sizes are padded by less than an eighth, whatever the number of legs."""
    shape = padded_shape(features, legs)
    assert features <= math.prod(shape) < 1.125 * features
    assert imbalance(shape) <= 2.01


@given(st.integers(1, 10**12), st.integers(1, 20))
def test_ceiling_root(number: int, degree: int) -> None:
    """The root's power reaches the number, one less does not."""
    root = ceiling_root(number, degree)
    assert root**degree >= number
    assert root == 1 or (root - 1) ** degree < number


@given(st.integers(1, 2000))
def test_splits(features: int) -> None:
    """All pairs with this product, once each."""
    expected = [(k, features // k) for k in range(1, features + 1) if features % k == 0]
    assert list(splits(features)) == expected


# -- useful sizes ------------------------------------------------------------------------------


def bonds_of(graph: Graph) -> list[str]:
    """Legs on no port."""
    ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    return [leg for leg, _ in graph.leg_sizes if leg not in ports]


def resized(graph: Graph, sizes: dict[str, int]) -> Graph:
    """The graph with other sizes of some legs."""
    legs = tuple((leg, sizes.get(leg, size)) for leg, size in graph.leg_sizes)
    return Graph(
        graph.label, legs, graph.inputs, graph.output, graph.tensors, graph.summed, graph.fixed
    )


def dimension(graph: Graph) -> int:
    """Dimension of the set of maps: rank of the derivative of W by all parameters, at random.

    Independent of the package's planner: one einsum over integer labels.
    """
    assert not graph.fixed
    number = {leg: k for k, (leg, _) in enumerate(graph.leg_sizes)}
    shapes = [graph.shape_of(tensor.legs) for tensor in graph.tensors]
    splits_at = np.cumsum([math.prod(shape) for shape in shapes])
    open_legs = (*graph.inputs[0].legs, *graph.output)

    def dense(entries: torch.Tensor) -> torch.Tensor:
        operands: list[object] = []
        for tensor, shape, end in zip(graph.tensors, shapes, splits_at, strict=True):
            part = entries[int(end) - math.prod(shape) : int(end)]
            operands += [part.reshape(shape), [number[leg] for leg in tensor.legs]]
        return torch.einsum(*operands, [number[leg] for leg in open_legs]).reshape(-1)

    generator = torch.Generator().manual_seed(7)
    entries = torch.randn(int(splits_at[-1]), dtype=torch.float64, generator=generator)
    # The number of maps is that of W's entries at most: backward, one row an entry.
    jacobian = torch.func.jacrev(dense)(entries)
    return int(torch.linalg.matrix_rank(jacobian))


SMALL = {
    "tensor_train": tensor_train((2, 2, 2), (2, 1, 2), rank=1),
    "ring of two": tensor_ring((2, 2), (2, 1), rank=1),
    "ring of three": tensor_ring((2, 1, 2), (1, 2, 1), rank=1),
    "tucker": tucker((3, 2), (2, 2), rank=1),
    "tucker with one large leg": tucker((13,), (2, 2), rank=1),
    "cp": cp((3, 2), (2,), rank=1),
    "kronecker": kronecker((2, 3), (2, 2), rank=1),
    "block_term": block_term((3, 2), (2,), terms=2, rank=1),
    "low_rank": low_rank(5, 3, rank=1),
    "btt": btt((2, 3), (3, 2), rank=1),
    "btt of three": btt((2, 2, 2), (2, 1, 2), rank=1),
    "tree": tree(3, dim=2, bond=1),
    "mera": mera(3, dim=2, bond=1),
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_larger_bonds_describe_no_more_maps(name: str) -> None:
    """At the useful sizes the set of maps has a dimension that no larger bond raises."""
    graph = SMALL[name].freeze()
    useful = useful_sizes(graph, bonds_of(graph))
    if name == "block_term":
        del useful["t"]  # the number of terms stays as it is given
        useful = useful_sizes(graph, list(useful))
    full = dimension(resized(graph, useful))
    for bond, size in useful.items():
        assert dimension(resized(graph, {**useful, bond: size + 1})) == full


@pytest.mark.parametrize(
    "name", ["tensor_train", "tucker", "tucker with one large leg", "low_rank", "btt", "tree"]
)
def test_smaller_bonds_describe_fewer_maps(name: str) -> None:
    """Where the network has no loop but for hyperedges, the useful size is exactly that."""
    graph = SMALL[name].freeze()
    useful = useful_sizes(graph, bonds_of(graph))
    full = dimension(resized(graph, useful))
    for bond, size in useful.items():
        assert dimension(resized(graph, {**useful, bond: size - 1})) < full


def test_useful_sizes_of_a_chain_are_the_ranks_of_unfoldings() -> None:
    """A tensor train's bond is useful up to the smaller side of its cut, whatever it is now."""
    graph = tensor_train((2, 3, 4, 5), (3, 2, 1, 2), rank=7).freeze()
    pairs = [6, 6, 4, 10]
    sides = [(math.prod(pairs[: k + 1]), math.prod(pairs[k + 1 :])) for k in range(3)]
    assert useful_sizes(graph, bonds_of(graph)) == {
        f"b{k}": min(side) for k, side in enumerate(sides)
    }


def test_a_fixed_bond_bounds_its_neighbour() -> None:
    """A bond whose size is given is a part of the cut: b1 is useful up to b0 x i1 x j1."""
    graph = tensor_train((4, 2, 16), (4, 2, 16), rank=(3, 1)).freeze()
    assert useful_sizes(graph, ["b1"]) == {"b1": 3 * 2 * 2}


def test_useful_sizes_by_hand() -> None:
    """Hyperedges, parallel bonds, a trace, a grid and a fixed leg."""
    assert useful_sizes(cp((4, 3), (5,), rank=1).freeze(), ["r"]) == {"r": 4 * 3}
    assert useful_sizes(kronecker((2, 3), (5, 7)).freeze(), ["r"]) == {"r": 10}
    # Two parallel bonds carry 9 between them, so 3 each.
    assert useful_sizes(tensor_ring((3, 3), (3, 3), rank=1).freeze(), ["b0", "b1"]) == {
        "b0": 3,
        "b1": 3,
    }
    assert useful_sizes(tensor_ring((3,), (3,), rank=1).freeze(), ["b0"]) == {"b0": 1}
    chain = peps(1, 3, dim=2, bond=1).freeze()
    assert set(useful_sizes(chain, bonds_of(chain)).values()) == {4}
    net = tensor_train((2, 2), (2, 2), rank=1)
    net.fix(j0=0)
    assert useful_sizes(net.freeze(), ["b0"]) == {"b0": 2}


def test_shared_and_constant_tensors_absorb_nothing() -> None:
    """Where a tensor is shared or frozen only the entries of the dense map bound a bond."""
    cases: list[dict[str, Any]] = [{"share": "A"}, {"trainable": False}]
    for options in cases:
        net = tn.Network("shared")
        net.input(i=3)
        net.output(j=3)
        net.bond(a=2)
        net.tensor("A", "i a")
        net.tensor("B", "j a", **options)
        assert useful_sizes(net.freeze(), ["a"]) == {"a": 9}
