"""MERAs of other shapes, states, classifiers, circuits and block matrices against numpy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

import tnlayer as tn
from tests.support import oracle
from tnlayer import topologies as T

Arrays = dict[str, np.ndarray]


def arrays_of(graph: tn.Graph) -> Arrays:
    """One array a stored tensor, the same in every run."""
    generator = np.random.default_rng(2026)
    return {p.name: generator.standard_normal(p.shape) for p in graph.parameters}


def check(net: tn.Network, direct: Callable[[np.ndarray, Arrays], np.ndarray]) -> None:
    """Assert that the network does to a batch of x what a walk over the state does."""
    graph = net.freeze()
    arrays = arrays_of(graph)
    generator = np.random.default_rng(7)
    shape = graph.input_shape(graph.inputs[0]) if graph.inputs else ()
    x = generator.standard_normal((3, *shape))
    found = oracle.evaluate(graph, [x] if graph.inputs else [], arrays)
    expected = direct(x, arrays)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-10, atol=1e-10)


class State:
    """A batch of states: one axis a site, from left to right; outputs leave in their order."""

    def __init__(self, x: np.ndarray, shape: Sequence[int]) -> None:
        self.array = x.reshape(len(x), *shape)
        self.axes: list[object] = ["batch", *range(len(shape))]  # sites are called by position
        self.outputs: list[str] = []

    def apply(self, array: np.ndarray, sites: Sequence[int], made: Sequence[object]) -> None:
        """Contract a tensor with some sites; its further axes are called as ``made`` says."""
        places = [self.axes.index(site) for site in sites]
        self.array = np.tensordot(self.array, array, (places, range(len(sites))))
        self.axes = [axis for axis in self.axes if axis not in sites] + list(made)

    def out(self, name: str) -> str:
        """The label of a further output."""
        self.outputs.append(name)
        return name

    def read(self, order: Sequence[object]) -> np.ndarray:
        """The state with its axes in an order, behind the batch."""
        return self.array.transpose([0, *(self.axes.index(one) for one in order)])


# -- hierarchies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("legs", "dim", "bond"), [(4, 2, 2), (8, 2, 3), (8, 2, 4), (4, 3, 5)])
@pytest.mark.parametrize("share", [False, True])
def test_periodic_mera(legs: int, dim: int, bond: int, share: bool) -> None:
    """Level by level on a ring; with share the first tensor of a level stands for all."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        state, sites, level = State(x, [dim] * legs), list(range(legs)), 0
        while len(sites) > 2:
            n = len(sites)
            for k in range(n // 2):
                pair = [sites[2 * k + 1], sites[(2 * k + 2) % n]]
                gate = arrays[f"disentangler_{level}_{0 if share else k}"]
                state.apply(gate, pair, pair)
            for k in range(n // 2):
                gate = arrays[f"isometry_{level}_{0 if share else k}"]
                up = sites[2 * k]
                state.apply(gate, sites[2 * k : 2 * k + 2], [state.out(f"{level}.{k}"), up])
            sites, level = sites[::2], level + 1
        state.apply(arrays["top"], sites, [state.out("left"), state.out("right")])
        return state.read(state.outputs)

    check(T.periodic_mera(legs, dim, bond, share), direct)


@pytest.mark.parametrize(("legs", "dim", "bond"), [(3, 2, 2), (6, 2, 3), (9, 2, 2)])
def test_ternary_mera(legs: int, dim: int, bond: int) -> None:
    """Disentanglers between blocks of three, then isometries on the blocks."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        state, sites, level = State(x, [dim] * legs), list(range(legs)), 0
        while len(sites) > 3:
            for k, left in enumerate(range(2, len(sites) - 1, 3)):
                pair = sites[left : left + 2]
                state.apply(arrays[f"disentangler_{level}_{k}"], pair, pair)
            for k in range(len(sites) // 3):
                three = sites[3 * k : 3 * k + 3]
                made = [state.out(f"{level}.{k}"), three[0]]
                state.apply(arrays[f"isometry_{level}_{k}"], three, made)
            sites, level = sites[::3], level + 1
        state.apply(arrays["top"], sites, [state.out(f"top {site}") for site in sites])
        return state.read(state.outputs)

    check(T.ternary_mera(legs, dim, bond), direct)


@pytest.mark.parametrize(("rows", "columns", "bond"), [(2, 2, 2), (2, 4, 2), (4, 2, 3), (4, 4, 2)])
def test_two_dimensional_mera(rows: int, columns: int, bond: int) -> None:
    """Disentanglers on the inner corners of the blocks, then an isometry a block."""

    def corner(row: int, column: int) -> list[int]:
        return [(row + a) * columns + column + b for a in (0, 1) for b in (0, 1)]

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        # One level is enough for these: what is left goes into the top.
        state = State(x, [2] * rows * columns)
        if rows * columns == 4:
            state.apply(arrays["top"], corner(0, 0), [state.out(f"{k}") for k in range(4)])
            return state.read(state.outputs)
        for row in range(1, rows - 1, 2):
            for column in range(1, columns - 1, 2):
                four = corner(row, column)
                name = f"disentangler_0_{row // 2}_{column // 2}"
                state.apply(arrays[name], four, four)
        left: list[int] = []
        for row in range(0, rows, 2):
            for column in range(0, columns, 2):
                four, name = corner(row, column), f"isometry_0_{row // 2}_{column // 2}"
                state.apply(arrays[name], four, [state.out(name), four[0]])
                left.append(four[0])
        state.apply(arrays["top"], left, [state.out(f"{k}") for k in range(len(left))])
        return state.read(state.outputs)

    check(T.mera_2d(rows, columns, 2, bond), direct)


def test_a_grid_of_eight_by_eight_has_two_levels() -> None:
    """16 blocks, then 4, then the top."""
    graph = T.mera_2d(8, 8, 1, 1).freeze()  # of size 1: of 2 no port could have 64
    names = [t.name for t in graph.tensors]
    assert sum(name.startswith("isometry_0") for name in names) == 16
    assert sum(name.startswith("isometry_1") for name in names) == 4
    assert sum(name.startswith("disentangler_0") for name in names) == 9
    assert sum(name.startswith("disentangler_1") for name in names) == 1
    assert len(graph.nodes["top"].legs) == 8


@pytest.mark.parametrize("legs", [2, 3, 5, 6])
def test_augmented_tree_is_a_tree_behind_disentanglers(legs: int) -> None:
    """The same as the tree of x on which the disentanglers acted."""
    net, plain = T.augmented_tree(legs, 2, 3), T.tree(legs, 2, 3).freeze()

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        state = State(x, [2] * legs)
        for k in range((legs - 1) // 2):
            pair = [2 * k + 1, 2 * k + 2]
            state.apply(arrays[f"disentangler_{k}"], pair, pair)
        turned = state.read(range(legs)).reshape(len(x), -1)
        own = {t.name: arrays[t.name] for t in plain.tensors}
        return np.asarray(oracle.evaluate(plain, [turned], own))

    check(net, direct)


@pytest.mark.parametrize("name", ["periodic", "ternary", "two dimensions"])
def test_maps_that_keep_all_are_orthogonal(name: str) -> None:
    """Where the bond divides, the whole map starts as an orthogonal matrix."""
    net = {
        "periodic": lambda: T.periodic_mera(8, 2, 4),
        "ternary": lambda: T.ternary_mera(6, 2, 4),
        "two dimensions": lambda: T.mera_2d(2, 4, 2, 4),
    }[name]()
    dense = tn.Layer(net, backend="torch", effort="fast", dtype="float64").to_dense()
    assert dense.shape[0] == dense.shape[1] == math.prod([2] * int(math.log2(net.in_features)))
    np.testing.assert_allclose((dense @ dense.T).detach(), np.eye(len(dense)), atol=1e-9)


# -- states and classifiers ------------------------------------------------------------------------


def test_mps_entries_are_products_of_matrices() -> None:
    """Each entry is the product of the chosen matrices."""

    def direct(_: np.ndarray, arrays: Arrays) -> np.ndarray:
        a, b, c = (arrays[f"site_{k}"] for k in range(3))
        return np.einsum("ia,ajb,bk->ijk", a, b, c)

    check(T.mps(3, 2, 3), direct)


@pytest.mark.parametrize("sites", [2, 3, 4])
def test_mps_classifier(sites: int) -> None:
    """Vectors into the chain, and the class out of its middle."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        middle = sites // 2

        def walk(order: Sequence[int], backwards: bool) -> np.ndarray:
            state = np.ones((len(x), 1))
            for k in order:
                core = arrays[f"site_{k}"]
                core = core[None] if k == 0 else core
                core = core[..., None] if k == sites - 1 else core
                rule = "cia,ba,bi->bc" if backwards else "aic,ba,bi->bc"
                state = np.einsum(rule.replace("b", "n"), core, state, x[:, k])
            return state

        left, right = walk(range(middle), False), walk(range(sites - 1, middle - 1, -1), True)
        return np.einsum("na,acb,nb->nc", left, arrays["label"], right)

    check(T.mps_classifier(sites, 2, 3, classes=5), direct)


def test_peps_states_and_classifiers() -> None:
    """A grid of 2 x 2 is one einsum over its sites: up, left, open, down, right."""

    def state(_: np.ndarray, arrays: Arrays) -> np.ndarray:
        sites = [arrays[f"site_{site}"] for site in ("0_0", "0_1", "1_0", "1_1")]
        return np.einsum("evh,hfw,vgk,wkl->efgl", *sites)

    def classes(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        sites = [arrays[f"site_{site}"] for site in ("0_0", "0_1", "1_0", "1_1")]
        vectors = [x[:, k] for k in range(4)]
        return np.einsum("evh,hfw,vgk,wklc,ne,nf,ng,nl->nc", *sites, *vectors)

    check(T.peps_state(2, 2, 2, 3), state)
    check(T.peps_classifier(2, 2, 2, 3, classes=4), classes)


# -- circuits and blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize(("legs", "gates"), [(4, None), (4, 2), (5, 3)])
def test_random_circuit(legs: int, gates: int | None) -> None:
    """The gates act in the order of their numbers on pairs that the seed draws."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        state, draw, count = State(x, [2] * legs), random.Random(5), 0
        for _ in range(3):
            order = draw.sample(range(legs), legs)
            for a, b in zip(order[::2], order[1::2], strict=False):
                owner = count if gates is None else count % gates
                state.apply(arrays[f"gate_{owner}"], [a, b], [a, b])
                count += 1
        return state.read(range(legs))

    net = T.random_circuit(legs, 2, depth=3, gates=gates, seed=5)
    check(net, direct)
    several = 3 * (legs // 2)
    assert net.parameter_count == 16 * (several if gates is None else min(gates, several))


@pytest.mark.parametrize(("shape", "layers"), [((2, 3), 1), ((2, 3, 2), 2)])
def test_quanta(shape: tuple[int, ...], layers: int) -> None:
    """Each pair of axes has its matrix, the last pair first, as in the paper."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        state = State(x, shape)
        for layer in range(layers):
            for m, n in sorted(combinations(range(len(shape)), 2), reverse=True):
                state.apply(arrays[f"gate_{layer}_{m}_{n}"], [m, n], [m, n])
        return state.read(range(len(shape)))

    net = T.quanta(shape, layers)
    check(net, direct)
    squares = sum((a * b) ** 2 for a, b in combinations(shape, 2))
    assert net.parameter_count == layers * squares


def test_blast_blocks_share_bases() -> None:
    """Block (p, q) is U_p diag(s_pq) V_q^T."""

    def direct(x: np.ndarray, arrays: Arrays) -> np.ndarray:
        rows = [
            np.hstack(
                [arrays["U"][p] @ np.diag(arrays["S"][p, q]) @ arrays["V"][q].T for q in range(2)]
            )
            for p in range(2)
        ]
        return x @ np.vstack(rows).T

    net = T.blast(6, 4, blocks=2, rank=3)
    check(net, direct)
    assert net.parameter_count == 3 * (6 + 4 + 4)


# -- formulas --------------------------------------------------------------------------------------

COUNTS: dict[str, tuple[Callable[[], tn.Network], int]] = {
    "periodic": (lambda: T.periodic_mera(8, 2, 4), 4 * 16 + 4 * 16 + 2 * 256 + 2 * 256 + 256),
    "periodic, shared": (lambda: T.periodic_mera(8, 2, 2, True), 2 * 16 + 2 * 16 + 16),
    "ternary": (lambda: T.ternary_mera(9, 2, 4), 2 * 16 + 3 * 8 * 8 + 64**2),
    "two dimensions": (lambda: T.mera_2d(4, 4, 2, 2), 256 + 4 * 16 * 16 + 16**2),
    "MPS": (lambda: T.mps(5, 2, 3), 2 * 6 + 3 * 18),
    "MPS classifier": (lambda: T.mps_classifier(5, 2, 3, 7), 2 * 6 + 3 * 18 + 63),
    "PEPS state": (lambda: T.peps_state(3, 3, 2, 2), 2 * (4 * 4 + 4 * 8 + 16)),
    "PEPS classifier": (lambda: T.peps_classifier(3, 3, 2, 2, 5), 2 * (4 * 4 + 4 * 8 + 5 * 16)),
    "augmented tree": (lambda: T.augmented_tree(4, 2, 3), 16 + 2 * 24 + 36),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    """As the formula of the docstring has it."""
    make, count = COUNTS[name]
    assert make().parameter_count == count
