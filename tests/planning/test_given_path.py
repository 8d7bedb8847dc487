"""Orders of contraction of the user's: read, kept, run, and refused where they are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import opt_einsum
import pytest
import torch

import tnlayer as tn
from tests.support import oracle
from tests.support.small_topologies import NETWORKS
from tests.support.strategies import collect
from tnlayer import topologies
from tnlayer.errors import SpecError


def random_path(count: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Any order of so many operands: of two, now and then of three, or of one that is put last."""
    path: list[tuple[int, ...]] = []
    while count > 1:
        size = min(count, int(generator.choice([1, 2, 2, 2, 3])))
        path.append(tuple(int(k) for k in generator.permutation(count)[:size]))
        count -= size - 1
    return path


def operands_of(graph: tn.Graph) -> int:
    """Inputs, of a product input one vector a leg, and tensors."""
    vectors = (len(graph.open_legs(p.legs)) if p.product else 1 for p in graph.inputs)
    return sum(vectors) + len(graph.tensors)


def test_any_order_gives_the_oracles_values() -> None:
    """Random orders of random networks: products without a common leg, orders of three at once."""
    generator, ran = np.random.default_rng(3), 0
    for case in collect(False, 8400, 25):
        graph = case.net.freeze()
        path = random_path(operands_of(graph), generator)
        if not path:
            continue
        program = tn.compile(case.net, backend="torch", dtype="float64", path=path)
        arrays = {p.name: torch.randn(p.shape, dtype=torch.float64) for p in graph.parameters}
        shapes = [((3,) if p.batched else ()) + graph.input_shape(p) for p in graph.inputs]
        inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
        full = {name: array.numpy() for name, array in arrays.items()}
        expected = oracle.evaluate(graph, [x.numpy() for x in inputs], full)
        found = program(*inputs, parameters=arrays)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
        ran += 1
    assert ran > 15


@pytest.mark.parametrize("name", NETWORKS)
def test_the_path_of_a_plan_gives_the_plan(name: str) -> None:
    """What cost.path says is read back to the same products, and printed as the user's."""
    net = NETWORKS[name]()
    found = tn.cost(net, batch=16, backend="torch", minimize="flops")
    again = tn.cost(net, batch=16, backend="torch", path=found.path)
    assert again.path == found.path
    assert again.plan.minimize == "path"
    assert "the order of your path (as given)" in str(again.plan)
    assert "your path" in again.reason


def test_costs_are_those_of_the_order() -> None:
    """FLOPs as opt_einsum counts them, in the order that was given and no other."""
    net = topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=3)
    good, bad = [(0, 1), (0, 2), (0, 1)], [(1, 2), (1, 2), (0, 1)]
    flops = {}
    for path in (good, bad):
        plan = tn.plan(net, batch=8, path=path)
        flops[str(path)] = plan.counts.flops.at(8)
        text = "zabc,adr,rbes,scf->zdef"
        sizes = [(8, 4, 4, 4), (4, 4, 3), (3, 4, 4, 3), (3, 4, 4)]
        info = opt_einsum.contract_path(text, *sizes, shapes=True, optimize=path)[1]
        assert flops[str(path)] == info.opt_cost
    assert flops[str(bad)] > flops[str(good)]


def test_paths_of_numpy_are_taken() -> None:
    """With the word before the steps, and with numpy's integers."""
    net = topologies.low_rank(6, 4, rank=2)
    path = np.einsum_path("zi,ri,rj->zj", np.ones((8, 6)), np.ones((2, 6)), np.ones((2, 4)))[0]
    assert path[0] == "einsum_path"
    steps = [tuple(step) for step in path[1:]]
    asked: list[Any] = [path, np.array(steps), [np.array(step) for step in steps]]
    for given in asked:
        assert tn.cost(net, batch=8, path=given).path == tuple(steps)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_other_batch_sizes_limits_and_kernels_keep_the_order(backend: str) -> None:
    """The order stands in for a search; all else is chosen as ever."""
    net = topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=3)
    path = ((2, 3), (1, 2), (0, 1))
    asked: list[dict[str, Any]] = [
        {"batch": 1},
        {"batch": 500},
        {"batch": 64, "memory_limit": "1MB"},
    ]
    for options in asked:
        found = tn.cost(net, backend=backend, path=path, **options)
        assert found.path == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("optimal", r"path='optimal': expected steps"),
        (7, "path=7: expected steps"),
        ([(0, 1), 3], "step 1 is 3; expected different places"),
        ([(0, 0)], "step 0 is .*expected different places"),
        ([(0, 3)], "step 0 names place 3, but 3 operands are left there, 0 to 2"),
        ([(0, True)], "step 0 is"),
        ([(0, 1)], "leaves 2 of 3 operands .* 1 of the inputs, then V, U"),
        ([(0, 1), (0, 1), (0, 1)], "step 2 names place 1, but 1 operands are left"),
        ([], "leaves 3 of 3 operands"),
    ],
)
def test_what_is_no_path_is_told(path: Any, words: str) -> None:
    """Which step, what it names, and what there is."""
    with pytest.raises(SpecError, match=words):
        tn.plan(topologies.low_rank(6, 4, rank=2), path=path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, path: tn.plan(net, path=path, minimize="flops"), "path= is an order, and"),
        (lambda net, path: tn.cost(net + net, path=path), "one network, and this is a sum"),
        (
            lambda net, path: tn.Layer(net, path=path),  # pyright: ignore[reportCallIssue]
            r"tn.compile\(net, path=",
        ),
    ],
    ids=["minimize", "sum", "layer"],
)
def test_where_a_path_has_no_place(call: Callable[..., object], words: str) -> None:
    """Beside a search, for several networks, in a layer."""
    with pytest.raises(SpecError, match=words):
        call(topologies.low_rank(6, 4, rank=2), [(0, 1), (0, 1)])
