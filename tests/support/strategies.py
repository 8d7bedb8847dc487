"""Hypothesis strategies for random networks, made through the public builder.

They draw small choices only (legs, flags) and one integer that seeds the entries, so that a failing
case shrinks to few tensors with few legs. Nothing is filtered out: each draw is a valid network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import tnlayer as tn

Draw = st.DrawFn
MAX_SPACE = 20_000


@dataclass(frozen=True)
class Bounds:
    """How large a random network may be.

    Arguments:
        space: largest product of all leg sizes.
        tensors: largest number of tensors.
        inputs: largest number of input ports.
        legs: largest number of legs.
    """

    space: int = MAX_SPACE
    tensors: int = 6
    inputs: int = 3
    legs: int = 10


DEFAULT_BOUNDS = Bounds()
SMALL_BOUNDS = Bounds(space=150, tensors=4, inputs=2, legs=6)


@dataclass(frozen=True)
class Case:
    """A network and all that one test of it needs.

    Arguments:
        net: the builder.
        lead: leading dimensions of batched inputs.
        layouts: how each input lies in memory, by its position: a name in LAYOUTS.
        frozen: seed of the subset of inputs and parameters that take no gradient; 0 is the empty
            subset.
        seed: seed of all entries.
    """

    net: tn.Network
    lead: tuple[int, ...]
    layouts: tuple[str, ...]
    frozen: int
    seed: int

    def __repr__(self) -> str:
        """Enough to build the network again."""
        rest = f"lead={self.lead}, layouts={self.layouts}, frozen={self.frozen}, seed={self.seed}"
        return f"Case({rest}, graph={self.net.freeze()!r})"


LAYOUTS = ("contiguous", "strided", "transposed", "expanded", "offset")
LEADS = ((), (1,), (2,), (17,), (0,), (3, 2), (2, 1, 2), (0, 3))


def fixed_series(
    first_seed: int, count: int, shrink: bool = True
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorator of a hypothesis test: that many examples, the same in every run.

    Arguments:
        first_seed: tells series apart; the same test with two seeds sees other examples.
        count: number of examples.
        shrink: whether to look for a small failing example.
    """

    def decorate(test: Callable[[], None]) -> Callable[[], None]:
        options = settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        )
        return seed(first_seed)(options(test))

    return decorate


def random_array(
    random: np.random.Generator, shape: tuple[int, ...], is_complex: bool
) -> np.ndarray:
    """Standard normal entries; never a scalar of numpy's own."""
    real = random.standard_normal(shape)
    return np.asarray(real + 1j * random.standard_normal(shape) if is_complex else real)


# -- parts -------------------------------------------------------------------------------------


def leg_sizes(bounds: Bounds) -> st.SearchStrategy[list[int]]:
    """Sizes from 1 to 4 whose product stays within the bound."""

    def keep_within(sizes: list[int]) -> list[int]:
        space, kept = 1, list[int]()
        for size in sizes:
            fitting = size if space * size <= bounds.space else 1
            space *= fitting
            kept.append(fitting)
        return kept

    counts = st.sampled_from([n for n in range(1, bounds.legs + 1) for _ in range(n)])
    size = st.sampled_from([2, 2, 3, 3, 1, 4])
    return counts.flatmap(lambda n: st.lists(size, min_size=n, max_size=n)).map(keep_within)


def some(draw: Draw, items: Sequence[str], counts: Sequence[int], unique: bool) -> list[str]:
    """A few of the items. Their number is drawn apart, for a drawn list alone is mostly short."""
    count = draw(st.sampled_from(counts)) if items else 0
    count = min(count, len(items)) if unique else count
    item = st.sampled_from(items or [""])
    return draw(st.lists(item, min_size=count, max_size=count, unique=unique))


def tensor_counts(bounds: Bounds, least: int = 0) -> st.SearchStrategy[int]:
    """Up to the bound, more often many than few."""
    counts = [n for n in range(1, bounds.tensors + 1) for _ in range(n)]
    return st.sampled_from(counts if least else [*counts, 0, 0])


def rarely(draw: Draw, one_in: int) -> bool:
    """True about once in that many draws; shrinks to False."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


def draw_options(draw: Draw, shape: tuple[int, ...], is_complex: bool) -> dict[str, Any]:
    """Options of a tensor: mostly none; else conjugate, frozen, constant or with a first value."""
    options: dict[str, Any] = {"conj": rarely(draw, 4), "trainable": not rarely(draw, 5)}
    if rarely(draw, 5):
        # An odd seed gives real values in a complex network as well.
        value_seed = draw(st.integers(0, 99))
        random = np.random.default_rng(value_seed)
        options["value"] = random_array(random, shape, is_complex and value_seed % 2 == 0)
    return options


def close_legs(draw: Draw, net: tn.Network, ends: Counter[str], open_legs: dict[str, int]) -> None:
    """Sum each leg with one end, and now and then fix a leg of a port, given by its size."""
    for leg, count in ends.items():
        if count == 1:
            net.sum(leg)
        elif leg in open_legs and rarely(draw, 6):
            net.fix({leg: draw(st.integers(0, open_legs[leg] - 1))})


# -- named legs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """A tensor before it is declared."""

    legs: list[str]
    options: dict[str, Any]


@st.composite
def named_networks(
    draw: Draw, is_complex: bool = False, bounds: Bounds = DEFAULT_BOUNDS
) -> tn.Network:
    """Networks in the style of named legs: a tensor takes any legs, one of them maybe twice."""
    sizes = {f"e{n}": size for n, size in enumerate(draw(leg_sizes(bounds)))}
    net = tn.Network("random")
    ends: Counter[str] = Counter()
    ports: set[str] = set()
    kept: set[str] = set()
    input_count = min(draw(st.sampled_from([1, 1, 1, 2, 0, 3])), bounds.inputs)
    for number in range(input_count):
        legs, product = _draw_input(draw, net, f"x{number}", sizes, is_complex)
        ends.update(legs)
        ports.update(legs)
        # A product input needs a leg that is not fixed.
        kept.update(legs[:1] if product else [])
    drafts: dict[str, _Draft] = {}
    # A network needs a factor: an input or a tensor.
    for number in range(draw(tensor_counts(bounds, least=0 if input_count else 1))):
        drafts[f"t{number}"] = _draw_tensor(draw, sizes, drafts, is_complex)
        ends.update(drafts[f"t{number}"].legs)
    known = [leg for leg in sizes if ends[leg]]
    output = some(draw, known, [1, 1, 2, 2, 2, 3, 3, 4, 0], unique=True)
    ends.update(output)
    ports.update(output)
    net.output(**{leg: sizes[leg] for leg in output})
    net.bond(**{leg: sizes[leg] for leg in known if leg not in ports})
    for name, draft in drafts.items():
        net.tensor(name, draft.legs, **draft.options)
    close_legs(draw, net, ends, {leg: sizes[leg] for leg in ports - kept})
    return _repeat_input_leg(draw, net) if rarely(draw, 8) else net


def _repeat_input_leg(draw: Draw, net: tn.Network) -> tn.Network:
    """Give an input one of its legs a second time, so that it enters by its diagonal."""
    graph = net.freeze()
    repeated = [
        replace(port, legs=(*port.legs, draw(st.sampled_from(port.legs))))
        if 0 < len(port.legs) < 4
        else port
        for port in graph.inputs
    ]
    return tn.Network.from_graph(replace(graph, inputs=tuple(repeated)))


def _draw_input(
    draw: Draw, net: tn.Network, name: str, sizes: dict[str, int], is_complex: bool
) -> tuple[list[str], bool]:
    """A dense input, or a product input over legs of one size; its legs and which it is."""
    legs, product = list(sizes), rarely(draw, 5)
    if product:
        size = draw(st.sampled_from(list(sizes.values())))
        legs = [leg for leg in legs if sizes[leg] == size]
    chosen = some(draw, legs, [1, 2, 2, 3, 3, 4] if product else [1, 2, 2, 3, 3, 4, 0], unique=True)
    net.input(name, {leg: sizes[leg] for leg in chosen})
    dtype = "complex128" if is_complex and rarely(draw, 4) else None
    net.port(name, batched=not rarely(draw, 5), product=product, dtype=dtype)
    return chosen, product


def _draw_tensor(
    draw: Draw, sizes: dict[str, int], drafts: dict[str, _Draft], is_complex: bool
) -> _Draft:
    """A tensor of its own, or one that shares an earlier one's parameter on legs of equal sizes."""
    owners = [name for name, draft in drafts.items() if "share" not in draft.options]
    if owners and rarely(draw, 4):
        owner = draw(st.sampled_from(owners))
        alike = [[e for e in sizes if sizes[e] == sizes[leg]] for leg in drafts[owner].legs]
        legs = [draw(st.sampled_from(choices)) for choices in alike]
        return _Draft(legs, {"share": owner, "conj": rarely(draw, 2)})
    legs = some(draw, list(sizes), [1, 2, 2, 2, 3, 3, 3, 4, 0], unique=False)
    return _Draft(legs, draw_options(draw, tuple(sizes[leg] for leg in legs), is_complex))


# -- wires -------------------------------------------------------------------------------------


@st.composite
def wire_networks(
    draw: Draw, is_complex: bool = False, bounds: Bounds = DEFAULT_BOUNDS
) -> tn.Network:
    """Networks in the style of wires: tensors take wires and make new ones, as in a circuit."""
    net = tn.Network("wires")
    dims = draw(leg_sizes(bounds))[:4]
    space = int(np.prod(dims))
    sizes = dict(zip(net.input(dims), dims, strict=True))
    ends = Counter(list(sizes))
    open_wires = list(sizes)
    out_sizes = st.lists(st.sampled_from([2, 3, 1, 4]), max_size=2)
    for number in range(draw(tensor_counts(bounds))):
        taken = some(draw, open_wires, [0, 1, 2, 2, 3], unique=True)
        for wire in taken:
            ends[wire] += 1
            if rarely(draw, 6):
                net.copy_leg(wire)
            else:
                open_wires.remove(wire)
        out_dims: list[int] = []
        for size in draw(out_sizes):
            out_dims.append(size if space * size <= bounds.space else 1)
            space *= out_dims[-1]
        made = _draw_gate(draw, net, f"g{number}", (taken, out_dims), sizes, is_complex)
        sizes.update(zip(made, out_dims, strict=True))
        ends.update(made)
        open_wires += made
    output = some(draw, open_wires, [1, 2, 2, 3, 4, 0], unique=True)
    net.output(output)
    ends.update(output)
    port_legs = [*list(sizes)[: len(dims)], *output]
    close_legs(draw, net, ends, {leg: sizes[leg] for leg in port_legs})
    return net


def _draw_gate(
    draw: Draw,
    net: tn.Network,
    name: str,
    wires: tuple[list[str], list[int]],
    sizes: dict[str, int],
    is_complex: bool,
) -> tuple[str, ...]:
    """One tensor that takes wires and makes wires."""
    taken, out_dims = wires
    shape = (*(sizes[wire] for wire in taken), *out_dims)
    return net.tensor(name, taken, out=out_dims, **draw_options(draw, shape, is_complex))


# -- equal subnetworks -------------------------------------------------------------------------


@st.composite
def repeated_networks(draw: Draw, is_complex: bool = False) -> tn.Network:
    """Chains and rings of equal blocks of two tensors, some blocks turned round or conjugated.

    The third leg of a block, if it has one, goes to the input, to the output, to the next block,
    or is summed.
    """
    net = tn.Network("repeated")
    third = draw(st.sampled_from([0, 2, 2]))
    count = draw(st.sampled_from([4, 3, 2, 4] if third else [4, 3, 5, 6, 4]))
    bond, inner = (draw(st.sampled_from([2, 3] if count < 4 else [2])) for _ in range(2))
    joints = [f"c{number}" for number in range(count + 1)]
    if draw(st.booleans()):
        joints[-1] = joints[0]
    sizes = dict.fromkeys(joints, bond) | {f"m{number}": inner for number in range(count)}
    ports = {"in": dict[str, int](), "out": dict[str, int]()}
    options, waiting = draw_options(draw, (bond, inner), is_complex), ""
    ends: Counter[str] = Counter(sizes.keys() - set(joints))  # inner legs have two ends
    ends.update(ends.keys())
    for number in range(count):
        sides = joints[number : number + 2]
        left, right = reversed(sides) if rarely(draw, 3) else sides
        last = [f"m{number}", right]
        if third:
            leg = waiting or f"p{number}"
            goes = "closed" if waiting else draw(st.sampled_from(["in", "out", "next", "sum"]))
            waiting = leg if goes == "next" else ""
            ports.get(goes, {}).update({leg: third})
            sizes[leg] = third
            last.append(leg)
        ends.update((left, *last[1:]))
        conj = number > 0 and rarely(draw, 3)
        first: dict[str, Any] = dict(options)
        other: dict[str, Any] = {"trainable": options["trainable"]}
        if number:
            first, other = {"share": "A0", "conj": conj ^ options["conj"]}, {"share": "B0"}
        net.tensor(f"A{number}", [left, f"m{number}"], **first)
        net.tensor(f"B{number}", last, **other, conj=conj)
    for leg in dict.fromkeys((joints[0], joints[-1])):
        ports["out"] |= {leg: bond} if rarely(draw, 2) else {}
    if ports["in"] or rarely(draw, 2):
        net.input("x", ports["in"])
    net.output(**ports["out"])
    closed = [leg for leg in sizes if leg not in ports["in"] and leg not in ports["out"]]
    net.bond(**{leg: sizes[leg] for leg in closed})
    for leg in closed:
        if ends[leg] == 1:
            net.sum(leg)
    return net


# -- cases -------------------------------------------------------------------------------------


def networks(
    is_complex: bool = False, bounds: Bounds = DEFAULT_BOUNDS
) -> st.SearchStrategy[tn.Network]:
    """Networks in either style, three of four with named legs."""
    named = named_networks(is_complex, bounds)
    wires = wire_networks(is_complex, bounds)
    return st.integers(0, 3).flatmap(lambda style: wires if style == 3 else named)


@st.composite
def cases(draw: Draw, is_complex: bool = False, bounds: Bounds = DEFAULT_BOUNDS) -> Case:
    """A network with batch, memory layout, frozen subset and seed."""
    net = draw(networks(is_complex, bounds))
    return Case(
        net,
        lead=draw(st.sampled_from(LEADS)),
        layouts=tuple(draw(st.sampled_from(LAYOUTS)) for _ in range(bounds.inputs)),
        frozen=draw(st.one_of(st.just(0), st.integers(0, 2**16))),
        seed=draw(st.integers(0, 2**16)),
    )


@st.composite
def repeated_cases(draw: Draw, is_complex: bool = False) -> Case:
    """A network of equal blocks with batch, memory layout, frozen subset and seed."""
    return Case(
        draw(repeated_networks(is_complex)),
        lead=draw(st.sampled_from(LEADS)),
        layouts=(draw(st.sampled_from(LAYOUTS)),),
        frozen=draw(st.one_of(st.just(0), st.integers(0, 2**16))),
        seed=draw(st.integers(0, 2**16)),
    )


def collect(is_complex: bool, seed: int, count: int) -> list[Case]:
    """A fixed series of random cases."""
    found: list[Case] = []

    @fixed_series(seed, count, shrink=False)
    @given(case=cases(is_complex))
    def take(case: Case) -> None:
        found.append(case)

    take()
    assert len(found) >= count
    return found


def run_examples(
    check: Callable[[Case], None], is_complex: bool, first_seed: int, count: int
) -> None:
    """Run a check on a fixed series of random cases, and make sure that none was left out."""
    seen = 0

    @fixed_series(first_seed, count)
    @given(case=cases(is_complex))
    def check_one(case: Case) -> None:
        nonlocal seen
        seen += 1
        check(case)

    check_one()
    assert seen >= count, f"only {seen} of {count} cases were tried"
