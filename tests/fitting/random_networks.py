"""Random networks with entries, and the dense tensors that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given

import tnlayer as tn
from tests.support import oracle
from tests.support.strategies import Bounds, fixed_series, named_networks, wire_networks

BOUNDS = Bounds(space=4000, tensors=8, inputs=2, legs=12)


@dataclass(frozen=True)
class Sample:
    """A network, random entries of it, and its dense tensor.

    Arguments:
        graph: with at least one tensor that is free.
        stored: its entries; constants as they are.
        dense: (out_features, features of each input).
    """

    graph: tn.Graph
    stored: dict[str, np.ndarray]
    dense: np.ndarray

    @property
    def frozen(self) -> dict[str, np.ndarray]:
        """Entries that a fit has to be told."""
        return {p.name: self.stored[p.name] for p in self.graph.parameters if not p.node.trainable}


def sample_of(graph: tn.Graph, random: np.random.Generator, *, is_complex: bool = False) -> Sample:
    """Random entries for a network."""
    stored: dict[str, np.ndarray] = {}
    for p in graph.parameters:
        entries = random.standard_normal(p.shape)
        if is_complex:
            entries = entries + 1j * random.standard_normal(p.shape)
        if p.node.value is not None and not p.node.trainable:
            cut = tuple(slice(None) if pin is None else pin for pin in p.pins)
            entries = np.asarray(p.node.value.array[cut])
        stored[p.name] = np.asarray(entries)
    return Sample(graph, stored, dense_tensor(graph, stored))


def dense_tensor(graph: tn.Graph, stored: dict[str, np.ndarray]) -> np.ndarray:
    """The dense tensor by the oracle, for all basis states of all inputs."""
    closed = tn.Network.from_graph(graph)
    features = [
        math.prod(graph.shape_of(graph.open_legs(port.legs))) for port in closed.freeze().inputs
    ]
    columns: list[np.ndarray] = []
    for index in np.ndindex(*features):
        inputs: list[np.ndarray] = []
        for port, place, count in zip(graph.inputs, index, features, strict=True):
            basis = np.zeros(count)
            basis[place] = 1
            shape = graph.shape_of(graph.open_legs(port.legs))
            if port.product:
                where = np.unravel_index(place, shape)
                basis = np.zeros((len(shape), shape[0]))
                basis[range(len(shape)), where] = 1
            inputs.append(basis[None] if port.batched else basis)
        y = oracle.evaluate(graph, inputs, stored)
        columns.append(y.reshape(-1))
    return np.stack(columns, -1).reshape(graph.out_features, *features)


def random_samples(count: int, seed: int, *, is_complex: bool = False) -> list[Sample]:
    """A fixed series of networks with something to fit, in both styles of the builder."""
    found: list[Sample] = []
    seen: set[tn.Graph] = set()

    def take(net: tn.Network) -> None:
        graph = net.freeze()
        free = [p for p in graph.parameters if p.node.trainable]
        features = graph.out_features * math.prod(
            math.prod(graph.shape_of(graph.open_legs(port.legs))) for port in graph.inputs
        )
        repeats = any(len(set(port.legs)) < len(port.legs) for port in graph.inputs)
        if len(free) < 2 or features < 8 or features > 2000 or repeats or graph in seen:
            return
        sample = sample_of(graph, np.random.default_rng(len(found)), is_complex=is_complex)
        if np.linalg.norm(sample.dense) > 0:
            seen.add(graph)
            found.append(sample)

    rounds = 0
    while len(found) < count:
        # Hypothesis draws anew for each seed.
        for strategy in (named_networks(is_complex, BOUNDS), wire_networks(is_complex, BOUNDS)):
            series = fixed_series(seed + rounds, max(20, count), shrink=False)

            @series
            @given(net=strategy)
            def draw(net: tn.Network) -> None:
                take(net)

            draw()
        rounds += 1
    return found[:count]
