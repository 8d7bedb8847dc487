"""Topologies: their maps against direct constructions, their formulas, names and errors."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnlayer import topologies
from tnlayer.errors import SpecError
from tnlayer.graph.graph import Graph
from tnlayer.graph.network import Network
from tnlayer.topologies import (
    block_term,
    brickwall,
    btt,
    butterfly,
    cp,
    kronecker,
    low_rank,
    mera,
    monarch,
    peps,
    tensor_ring,
    tensor_train,
    tree,
    tucker,
)

Arrays = dict[str, np.ndarray]
FOLDER = Path(topologies.__file__).parent
FAMILIES = [getattr(topologies, name) for name in topologies.__all__]


def random_arrays(graph: Graph) -> Arrays:
    """One array a tensor, at full shape, the same in every run."""
    generator = np.random.default_rng(2018)
    return {t.name: generator.standard_normal(graph.shape_of(t.legs)) for t in graph.tensors}


def dense_map(graph: Graph, arrays: Arrays) -> np.ndarray:
    """The matrix of the network, (out, in): unit vectors go through the tensors one by one.

    The meaning of a graph is taken word by word: a leg leaves the state when nothing that is
    left holds it. Labels are local to each step, so that any number of legs works.
    """
    port = graph.inputs[0]
    pins = graph.pinned
    open_in, open_out = graph.open_legs(port.legs), graph.open_legs(graph.output)
    features = math.prod(graph.shape_of(open_in))
    state = np.eye(features).reshape(features, *graph.shape_of(open_in))
    legs = ("", *open_in)
    for k, tensor in enumerate(graph.tensors):
        array = arrays[tensor.name]
        array = array[tuple(pins.get(leg, slice(None)) for leg in tensor.legs)]
        tensor_legs = graph.open_legs(tensor.legs)
        waiting = {leg for later in graph.tensors[k + 1 :] for leg in later.legs}
        kept = tuple(
            leg
            for leg in dict.fromkeys(legs + tensor_legs)
            if leg in waiting or leg in open_out or leg == ""
        )
        label = {leg: number for number, leg in enumerate(dict.fromkeys(legs + tensor_legs))}
        operands: list[Any] = [state, [label[leg] for leg in legs]]
        operands += [array, [label[leg] for leg in tensor_legs]]
        state, legs = np.einsum(*operands, [label[leg] for leg in kept]), kept
    ordered = state.transpose([legs.index(leg) for leg in ("", *open_out)])
    return ordered.reshape(features, -1).T


def check_map(net: Network, direct: Callable[[Arrays], np.ndarray]) -> None:
    """Assert that the network's matrix equals the one that direct builds from the same arrays."""
    graph = net.freeze()
    arrays = random_arrays(graph)
    np.testing.assert_allclose(dense_map(graph, arrays), direct(arrays), rtol=1e-10, atol=1e-10)


def entry_matrix(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    entry: Callable[[tuple[int, ...], tuple[int, ...]], float],
) -> np.ndarray:
    """A matrix from a rule for its entries in terms of the output's and the input's multi-index."""
    return np.array(
        [
            [entry(j, i) for i in product(*map(range, in_shape))]
            for j in product(*map(range, out_shape))
        ]
    )


# -- maps --------------------------------------------------------------------------------------

SHAPES = [((3,), (2,)), ((2, 3), (4, 1)), ((2, 3, 2), (3, 2, 2)), ((2, 1, 2, 2), (1, 3, 2, 2))]


@pytest.mark.parametrize(("in_shape", "out_shape"), SHAPES)
def test_tensor_train_entries_are_products_of_core_slices(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    """W[j, i] is the product of the matrices core_k[:, i_k, j_k, :], a bond of each own size."""
    cores = len(in_shape)
    ranks = [2, 3, 4][: cores - 1]

    def direct(arrays: Arrays) -> np.ndarray:
        left, right = [1, *ranks], [*ranks, 1]
        blocks = [
            arrays[f"core_{k}"].reshape(left[k], in_shape[k], out_shape[k], right[k])
            for k in range(cores)
        ]
        return entry_matrix(
            in_shape,
            out_shape,
            lambda j, i: reduce(
                np.matmul, (b[:, i[k], j[k], :] for k, b in enumerate(blocks))
            ).item(),
        )

    check_map(tensor_train(in_shape, out_shape, ranks), direct)


@pytest.mark.parametrize(("in_shape", "out_shape"), SHAPES)
def test_tensor_ring_entries_are_traces_of_core_slices(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    """W[j, i] is the trace of the product of the matrices core_k[:, i_k, j_k, :]."""
    ranks = [2, 3, 4, 5][: len(in_shape)]

    def direct(arrays: Arrays) -> np.ndarray:
        return entry_matrix(
            in_shape,
            out_shape,
            lambda j, i: np.trace(
                reduce(
                    np.matmul,
                    (arrays[f"core_{k}"][:, i[k], j[k], :] for k in range(len(in_shape))),
                )
            ),
        )

    check_map(tensor_ring(in_shape, out_shape, ranks), direct)


def tucker_matrix(arrays: Arrays, inputs: int, outputs: int, term: int | None = None) -> np.ndarray:
    """kron(out factors).T @ core as a matrix @ kron(in factors).T; term picks a slice of each."""
    pick = {name: a if term is None else a[term] for name, a in arrays.items()}
    in_kron = reduce(np.kron, (pick[f"in_{k}"] for k in range(inputs)))
    out_kron = reduce(np.kron, (pick[f"out_{k}"] for k in range(outputs)))
    core = pick["core"].reshape(in_kron.shape[1], out_kron.shape[0])
    return (in_kron @ core @ out_kron).T


@pytest.mark.parametrize(
    ("in_shape", "out_shape", "rank"),
    [((3,), (4,), 2), ((2, 3), (4, 2), [1, 2, 3, 2]), ((4, 3), (5,), 2), ((2,), (3, 2), [2, 1, 3])],
)
def test_tucker_is_core_between_kronecker_products(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...], rank: int | list[int]
) -> None:
    """W is the core as a matrix between the Kronecker products of the factors."""
    check_map(
        tucker(in_shape, out_shape, rank),
        lambda arrays: tucker_matrix(arrays, len(in_shape), len(out_shape)),
    )


@pytest.mark.parametrize(("terms", "rank"), [(1, 2), (3, 2), (2, [1, 2, 3])])
def test_block_term_is_the_sum_of_tucker_terms(terms: int, rank: int | list[int]) -> None:
    """W is the sum over t of the Tucker matrices of the slices number t."""
    check_map(
        block_term((2, 3), (4,), terms, rank),
        lambda arrays: sum((tucker_matrix(arrays, 2, 1, t) for t in range(terms)), np.zeros(())),
    )


@pytest.mark.parametrize(
    ("in_shape", "out_shape", "rank"), [((3,), (4,), 2), ((2, 3), (4, 2), 5), ((2, 3, 2), (5,), 1)]
)
def test_cp_is_a_sum_of_outer_products(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...], rank: int
) -> None:
    """W is the sum over r of outer products of one column a leg."""

    def direct(arrays: Arrays) -> np.ndarray:
        return sum(
            (
                np.outer(
                    reduce(np.kron, (arrays[f"out_{k}"][r] for k in range(len(out_shape)))),
                    reduce(np.kron, (arrays[f"in_{k}"][:, r] for k in range(len(in_shape)))),
                )
                for r in range(rank)
            ),
            np.zeros(()),
        )

    check_map(cp(in_shape, out_shape, rank), direct)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("in_shape", "out_shape"), SHAPES[1:])
def test_kronecker_is_a_sum_of_kronecker_products(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...], rank: int
) -> None:
    """W is the sum over r of np.kron of the factors' slices number r."""

    def direct(arrays: Arrays) -> np.ndarray:
        products = (
            reduce(np.kron, (arrays[f"factor_{k}"][r] for k in range(len(in_shape))))
            for r in range(rank)
        )
        return sum(products, np.zeros(()))

    check_map(kronecker(in_shape, out_shape, rank), direct)


def test_low_rank_is_u_v() -> None:
    """W = U V, with the matrices as they stand."""
    check_map(low_rank(5, 4, 2), lambda arrays: arrays["U"] @ arrays["V"])


@pytest.mark.parametrize(("in_shape", "out_shape"), [((3, 4), (5, 2)), ((2, 2), (2, 2))])
def test_monarch_is_block_diagonal_permutation_block_diagonal(
    in_shape: tuple[int, int], out_shape: tuple[int, int]
) -> None:
    """With two legs W = P2 L P1 R: R and L block diagonal, P1 and P2 swap two axes."""
    rows, (out_rows, out_columns) = in_shape[0], out_shape

    def swap(first: int, second: int) -> np.ndarray:
        order = np.arange(first * second).reshape(first, second).T.ravel()
        return np.eye(first * second)[order]

    def block_diagonal(blocks: np.ndarray) -> np.ndarray:
        count, height, width = blocks.shape
        matrix = np.zeros((count * height, count * width))
        for k in range(count):
            matrix[k * height : (k + 1) * height, k * width : (k + 1) * width] = blocks[k]
        return matrix

    def direct(arrays: Arrays) -> np.ndarray:
        right, left = block_diagonal(arrays["factor_1"]), block_diagonal(arrays["factor_0"])
        return swap(out_columns, out_rows) @ left @ swap(rows, out_columns) @ right

    check_map(monarch(in_shape, out_shape), direct)


@pytest.mark.parametrize(("in_shape", "out_shape"), SHAPES)
def test_btt_entries_are_products_of_core_blocks(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> None:
    """W[j, i] multiplies, core by core, the rank matrix of the block (i[..k-1], j[k+1..])."""
    cores = len(in_shape)
    ranks = [2, 3, 2][: cores - 1]

    def direct(arrays: Arrays) -> np.ndarray:
        def entry(j: tuple[int, ...], i: tuple[int, ...]) -> float:
            chain = np.ones((1, 1))
            for k in range(cores):
                block = arrays[f"core_{k}"][(*i[:k], *j[k + 1 :])]
                left = 1 if k == 0 else ranks[k - 1]
                right = 1 if k == cores - 1 else ranks[k]
                matrices = block.reshape(left, out_shape[k], in_shape[k], right)
                chain = chain @ matrices[:, j[k], i[k], :]
            return chain.item()

        return entry_matrix(in_shape, out_shape, entry)

    check_map(btt(in_shape, out_shape, ranks), direct)


def test_monarch_is_btt_at_rank_1() -> None:
    """Monarch and BTT at rank 1 have equal parameter counts and, from equal entries, equal maps."""
    shapes = (2, 3, 2), (3, 2, 2)
    one, other = monarch(*shapes).freeze(), btt(*shapes, rank=1).freeze()
    assert one.parameter_count == other.parameter_count
    arrays = random_arrays(one)
    same = {
        t.name: arrays[t.name.replace("core", "factor")].reshape(other.shape_of(t.legs))
        for t in other.tensors
    }
    np.testing.assert_allclose(dense_map(one, arrays), dense_map(other, same))


@pytest.mark.parametrize("features", [2, 4, 8, 32])
def test_butterfly_is_a_product_of_sparse_matrices(features: int) -> None:
    """Factor s is a matrix with n/2 two-by-two blocks on indices that differ by 2^s."""

    def direct(arrays: Arrays) -> np.ndarray:
        matrix = np.eye(features)
        for stage in range(features.bit_length() - 1):
            stride = 2**stage
            blocks = arrays[f"factor_{stage}"].reshape(-1, 2, 2)
            factor = np.zeros((features, features))
            first = [index for index in range(features) if not index & stride]
            for block, index in zip(blocks, first, strict=True):
                factor[np.ix_([index, index + stride], [index, index + stride])] = block
            matrix = factor @ matrix
        return matrix

    check_map(butterfly(features), direct)


def test_peps_of_two_by_two_is_one_contraction() -> None:
    """A 2x2 grid equals one einsum over its four sites: up, left, in, out, down, right."""

    def direct(arrays: Arrays) -> np.ndarray:
        sites = [arrays[f"site_{site}"] for site in ("0_0", "0_1", "1_0", "1_1")]
        full = np.einsum("aevh,hbfw,vcgk,wkdl->efglabcd", *sites)
        return full.reshape(16, 16)

    check_map(peps(2, 2, dim=2, bond=3), direct)


def test_peps_of_one_row_is_a_tensor_train() -> None:
    """A grid of one row is the tensor train with the cores' axes as they stand."""
    row, train = peps(1, 3, dim=2, bond=3).freeze(), tensor_train((2,) * 3, (2,) * 3, 3).freeze()
    arrays = random_arrays(train)
    sites = {f"site_0_{k}": arrays[f"core_{k}"] for k in range(3)}
    np.testing.assert_allclose(dense_map(row, sites), dense_map(train, arrays))


@pytest.mark.parametrize(("legs", "depth"), [(2, 1), (2, 3), (3, 1), (4, 3), (5, 2)])
def test_brickwall_is_a_product_of_embedded_gates(legs: int, depth: int) -> None:
    """Each gate is np.kron(identity, gate, identity); the circuit is their product."""

    def direct(arrays: Arrays) -> np.ndarray:
        matrix = np.eye(2**legs)
        for layer in range(depth):
            for k, left in enumerate(range(layer % 2, legs - 1, 2)):
                gate = arrays[f"gate_{layer}_{k}"].reshape(4, 4).T
                embedded = np.kron(np.eye(2**left), np.kron(gate, np.eye(2 ** (legs - left - 2))))
                matrix = embedded @ matrix
        return matrix

    check_map(brickwall(legs, dim=2, depth=depth), direct)


def hierarchy(arrays: Arrays, x: np.ndarray, legs: int, dim: int, disentangle: bool) -> np.ndarray:
    """Walk a batch of states up the levels as the paper tells it, by tensordot on axis positions.

    Axes are: batch, the sites from left to right, the outputs in the order of their making.
    """
    state = x.reshape(-1, *[dim] * legs)
    sites, level = legs, 0
    while sites > 2:
        if disentangle:
            for k, left in enumerate(s for s in range(1, sites, 2) if s + 1 < sites):
                pair = (1 + left, 2 + left)
                gate = arrays[f"disentangler_{level}_{k}"]
                state = np.moveaxis(np.tensordot(state, gate, (pair, (0, 1))), (-2, -1), pair)
        for k in range(sites // 2):
            gate = arrays[f"isometry_{level}_{k}"]
            # Pairs to the left have become one site each: the pair stands at axes k+1, k+2.
            state = np.tensordot(state, gate, ((1 + k, 2 + k), (0, 1)))
            state = np.moveaxis(state, -1, 1 + k)
        sites, level = (sites + 1) // 2, level + 1
    return np.tensordot(state, arrays["top"], ((1, 2), (0, 1))).reshape(len(x), -1)


@pytest.mark.parametrize("family", [mera, tree])
@pytest.mark.parametrize(("legs", "dim"), [(2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (4, 3)])
def test_hierarchy_is_gates_applied_level_by_level(
    family: Callable[..., Network], legs: int, dim: int
) -> None:
    """The map equals gates applied one after another; outputs stand in the order of making."""
    check_map(
        family(legs, dim, bond=3),
        lambda arrays: hierarchy(arrays, np.eye(dim**legs), legs, dim, family is mera).T,
    )


@pytest.mark.parametrize("family", [mera, tree])
@pytest.mark.parametrize("legs", [3, 6, 7])
def test_fixed_first_level_selects_rows(family: Callable[..., Network], legs: int) -> None:
    """Fixing the first level keeps the rows of the full map where its outputs are 0."""
    full, fixed = family(legs, 2, 3).freeze(), family(legs, 2, 3, fix_first_level=True).freeze()
    arrays = random_arrays(full)
    first = legs // 2
    rows = dense_map(full, arrays)[: 2 ** (legs - first)]
    assert fixed.out_features == len(rows)
    np.testing.assert_allclose(dense_map(fixed, arrays), rows)


# -- the structure of MERA and tree ------------------------------------------------------------


@pytest.mark.parametrize(
    ("bond", "fix_first_level", "count"),
    [(2, False, 304), (2, True, 256), (3, False, 963), (3, True, 819)],
)
def test_mera_of_the_paper(bond: int, fix_first_level: bool, count: int) -> None:
    """The paper's layers: 12 legs of size 2, 19 tensors, their parameters, 4096 or 64 outputs."""
    graph = mera(12, 2, bond, fix_first_level=fix_first_level).freeze()
    assert len(graph.tensors) == 19
    assert graph.parameter_count == count
    assert graph.in_features == 4096
    assert graph.out_features == (64 if fix_first_level else 4096)


@pytest.mark.parametrize("family", [mera, tree])
@pytest.mark.parametrize("legs", range(2, 21))
def test_hierarchy_sizes_for_any_number_of_legs(family: Callable[..., Network], legs: int) -> None:
    """Tensors, parameters, fixed parameters and features follow from the sizes of the sites."""
    dim, bond = 2, 3
    sites, shapes, first_level = [dim] * legs, list[tuple[int, ...]](), list[tuple[int, ...]]()
    while len(sites) > 2:
        if family is mera:
            pairs = [(k, k + 1) for k in range(1, len(sites) - 1, 2)]
            shapes += [(sites[a], sites[b], bond, bond) for a, b in pairs]
            inside = {site for pair in pairs for site in pair}
            sites = [bond if k in inside else size for k, size in enumerate(sites)]
        level = [(a, b, dim, bond) for a, b in zip(sites[::2], sites[1::2], strict=False)]
        first_level = first_level or level
        shapes += level
        sites = [bond] * len(level) + sites[2 * len(level) :]
    shapes.append((*sites, dim, dim))

    graph = family(legs, dim, bond).freeze()
    assert [graph.shape_of(t.legs) for t in graph.tensors] == shapes
    assert graph.in_features == graph.out_features == dim**legs
    if legs > 2:
        fixed = family(legs, dim, bond, fix_first_level=True).freeze()
        saved = sum(map(math.prod, first_level)) * (dim - 1) // dim
        assert fixed.parameter_count == sum(map(math.prod, shapes)) - saved
        assert fixed.out_features == dim ** (legs - legs // 2)


@pytest.mark.parametrize("family", [mera, tree])
def test_hierarchy_outputs_stand_in_the_order_of_making(family: Callable[..., Network]) -> None:
    """Output legs: level by level, left to right; the top's two come last."""
    graph = family(12, 2, 2).freeze()
    makers = [next(t.name for t in graph.tensors if leg in t.legs) for leg in graph.output]
    levels = [
        f"isometry_{level}_{k}" for level, count in enumerate((6, 3, 1)) for k in range(count)
    ]
    assert makers == [*levels, "top", "top"]


@pytest.mark.parametrize("net", [mera(7, 2, 3), tree(7, 2, 3), brickwall(5, 2, 3)])
def test_circuits_start_as_isometries_from_their_legs_in(net: Network) -> None:
    """Each tensor names its two legs in as a side of the isometry, so init is Haar-orthogonal."""
    assert {tensor.isometry for tensor in net.freeze().tensors} == {(0, 1)}


def test_brickwall_leaves_untouched_sites_as_pass_through() -> None:
    """A leg that no gate touches is an input and an output leg at once."""
    graph = brickwall(3, 2, 1).freeze()
    assert graph.output[2] == graph.inputs[0].legs[2]


# -- parameter formulas ------------------------------------------------------------------------

SIZES = st.integers(1, 5)
PAIRS = st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=5)


@given(PAIRS, st.integers(1, 6))
def test_parameter_formulas_of_paired_families(pairs: list[tuple[int, int]], rank: int) -> None:
    """Counts of families with one tensor a pair of legs equal the formulas in their docstrings."""
    in_shape, out_shape = (tuple(side) for side in zip(*pairs, strict=True))
    cores = len(pairs)
    bonds = [1, *[rank] * (cores - 1), 1]
    areas = [size_in * size_out for size_in, size_out in pairs]
    blocks = [math.prod(in_shape[: k + 1]) * math.prod(out_shape[k:]) for k in range(cores)]

    train = sum(a * r * s for a, (r, s) in zip(areas, pairwise(bonds), strict=True))
    assert tensor_train(in_shape, out_shape, rank).parameter_count == train
    assert tensor_ring(in_shape, out_shape, rank).parameter_count == rank**2 * sum(areas)
    block_train = sum(b * r * s for b, (r, s) in zip(blocks, pairwise(bonds), strict=True))
    assert btt(in_shape, out_shape, rank).parameter_count == block_train
    assert monarch(in_shape, out_shape).parameter_count == sum(blocks)
    if cores > 1:
        assert kronecker(in_shape, out_shape, rank).parameter_count == rank * sum(areas)


@given(
    st.lists(SIZES, min_size=1, max_size=3),
    st.lists(SIZES, min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_parameter_formulas_of_families_with_a_factor_a_leg(
    in_shape: list[int], out_shape: list[int], rank: int, terms: int
) -> None:
    """Counts of tucker, block_term and cp equal the formulas in their docstrings."""
    sizes = [*in_shape, *out_shape]
    term = rank ** len(sizes) + rank * sum(sizes)
    assert tucker(in_shape, out_shape, rank).parameter_count == term
    assert block_term(in_shape, out_shape, terms, rank).parameter_count == terms * term
    assert cp(in_shape, out_shape, rank).parameter_count == rank * sum(sizes)


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (low_rank(7, 5, 3), 3 * 12),
        (butterfly(2), 4),
        (butterfly(1024), 2 * 1024 * 10),
        (peps(1, 1, 3, 5), 9),
        (peps(2, 3, 2, 3), 4 * (4 * 3**2 + 2 * 3**3)),
        (peps(3, 3, 2, 3), 4 * (4 * 3**2 + 4 * 3**3 + 3**4)),
        (brickwall(5, 3, 4), 81 * 8),
        (brickwall(6, 2, 5), 16 * (3 * 3 + 2 * 2)),
        (mera(12, 3, 4), 8 * 9 * 16 + 8 * 3 * 64 + 3 * 256),
        (tree(12, 3, 4), 6 * 27 * 4 + 4 * 3 * 64 + 9 * 16),
    ],
)
def test_parameter_formulas_by_table(net: Network, count: int) -> None:
    """Counts equal the docstrings' formulas worked out by hand."""
    assert net.parameter_count == count


# -- names, files, errors ----------------------------------------------------------------------


def test_tensor_train_legs_have_documented_names() -> None:
    """Names are core_k, ik, jk and bk, so that a user can fix legs and bring values."""
    net = tensor_train((2, 3), (4, 5), 6)
    net.fix(j0=3)
    graph = net.freeze()
    assert [(t.name, t.legs) for t in graph.tensors] == [
        ("core_0", ("i0", "j0", "b0")),
        ("core_1", ("b0", "i1", "j1")),
    ]
    assert graph.out_features == 5
    assert graph.parameter_count == 2 * 6 + 6 * 3 * 5


def test_the_package_exports_each_file() -> None:
    """Each file of the folder holds the function of its name, and __all__ names them all."""
    files = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    assert sorted(topologies.__all__) == files
    assert all(callable(getattr(topologies, name)) for name in files)


@pytest.mark.parametrize("family", FAMILIES, ids=topologies.__all__)
def test_topologies_need_nothing_but_the_public_builder(family: Callable[..., Network]) -> None:
    """A topology imports only Network, the error and how a value is shown in it, uses no private
    name and stays short."""
    source = Path(inspect.getfile(family)).read_text()
    syntax = ast.parse(source)
    imported = {
        node.module for node in ast.walk(syntax) if isinstance(node, ast.ImportFrom) and node.module
    }
    allowed = {"errors", "graph.network", "graph.argument_checks"}
    assert imported <= {"__future__", "collections.abc", *allowed}
    attributes = {node.attr for node in ast.walk(syntax) if isinstance(node, ast.Attribute)}
    assert not [name for name in attributes if name.startswith("_")]
    function = next(node for node in syntax.body if isinstance(node, ast.FunctionDef))
    body = function.body[1:]
    assert (function.end_lineno or 0) - body[0].lineno < 40


@pytest.mark.parametrize("family", FAMILIES, ids=topologies.__all__)
def test_docstrings_have_diagram_formula_source_and_doctest(
    family: Callable[..., Network],
) -> None:
    """Each docstring has a diagram, the parameter formula, the source and a doctest."""
    text = inspect.getdoc(family) or ""
    for part in ("::\n", "\nParameters: ", "\nSource: ", "\nArguments:", "\nRaises:", "\n>>> "):
        assert part in text, part


BAD_CALLS: list[tuple[Callable[..., Network], tuple[Any, ...], tuple[str, ...]]] = [
    (tensor_train, ((2, 2), (2,), 2), ("in_shape=(2, 2)", "out_shape=(2,)", "pad")),
    (tensor_train, ((), (), 2), ("in_shape=()", "not empty")),
    (tensor_train, (16, 16, 2), ("in_shape=16", "sequences", "Factorize")),
    (tensor_train, ((2, 2), (2, 2), (2, 2)), ("rank has 2 entries", "expected 1")),
    (tensor_ring, ((2, 2), (2, 2, 2), 2), ("in_shape=(2, 2)", "out_shape=(2, 2, 2)", "pad")),
    (tensor_ring, ((2, 2), (2, 2), (2,)), ("rank has 1 entries", "expected 2")),
    (tucker, ((), (2,), 2), ("in_shape=()", "not empty")),
    (tucker, ((2, 2), 4, 2), ("out_shape=4", "sequences")),
    (tucker, ((2, 2), (2,), (2, 2)), ("rank has 2 entries", "expected 3")),
    (block_term, ((2,), (), 2, 2), ("out_shape=()", "not empty")),
    (block_term, ((2, 2), (2,), 2, (2, 2, 2, 2)), ("rank has 4 entries", "expected 3")),
    (cp, ((2,), (), 2), ("out_shape=()", "not empty")),
    (kronecker, ((2, 2), (2,)), ("in_shape=(2, 2)", "out_shape=(2,)", "pad")),
    (kronecker, ((2,), (2,)), ("in_shape=(2,)", "at least two")),
    (kronecker, (4, (2, 2)), ("in_shape=4", "sequences")),
    (btt, ((2,), (2, 2), 2), ("in_shape=(2,)", "out_shape=(2, 2)", "pad")),
    (btt, ((2, 2), (2, 2), (1, 2, 3)), ("rank has 3 entries", "expected 1")),
    (monarch, ((2,), (2, 2)), ("in_shape=(2,)", "out_shape=(2, 2)", "pad")),
    (butterfly, (12,), ("features=12", "power of two")),
    (butterfly, (1,), ("features=1", "at least 2")),
    (butterfly, (0,), ("features=0", "power of two")),
    (butterfly, (8.0,), ("features=8.0", "power of two")),
    (peps, (0, 3, 2, 2), ("rows=0", "from 1 up")),
    (peps, (2, 1.5, 2, 2), ("columns=1.5", "whole numbers")),
    (peps, (10**6, 10**6, 2, 2), ("rows=1000000", "at most 4096 sites")),
    (brickwall, (1, 2, 1), ("legs=1", "legs from 2 to 4096")),
    (brickwall, (4, 2, 0), ("depth=0", "depth from 1 up")),
    (brickwall, (10**12, 2, 1), ("legs=1000000000000", "legs from 2 to 4096")),
    (mera, (1, 2, 2), ("legs=1 ", "from 2 to 4096")),
    (mera, (2, 2, 2, True), ("legs=2 ", "fix_first_level=True", "from 3 to 4096")),
    (mera, (10**12, 2, 2), ("legs=1000000000000 ", "from 2 to 4096")),
    (tree, (0, 2, 2), ("legs=0 ", "from 2 to 4096")),
    (tree, (2, 2, 2, True), ("legs=2 ", "fix_first_level=True", "from 3 to 4096")),
    (tree, (4.0, 2, 2), ("legs=4.0 ", "whole number")),
]


@pytest.mark.parametrize(("family", "arguments", "parts"), BAD_CALLS)
def test_bad_arguments_name_what_was_expected_and_got(
    family: Callable[..., Network], arguments: tuple[Any, ...], parts: tuple[str, ...]
) -> None:
    """A bad argument gives a SpecError with the function, the argument, expected and got."""
    with pytest.raises(SpecError) as caught:
        family(*arguments)
    for part in (f"{family.__name__}: ", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        (tensor_train, ((2, 0), (2, 2), 2)),
        (tensor_ring, ((2, 2), (2, 2), -1)),
        (tucker, ((2, 2), (2, 2), 0)),
        (block_term, ((2,), (2,), 0, 2)),
        (cp, ((2,), (2,), 0)),
        (kronecker, ((2, 2), (2, 2), 0)),
        (btt, ((2, 2), (2, -2), 1)),
        (monarch, ((2, 0), (2, 2))),
        (low_rank, (4, 0, 2)),
        (low_rank, (2**50, 4, 2)),
        (tensor_train, ((2, 2), (2, 2), 2.5)),
        (peps, (2, 2, 2, 0)),
        (brickwall, (4, 0, 1)),
        (mera, (4, 2, 0)),
        (tree, (4, 0, 2)),
    ],
)
def test_wrong_sizes_are_refused_by_the_builder(
    family: Callable[..., Network], arguments: tuple[Any, ...]
) -> None:
    """A size that is zero, negative, broken or too large is a SpecError that names its leg."""
    with pytest.raises(SpecError, match=r"the size of a leg must be"):
        family(*arguments)
