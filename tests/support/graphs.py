"""Graphs written by hand, and one graph under other names."""

from __future__ import annotations

import random

import tnlayer as tn
from tnlayer.graph.graph import Graph, Port, TensorNode
from tnlayer.graph.validate import validate


def relabelled(graph: Graph, seed: int) -> Graph:
    """The same network under other names, declared in another order."""
    shuffle = random.Random(seed)

    def table(names: list[str], stem: str) -> dict[str, str]:
        numbers = shuffle.sample(range(len(names)), len(names))
        return {name: f"{stem}{number}" for name, number in zip(names, numbers, strict=True)}

    legs = table([leg for leg, _ in graph.leg_sizes], "leg")
    names = table([tensor.name for tensor in graph.tensors], "T")
    tensors = [
        TensorNode(
            names[t.name],
            tuple(legs[leg] for leg in t.legs),
            None if t.share is None else names[t.share],
            t.conj,
            t.trainable,
            t.value,
            t.init,
            t.isometry,
        )
        for t in graph.tensors
    ]
    sizes = [(legs[leg], size) for leg, size in graph.leg_sizes]
    shuffle.shuffle(tensors)
    shuffle.shuffle(sizes)
    other = Graph(
        label="relabelled",
        leg_sizes=tuple(sizes),
        inputs=tuple(
            Port(f"in{k}", tuple(legs[leg] for leg in p.legs), p.batched, p.product, p.dtype)
            for k, p in enumerate(graph.inputs)
        ),
        output=tuple(legs[leg] for leg in graph.output),
        tensors=tuple(tensors),
        summed=frozenset(legs[leg] for leg in graph.summed),
        fixed=tuple(sorted((legs[leg], index) for leg, index in graph.fixed)),
    )
    validate(other)
    return other


def mera_like(legs: int, bond: int) -> tn.Network:
    """Disentanglers and isometries on wires, built here by hand."""
    net = tn.Network("mera")
    sites = list(net.input([2] * legs))
    outputs: list[str] = []
    level = 0
    while len(sites) > 2:
        for k in range(1, len(sites) - 1, 2):
            sites[k : k + 2] = net.tensor(f"d{level}_{k}", sites[k : k + 2], out=(bond, bond))
        above: list[str] = []
        for k in range(0, len(sites) - 1, 2):
            out, up = net.tensor(f"i{level}_{k}", sites[k : k + 2], out=(2, bond))
            outputs.append(out)
            above.append(up)
        sites = above + sites[2 * len(above) :]
        level += 1
    net.output([*outputs, *net.tensor("top", sites, out=(2, 2))])
    return net


def ring(count: int, bond: int = 3) -> Graph:
    """A closed ring of equal matrices: all tensors look alike."""
    net = tn.Network("ring")
    net.bond(**{f"b{k}": bond for k in range(count)})
    for k in range(count):
        net.tensor(f"T{k}", [f"b{k}", f"b{(k + 1) % count}"])
    net.output()
    return net.freeze()


def scalars(count: int) -> Graph:
    """Tensors without legs: any permutation is a symmetry."""
    net = tn.Network()
    for k in range(count):
        net.tensor(f"T{k}", "")
    net.output()
    return net.freeze()


def three_cores() -> tn.Network:
    """The tensor train of the design page."""
    net = tn.Network("three cores")
    net.input(i1=16, i2=16, i3=16)
    net.output(j1=16, j2=16, j3=16)
    net.bond(a=8, b=8)
    net.tensor("A", "i1 j1 a")
    net.tensor("B", "a i2 j2 b")
    net.tensor("C", "b i3 j3")
    return net


def everything() -> tn.Network:
    """A network with one of each thing that the builder knows."""
    net = tn.Network("everything")
    net.input(i=2, k=3, p=4)
    net.input("z", [2, 2])
    net.port("z", batched=False, product=True, dtype="complex64")
    net.output(j=2, p=4)
    net.bond(a=2, t=3, b=2, c=2)
    net.tensor("A", "i t t a", init=0.5)
    net.tensor("B", "a j b", isometry="j a")
    net.tensor("B2", "b z.0 i", share="F", conj=True)
    net.tensor("F", ["c", "a", "b"], trainable=False)
    net.tensor("K", "z.1", value=[1.0, 2.0], trainable=False)
    net.sum("c", "k")
    net.fix(p=1)
    return net
