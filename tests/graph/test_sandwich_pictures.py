"""Pictures of a state with its conjugate: which is below, what is between, and what overlaps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

import tnlayer as tn
from tnlayer.graph.drawing.labels import label_boxes, on_line, vertex_box
from tnlayer.graph.drawing.picture import Picture, Vertex
from tnlayer.graph.drawing.placement import place
from tnlayer.graph.drawing.sandwich import sandwich_of

T = tn.topologies
PAIR, SITE = np.eye(4), np.eye(2)


def to_state(net: tn.Network, *, inputs: bool = False) -> tn.Network:
    """A state out of a map: its outputs, or its inputs, are fixed."""
    graph = net.freeze()
    net.fix(dict.fromkeys(graph.inputs[0].legs if inputs else graph.output, 0))
    return net


def term(state: tn.Network, *sites: int, isometric: bool = False) -> tn.Graph:
    """One term of an energy; without sites the norm."""
    matrix = np.eye(2 ** len(sites)) if sites else 1.0
    return tn.energy(state, {sites: matrix}, isometric=isometric)[0]


def ring(size: int) -> tn.Network:
    """A periodic chain of tensors A0, A1, ..."""
    net = tn.Network("ring")
    net.output(**{f"j{k}": 2 for k in range(size)})
    net.bond(**{f"b{k}": 3 for k in range(size)})
    for k in range(size):
        net.tensor(f"A{k}", f"b{k} j{k} b{(k + 1) % size}")
    return net


def cp_state(sites: int) -> tn.Network:
    """Vectors that one hyperedge joins."""
    net = tn.Network("sum of products")
    net.output(**{f"j{k}": 2 for k in range(sites)})
    net.bond(r=3)
    for k in range(sites):
        net.tensor(f"v{k}", f"r j{k}")
    return net


def with_operators(size: int, layers: int) -> tn.Graph:
    """<psi|H...H|psi> of a chain, each H a matrix product operator, written by hand."""
    net = tn.Network("<psi|H|psi>")
    net.output()

    def bonds(name: str, k: int) -> list[str]:
        return [f"{name}{j}" for j in (k - 1, k) if 0 <= j < size - 1]

    for k in range(size):
        net.bond(**{f"s{level}_{k}": 2 for level in range(layers + 1)})
    for name in ("a", "c", *(f"w{level}_" for level in range(layers))):
        net.bond(**{f"{name}{k}": 3 for k in range(size - 1)})
    for k in range(size):
        net.tensor(f"A{k}", [*bonds("a", k), f"s0_{k}"])
    for level in range(layers):
        for k in range(size):
            legs = [*bonds(f"w{level}_", k), f"s{level}_{k}", f"s{level + 1}_{k}"]
            net.tensor(f"W{level}_{k}", legs, trainable=False)
    for k in range(size):
        legs = [*bonds("c", k), f"s{layers}_{k}"]
        net.tensor(f"B{k}", legs, share=f"A{k}", conj=True)
    return net.freeze()


def density_matrix() -> tn.Graph:
    """The second and third of four spins are open."""
    net = tn.Network("reduced density matrix")
    net.output(j1=2, j2=2, k1=2, k2=2)
    net.bond(j0=2, j3=2, **{f"{name}{k}": 3 for name in "ab" for k in range(3)})
    for k in range(4):
        net.tensor(f"A{k}", [*(f"a{j}" for j in (k - 1, k) if 0 <= j < 3), f"j{k}"])
    for k in range(4):
        site = f"j{k}" if k in (0, 3) else f"k{k}"
        legs = [*(f"b{j}" for j in (k - 1, k) if 0 <= j < 3), site]
        net.tensor(f"A{k}_conj", legs, share=f"A{k}", conj=True)
    return net.freeze()


SANDWICHES: dict[str, Callable[[], tn.Graph]] = {
    "chain": lambda: term(T.mps(6, 2, 4), 2, 3),
    "chain, norm": lambda: term(T.mps(6, 2, 4)),
    "chain, one site": lambda: term(T.mps(6, 2, 4), 1),
    "chain, two far sites": lambda: term(T.mps(6, 2, 4), 0, 2),
    "two sites": lambda: term(T.mps(2, 2, 4), 0, 1),
    "one site": lambda: term(T.mps(1, 2, 1), 0),
    "ring": lambda: term(ring(6), 2, 3),
    "grid": lambda: term(T.peps_state(3, 3, 2, 2), 4, 5),
    "tree": lambda: term(to_state(T.tree(8, 2, 2)), 1, 2),
    "MERA": lambda: term(to_state(T.mera(8, 2, 2)), 3, 4),
    "MERA, light cone": lambda: term(to_state(T.mera(8, 2, 2)), 3, 4, isometric=True),
    "MERA, all legs": lambda: term(T.mera(8, 2, 2), 3, 4),
    "MERA over a plane": lambda: term(to_state(T.mera_2d(4, 4, 2, 2)), 5, 6),
    "circuit": lambda: term(to_state(T.brickwall(6, 2, 3), inputs=True), 2, 3),
    "hyperedge": lambda: term(cp_state(4), 1, 2),
    "operator": lambda: with_operators(5, 1),
    "two operators": lambda: with_operators(4, 2),
    "density matrix": density_matrix,
}


def tensors_of(picture: Picture) -> dict[str, Vertex]:
    """The tensors of a picture by name."""
    return {v.text: v for v in picture.vertices.values() if v.kind == "tensor"}


@pytest.mark.parametrize("name", SANDWICHES)
def test_the_conjugate_is_the_mirror_image_above(name: str) -> None:
    """Each tensor and its conjugate stand one above the other, as far from the middle (in a plane
    that is seen from the side, as far from its level), operators between."""
    graph = SANDWICHES[name]()
    found = sandwich_of(graph)
    assert found is not None
    at = tensors_of(place(graph))
    below = [at[one] for one in found.pairs]
    above = [at[other] for other in found.pairs.values()]
    assert {graph.nodes[one].conj for one in found.pairs} == {False}
    assert {graph.nodes[other].conj for other in found.pairs.values()} == {True}
    assert all(a.x == pytest.approx(b.x) and a.y > b.y for a, b in zip(above, below, strict=True))
    assert all(a.flipped != b.flipped for a, b in zip(above, below, strict=True))
    if name not in ("grid", "MERA over a plane"):
        sums = [a.y + b.y for a, b in zip(above, below, strict=True)]
        assert sums == pytest.approx([sums[0]] * len(sums))
        assert max(b.y for b in below) < min(a.y for a in above)
        for other in found.between:
            assert max(b.y for b in below) < at[other].y < min(a.y for a in above)


@pytest.mark.parametrize("name", SANDWICHES)
def test_nothing_overlaps(name: str) -> None:
    """No label meets another or a mark, no mark another, and no leg runs through a mark."""
    picture = place(SANDWICHES[name]())
    marks = {key: vertex_box(vertex) for key, vertex in picture.vertices.items()}
    labels = {f"{picture.lines[k].label} ({k})": box for k, box in label_boxes(picture).items()}
    boxes = {**marks, **labels}
    assert [(a, b) for a, b in combinations(boxes, 2) if boxes[a].meets(boxes[b])] == []
    crossed = {
        (line.label, key)
        for line in picture.lines
        for part in range(1, 40)
        for key, box in marks.items()
        if key not in (line.first, line.second) and box.holds(*on_line(picture, line, part / 40))
    }
    assert crossed == set()


def test_a_chain_is_two_rows_with_the_operator_between() -> None:
    """The operator stands amid its sites, half way up."""
    at = tensors_of(place(SANDWICHES["chain"]()))
    assert len({at[f"site_{k}"].y for k in range(6)}) == 1
    assert [at[f"site_{k}"].x for k in range(6)] == sorted(at[f"site_{k}"].x for k in range(6))
    operator = at["operator_0"]
    assert operator.x == pytest.approx((at["site_2"].x + at["site_3"].x) / 2)
    assert operator.y == pytest.approx((at["site_0"].y + at["site_0_conj"].y) / 2)


def test_an_operator_is_no_tensor_that_a_leg_passes_behind() -> None:
    """One on two sites that are no neighbours stands beside the leg between them."""
    at = tensors_of(place(SANDWICHES["chain, two far sites"]()))
    assert at["site_0"].x < at["operator_0"].x < at["site_2"].x
    assert abs(at["operator_0"].x - at["site_1"].x) > 0.6


def test_operators_are_layers() -> None:
    """Those next to the state below those next to the conjugate, each at its site."""
    at = tensors_of(place(SANDWICHES["two operators"]()))
    for k in range(4):
        column = [at[name] for name in (f"A{k}", f"W0_{k}", f"W1_{k}", f"B{k}")]
        assert len({vertex.x for vertex in column}) == 1
        assert [vertex.y for vertex in column] == sorted(vertex.y for vertex in column)


def test_levels_of_a_tree_grow_away_from_the_operator() -> None:
    """The sites' tensors stand next to it, the top is the lowest mark but for what is fixed; what
    is fixed points away from the operator."""
    picture = place(SANDWICHES["tree"]())
    at = tensors_of(picture)
    assert at["top"].y == min(v.y for v in at.values())
    assert at["top_conj"].y == max(v.y for v in at.values())
    assert at["isometry_0_0"].y > at["isometry_1_0"].y > at["top"].y
    for line in picture.lines:
        mark = picture.vertices[line.second]
        if mark.kind == "fix":
            tensor = picture.vertices[line.first]
            assert (mark.y > tensor.y) == tensor.text.endswith("_conj")


def test_open_sites_point_to_the_middle() -> None:
    """Those of the state go up, those of the conjugate down."""
    picture = place(SANDWICHES["density matrix"]())
    for line in picture.lines:
        mark, tensor = picture.vertices[line.second], picture.vertices[line.first]
        if mark.kind == "output":
            assert (mark.y < tensor.y) == tensor.text.endswith("_conj")


def test_the_leg_that_closes_a_ring_goes_outside() -> None:
    """Below the state and above its conjugate."""
    picture = place(SANDWICHES["ring"]())
    ys = [vertex.y for vertex in picture.vertices.values()]
    bent = [line for line in picture.lines if line.bend]
    middles = sorted(on_line(picture, line, 0.5)[1] for line in bent)
    assert len(bent) == 2 and middles[0] < min(ys) and middles[1] > max(ys)


def test_isometries_are_turned_with_their_state() -> None:
    """The wide side of an isometry shows to the operators, in the state and in its conjugate."""
    net = T.tree(4, 2, 1)
    graph = term(to_state(net), 1, 2)
    at = tensors_of(place(graph))
    assert at["isometry_0_0"].flipped and not at["isometry_0_0_conj"].flipped


def test_hyperedges_are_mirrored() -> None:
    """Their dots stand outside of the rows, one below and one above."""
    picture = place(SANDWICHES["hyperedge"]())
    rows = [v.y for v in tensors_of(picture).values()]
    dots = sorted(v.y for v in picture.vertices.values() if v.kind == "copy")
    assert len(dots) == 2 and dots[0] < min(rows) and dots[1] > max(rows)


def gate_and_conjugate(*, share: bool = True, conj: bool = True) -> tn.Graph:
    """A closed network of A, B and what may be their conjugates."""
    net = tn.Network("four")
    net.output()
    net.bond(a=2, b=2, i=2, j=2)
    net.tensor("A", "a i")
    net.tensor("B", "a j")
    net.tensor("C", "b i", share="A" if share else None, conj=conj)
    net.tensor("D", "b j", share="B" if share else None, conj=conj)
    return net.freeze()


def test_what_is_no_sandwich() -> None:
    """Tensors that share nothing, or whose conjugates are joined otherwise; networks with inputs;
    a pair among many others."""
    assert sandwich_of(gate_and_conjugate()) is not None
    assert sandwich_of(gate_and_conjugate(share=False)) is None
    assert sandwich_of(gate_and_conjugate(conj=False)) is None
    crossed = tn.Network("crossed")
    crossed.output()
    crossed.bond(a=2, i=2, j=2, k=2)
    crossed.tensor("A", "a i")
    crossed.tensor("B", "i j k a")
    crossed.tensor("C", "j k", share="A", conj=True)
    assert sandwich_of(crossed.freeze()) is not None
    crossed.tensor("D", "l m")
    crossed.bond(l=2, m=2)
    crossed.tensor("E", "m n")
    crossed.bond(n=2)
    crossed.tensor("F", "n l")
    assert sandwich_of(crossed.freeze()) is None
    assert all(sandwich_of(net.freeze()) is None for net in (T.mera(6, 2, 2), T.mps(4, 2, 2)))
    entered = tn.Network("with an input")
    entered.input(i=2)
    entered.output()
    entered.bond(j=2)
    entered.tensor("A", "i j")
    entered.tensor("B", "i j", share="A", conj=True)
    assert sandwich_of(entered.freeze()) is None


def test_sharers_are_paired_by_their_order() -> None:
    """A tensor that stands at each site: the first with the first conjugate, or with the last
    where the conjugates were declared the other way round."""
    for order in ((0, 1, 2), (2, 1, 0)):
        net = tn.Network("uniform")
        net.output()
        net.bond(**{f"{n}{k}": 2 for n in "abs" for k in range(3)})
        for k in range(3):
            net.tensor(f"A{k}", f"a{k} s{k} a{(k + 1) % 3}", share="A0" if k else None)
        for k in order:
            net.tensor(f"B{k}", f"b{k} s{k} b{(k + 1) % 3}", share="A0", conj=True)
        found = sandwich_of(net.freeze())
        assert found is not None
        assert found.pairs == {f"A{k}": f"B{k}" for k in range(3)}
