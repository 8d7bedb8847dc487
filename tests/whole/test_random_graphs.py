"""Random networks, forward and gradient, against the oracle: 400 always, 10,000 with -m full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given

import tnlayer as tn
from tests.support import oracle
from tests.support.against_oracle import KINDS, check_case
from tests.support.strategies import Case, fixed_series, networks, run_examples
from tnlayer import topologies
from tnlayer.graph.graph import Graph

SHARDS, CASES_A_SHARD = 2, 100
FULL_SHARDS, CASES_A_FULL_SHARD = 10, 500


# -- the tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_equal_the_oracle(kind: str, shard: int) -> None:
    """Value and all gradients of a random network must be the oracle's: 400 cases in all."""
    dtype = KINDS[kind]
    run_examples(
        lambda case: check_case(case, dtype), dtype.is_complex, 1000 + shard, CASES_A_SHARD
    )


@pytest.mark.full
@pytest.mark.parametrize("shard", range(FULL_SHARDS))
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_networks_equal_the_oracle(kind: str, shard: int) -> None:
    """The same for 10,000 other cases."""
    dtype = KINDS[kind]
    run_examples(
        lambda case: check_case(case, dtype), dtype.is_complex, 2000 + shard, CASES_A_FULL_SHARD
    )


# More tensors than are searched exhaustively, so that the plan comes from a seeded search.
MANY_TENSORS: dict[str, Callable[[], tn.Network]] = {
    "brickwall": lambda: topologies.brickwall(6, dim=2, depth=6),
    "mera": lambda: topologies.mera(9, dim=2, bond=3, fix_first_level=True),
    "tensor_ring": lambda: topologies.tensor_ring((2, 1) * 7, (1, 2) * 7, 2),
    "peps": lambda: topologies.peps(4, 4, dim=1, bond=2),
    "block_term": lambda: topologies.block_term((2,) * 6, (2,) * 6, terms=2, rank=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MANY_TENSORS)
def test_networks_of_many_tensors_equal_the_oracle(name: str, kind: str, backend: str) -> None:
    """Value and all gradients of networks of more than twelve tensors must be the oracle's."""
    net = MANY_TENSORS[name]()
    assert len(net.freeze().tensors) > 12
    check_case(
        Case(net, lead=(2,), layouts=("contiguous",), frozen=0, seed=1), KINDS[kind], backend
    )


def features_of(graph: Graph) -> set[str]:
    """What is special about a graph, of the things that the random cases must contain."""
    nodes = [*(t.legs for t in graph.tensors), *(p.legs for p in graph.inputs), graph.output]
    ends = Counter(leg for legs in nodes for leg in set(legs))
    axes = Counter(leg for legs in nodes for leg in legs)
    fixed = dict(graph.fixed)
    groups = {leg: {leg} for leg in ends}
    for legs in nodes:
        joined = set().union(*(groups[leg] for leg in legs), legs)
        groups.update(dict.fromkeys(joined, joined))
    input_legs = {leg for port in graph.inputs for leg in port.legs}
    sharers = [t for t in graph.tensors if t.share is not None]
    found = {
        "hyperedge": any(count > 2 for count in ends.values()),
        "trace": any(axes[leg] == 2 and count == 1 for leg, count in ends.items()),
        "diagonal": any(axes[leg] > count > 1 for leg, count in ends.items()),
        "three ends on one tensor": any(t.legs.count(e) > 2 for t in graph.tensors for e in t.legs),
        "leg twice on an input": any(len(set(p.legs)) < len(p.legs) for p in graph.inputs),
        "shared": bool(sharers),
        "shared conjugate": any(t.conj != graph.nodes[t.share or ""].conj for t in sharers),
        "shared and fixed": any(leg in fixed for t in sharers for leg in t.legs),
        "fixed input": any(leg in input_legs for leg in fixed),
        "fixed output": any(leg in graph.output for leg in fixed),
        "size 1": any(size == 1 for _, size in graph.leg_sizes),
        "disconnected": len({frozenset(group) for group in groups.values()}) > 1,
        "several inputs": len(graph.inputs) > 1,
        "mixed batch": len({port.batched for port in graph.inputs}) > 1,
        "only unbatched": bool(graph.inputs) and not any(p.batched for p in graph.inputs),
        "product port": any(port.product for port in graph.inputs),
        "complex port": any(port.dtype is not None for port in graph.inputs),
        "constant": any(t.value is not None and not t.trainable for t in graph.tensors),
        "first value": any(t.value is not None and t.trainable for t in graph.tensors),
        "frozen": any(t.value is None and not t.trainable for t in graph.tensors),
        "scalar": any(not t.legs for t in graph.tensors),
        "summed": bool(graph.summed),
        "pass-through": any(leg in input_legs for leg in graph.output),
        "no tensors": not graph.tensors,
        "no inputs": not graph.inputs,
        "no outputs": not graph.output,
        "six tensors": len(graph.tensors) == 6,
        "wires": any("." in leg for leg, _ in graph.leg_sizes),
    }
    return {name for name, is_found in found.items() if is_found}


def test_random_networks_contain_every_feature() -> None:
    """Among 500 random networks each feature of a network must occur at least five times."""
    seen: Counter[str] = Counter()

    @fixed_series(3000, 500, shrink=False)
    @given(net=networks(is_complex=True))
    def count(net: tn.Network) -> None:
        graph = net.freeze()
        assert oracle.loop_space(graph) <= 20_000
        seen.update(features_of(graph))

    count()
    everything = features_of(Graph("", (), (), (), ()))
    assert "no tensors" in everything
    rare = {name: seen[name] for name in FEATURES if seen[name] < 5}
    assert not rare, f"too rare: {rare}"


FEATURES = (
    "hyperedge", "trace", "diagonal", "three ends on one tensor", "leg twice on an input",
    "shared", "shared conjugate", "shared and fixed", "fixed input", "fixed output", "size 1",
    "disconnected", "several inputs", "mixed batch", "only unbatched", "product port",
    "complex port", "constant", "first value", "frozen", "scalar", "summed", "pass-through",
    "no tensors", "no inputs", "no outputs", "six tensors", "wires",
)  # fmt: skip
