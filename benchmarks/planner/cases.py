"""The networks and batch sizes on which the planner is judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tnlayer import topologies as T
from tnlayer.graph.network import Network

BATCHES = (1, 16, 128, 1024, 4096)


@dataclass(frozen=True, slots=True)
class PlannerCase:
    """A network at a batch size.

    Arguments:
        name: what it is called in the tables.
        build: makes the network.
        batch: samples of a call.
    """

    name: str
    build: Callable[[], Network]
    batch: int


CUBE, BITS = (16,) * 3, (2,) * 12


def _named() -> dict[str, Callable[[], Network]]:
    """One network or more of every topology; ranks from 1 to 128."""
    return {
        "tensor_train 16^3 rank 1": lambda: T.tensor_train(CUBE, CUBE, 1),
        "tensor_train 16^3 rank 8": lambda: T.tensor_train(CUBE, CUBE, 8),
        "tensor_train 16^3 rank 64": lambda: T.tensor_train(CUBE, CUBE, 64),
        "tensor_train 2^12 rank 3": lambda: T.tensor_train(BITS, BITS, 3),
        "tensor_train 8^4 rank 16": lambda: T.tensor_train((8,) * 4, (8,) * 4, 16),
        "tensor_ring 8^4 rank 6": lambda: T.tensor_ring((8,) * 4, (8,) * 4, 6),
        "tree 2^12 bond 4": lambda: T.tree(12, 2, 4),
        "mera 2^12 bond 2": lambda: T.mera(12, 2, 2),
        "mera 2^12 bond 3": lambda: T.mera(12, 2, 3),
        "tucker 16^3 rank 8": lambda: T.tucker(CUBE, CUBE, 8),
        "cp 16^3 rank 128": lambda: T.cp(CUBE, CUBE, 128),
        "cp 8^4 rank 16": lambda: T.cp((8,) * 4, (8,) * 4, 16),
        "block_term 16^3, 4 terms of rank 4": lambda: T.block_term(CUBE, CUBE, terms=4, rank=4),
        "kronecker 16^3 rank 2": lambda: T.kronecker(CUBE, CUBE, 2),
        "low_rank 4096 rank 128": lambda: T.low_rank(4096, 4096, 128),
        "monarch 64x64": lambda: T.monarch((64, 64), (64, 64)),
        "btt 64x64 rank 4": lambda: T.btt((64, 64), (64, 64), 4),
        "btt 16^3 rank 4": lambda: T.btt(CUBE, CUBE, 4),
        "butterfly 4096": lambda: T.butterfly(4096),
        "peps 2x3 of 4, bond 4": lambda: T.peps(2, 3, 4, 4),
        "brickwall 12 of 2, depth 4": lambda: T.brickwall(12, 2, 4),
    }


def random_network(seed: int) -> Network:
    """A random connected network of 4 to 8 tensors between 3 to 5 input and output legs."""
    draw = random.Random(seed)
    count = draw.randint(4, 8)
    net = Network(f"random {seed}")
    legs: list[list[str]] = [[] for _ in range(count)]
    inputs = {f"i{k}": draw.choice((2, 4, 8)) for k in range(draw.randint(3, 5))}
    outputs = {f"j{k}": draw.choice((2, 4, 8)) for k in range(draw.randint(3, 5))}
    bonds: dict[str, int] = {}
    for leg in (*inputs, *outputs):
        legs[draw.randrange(count)].append(leg)
    for k in range(1, count):
        bonds[f"a{k}"] = draw.choice((2, 3, 4, 8))
        legs[k].append(f"a{k}")
        legs[draw.randrange(k)].append(f"a{k}")
    for k in range(draw.randint(0, count // 2)):
        first, second = draw.sample(range(count), 2)
        bonds[f"c{k}"] = draw.choice((2, 3))
        legs[first].append(f"c{k}")
        legs[second].append(f"c{k}")
    net.input(**inputs)
    net.output(**outputs)
    net.bond(**bonds)
    for k, own in enumerate(legs):
        net.tensor(f"T{k}", own)
    return net


def planner_cases() -> Iterator[PlannerCase]:
    """All cases: every named network at four batch sizes, sixteen random ones at two."""
    for number, (name, build) in enumerate(_named().items()):
        # Four of the five sizes, another one left out each time.
        for place, batch in enumerate(BATCHES):
            if place != number % len(BATCHES):
                yield PlannerCase(name, build, batch)
    for seed in range(16):
        batches = (BATCHES[seed % 5], BATCHES[(seed + 2) % 5])
        for batch in batches:
            yield PlannerCase(f"random {seed}", lambda s=seed: random_network(s), batch)
