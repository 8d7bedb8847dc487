"""Bad input: one typed error that names nodes and legs, expected and got, and what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tnlayer as tn
from tests.support.work import work_of


def start(**legs: int) -> tn.Network:
    """A network with an input leg i=2, an output leg j=3 and some bonds."""
    net = tn.Network("bad")
    net.input(i=2)
    net.output(j=3)
    if legs:
        net.bond(**legs)
    return net


def unknown_leg() -> None:
    net = start(alpha=2)
    net.tensor("A", "i alfa")
    net.tensor("B", "alpha j")
    net.freeze()


def size_clash() -> None:
    net = start(a=2)
    net.input("z", a=5)


def dangling_leg() -> None:
    net = start(a=2)
    net.tensor("A", "i j a")
    net.freeze()


def unused_bond() -> None:
    net = start(a=2)
    net.tensor("A", "i j")
    net.freeze()


def duplicate_tensor() -> None:
    net = start()
    net.tensor("A", "i j")
    net.tensor("A", "i j")


def bond_twice() -> None:
    start(a=2).bond(a=2)


def output_twice() -> None:
    start().output(k=2)


def unlike_shapes() -> None:
    net = start(a=4)
    net.tensor("A", "i a")
    net.tensor("B", "a j", share="A")
    net.freeze()


def fix_out_of_range() -> None:
    net = start()
    net.tensor("A", "i j")
    net.fix(j=3)
    net.freeze()


def fix_a_bond() -> None:
    net = start(a=4)
    net.tensor("A", "i a")
    net.tensor("B", "a j")
    net.fix(a=0)
    net.freeze()


def wire_twice() -> None:
    net = tn.Network()
    (wire,) = net.input([2])
    net.tensor("A", (wire,), out=(2,))
    net.tensor("B", (wire,), out=(2,))


def no_output() -> None:
    net = tn.Network()
    net.input(i=2)
    net.tensor("A", "i")
    net.freeze()


def value_of_wrong_shape() -> None:
    net = start()
    net.tensor("A", "i j", value=np.zeros((3, 2)))
    net.freeze()


def reserved_name() -> None:
    start().tensor("bias", "i j")


def not_a_name() -> None:
    start().tensor("2 tensors; import os", "i j")


def unlike_product_legs() -> None:
    net = tn.Network()
    net.input("x", [2, 3])
    net.port("x", product=True)
    net.output(j=2)
    net.tensor("A", ("x.0", "x.1", "j"))
    net.freeze()


def sum_of_an_output() -> None:
    net = start()
    net.tensor("A", "i j")
    net.sum("j")
    net.freeze()


def unknown_init() -> None:
    net = start()
    net.tensor("A", "i j", init="magic")
    tn.Layer(net)


def unlike_networks() -> None:
    one, two = start(), tn.topologies.low_rank(2, 5, rank=1)
    one.tensor("A", "i j")
    tn.Layer([one, two])


def same_names() -> None:
    one, two = start(), start()
    one.tensor("A", "i j")
    two.tensor("A", "i j")
    tn.Layer([one, two])


BAD: dict[Callable[[], None], tuple[str, ...]] = {
    unknown_leg: ("'A'", "alfa", "alpha", "net.bond"),
    size_clash: ("'a'", "2", "5"),
    dangling_leg: ("'a'", "'A'", "net.sum('a')"),
    unused_bond: ("'a'", "no node"),
    duplicate_tensor: ("'A'",),
    bond_twice: ("'a'",),
    output_twice: ("output",),
    unlike_shapes: ("'B'", "'A'", "(2, 4)", "(4, 3)"),
    fix_out_of_range: ("'j'", "3", "0 to 2"),
    fix_a_bond: ("'a'", "summed"),
    wire_twice: ("'A'", "'B'", "copy_leg"),
    no_output: ("output",),
    value_of_wrong_shape: ("'A'", "(2, 3)", "(3, 2)"),
    reserved_name: ("bias",),
    not_a_name: ("import os",),
    unlike_product_legs: ("'x'", "2", "3"),
    sum_of_an_output: ("'j'", "output"),
    unknown_init: ("'A'", "magic", "normal"),
    unlike_networks: ("bad", "3", "5"),
    same_names: ("'A'", "own names"),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.__name__)
def test_bad_input_is_named(case: Callable[[], None]) -> None:
    """A SpecError whose message has the names and values that the user needs."""
    with pytest.raises(tn.SpecError) as error:
        case()
    for word in BAD[case]:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "2", None, 10**30])
def test_sizes_are_positive_ints(size: object) -> None:
    """Zero, negative, fractional, boolean, text and huge sizes are refused with the leg's name."""
    with pytest.raises(tn.SpecError, match="leg_a"):
        tn.Network().bond(leg_a=size)  # pyright: ignore[reportArgumentType]


def many_wires() -> None:
    tn.Network().input([2] * 10**6)


def many_nodes() -> None:
    net = tn.Network()
    (wire,) = net.input([2])
    for k in range(100_000):
        (wire,) = net.tensor(f"T{k}", (wire,), out=(2,))


def huge_tensor() -> None:
    net = tn.Network()
    net.input(i=10**6)
    net.output(j=10**6)
    net.tensor("A", "i j")
    net.freeze()


def huge_port() -> None:
    net = tn.Network()
    legs = net.input([2] * 60)
    for k, leg in enumerate(legs):
        net.tensor(f"A{k}", (leg,))
    net.output()
    net.freeze()


def huge_topology() -> None:
    tn.topologies.mera(10**9).freeze()


@pytest.mark.parametrize(
    "case",
    [many_wires, many_nodes, huge_tensor, huge_port, huge_topology],
    ids=lambda c: c.__name__,
)
def test_bombs_are_refused_early(case: Callable[[], None]) -> None:
    """More nodes or entries than the documented bounds: an error, before the work for them."""

    def refused() -> None:
        with pytest.raises(tn.SpecError, match=r"at most|expected|not allowed"):
            case()

    work = work_of(refused)
    assert work.calls < 10**6
    assert work.peak < 10**8
